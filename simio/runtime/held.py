"""What is in RAM, with its bytes: a plan says what is held for good, the cache's policy what else; this holds both."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import Future

from simio.codecs.base import Buffer
from simio.plan.placed import StreamResidency
from simio.runtime.fetching import Fetched, Fetcher
from simio.runtime.schedule import Unit


class Held:
    """Units in RAM, each in its form: pinned ones for good, others as long as the cache of ``residency`` keeps them."""

    def __init__(self, residency: StreamResidency, fetcher: Fetcher) -> None:
        self._policy = residency.cache
        self._rows_from_ram = residency.rows_from_ram
        self._fetcher = fetcher
        self._pinned: dict[Hashable, list[Future[Fetched]]] = {}
        self._cached: dict[Hashable, list[Future[Fetched]]] = {}
        self._home: dict[int, Fetched] = {}  # of every pinned chunk, where rows are taken from RAM

    def pin(self, unit: Unit, reads: list[Future[Fetched]]) -> None:
        """Hold ``unit`` for the whole run, once it has been read."""
        for read in reads:
            fetched = read.result()
            fetched.wait()
            self._fetcher.give_back(fetched)
            if self._rows_from_ram:
                self._home |= dict.fromkeys(fetched.stored or fetched.weights, fetched)
        self._pinned[unit.key] = reads

    def access(self, unit: Unit) -> tuple[bool, bool]:
        """Touch ``unit``: whether it is here, and whether it is to be kept when it has been read."""
        if unit.key in self._pinned:
            return True, True
        if not unit.is_cached:
            return False, False
        hit = self._policy.access(unit.key, unit.n_bytes if unit.form == "compressed" else unit.raw_bytes)
        if not hit:
            for gone in [key for key in self._cached if key not in self._policy]:
                del self._cached[gone]
        return hit, unit.key in self._policy

    def keep(self, unit: Unit, reads: list[Future[Fetched]]) -> None:
        """Hold what is being read for as long as the policy keeps it."""
        self._cached[unit.key] = reads

    def use(self, unit: Unit, pass_number: int) -> list[Future[Fetched]]:
        """The weights of a hit, decompressed anew where they are held compressed."""
        found = self._pinned.get(unit.key) or self._cached[unit.key]
        if unit.form == "raw":
            return found
        return [self._fetcher.decompress(read.result().stored, pass_number) for read in found]

    def row_chunks(self, numbers: Sequence[int], pass_number: int) -> dict[int, Buffer] | None:
        """The weights of these chunks of a table, where its rows are taken from RAM; decompressed by this thread."""
        if not all(number in self._home for number in numbers):
            return None
        return {number: self._chunk(self._home[number], number, pass_number) for number in numbers}

    def _chunk(self, home: Fetched, number: int, pass_number: int) -> Buffer:
        if number in home.stored:
            return self._fetcher.unpack(number, home.stored[number], pass_number)
        return home.wait()[number]
