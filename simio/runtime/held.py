"""The weight cache with its bytes: the policy decides, as in a plan; this holds what it keeps."""

from __future__ import annotations

from collections.abc import Hashable
from concurrent.futures import Future

from simio.cache.base import CachePolicy
from simio.runtime.fetching import Fetched, Fetcher
from simio.runtime.schedule import Unit


class Held:
    """Units in RAM: pinned ones for good, others as long as ``policy`` keeps them.

    ``form``: ``raw`` holds weights, ``compressed`` what is stored, which is decompressed at every use.
    """

    def __init__(self, policy: CachePolicy, form: str, fetcher: Fetcher) -> None:
        self.form = form
        self._policy = policy
        self._fetcher = fetcher
        self._pinned: dict[Hashable, list[Future[Fetched]]] = {}
        self._cached: dict[Hashable, list[Future[Fetched]]] = {}

    def pin(self, unit: Unit, reads: list[Future[Fetched]]) -> None:
        """Hold ``unit`` for the whole run, once it has been read."""
        for read in reads:
            fetched = read.result()
            fetched.wait()
            self._fetcher.give_back(fetched)
        self._pinned[unit.key] = reads

    def access(self, unit: Unit) -> tuple[bool, bool]:
        """Touch ``unit``: whether it is here, and whether it is to be kept when it has been read."""
        if unit.key in self._pinned:
            return True, True
        if not unit.is_cached:
            return False, False
        hit = self._policy.access(unit.key, unit.n_bytes if self.form == "compressed" else unit.raw_bytes)
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
        if self.form == "raw":
            return found
        return [self._fetcher.decompress(read.result().stored, pass_number) for read in found]
