"""What a run did and when: spans of reading, decompression, computing and waiting, added up token by token."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple


class Entry(NamedTuple):
    """One span of work for a pass through the model. ``what``: read, decompress, compute, stall or hit."""

    what: str
    pass_number: int
    start_s: float
    end_s: float
    n_bytes: int


@dataclass(frozen=True, slots=True)
class PassTotals:
    """One pass added up. Seconds are sums over threads; ``n_hits`` counts requests found in the weight cache."""

    wall_s: float
    read_s: float
    decompress_s: float
    compute_s: float
    stall_s: float
    read_bytes: int
    n_reads: int
    n_hits: int


class Ledger:
    """Entries from any thread; a list's ``append`` is atomic."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._ends: list[float] = []

    def note(self, what: str, pass_number: int, start_s: float, n_bytes: int = 0, end_s: float | None = None) -> None:
        """Add a span that began at ``start_s`` and ends now (or at ``end_s``), clock ``time.perf_counter``."""
        self.entries.append(Entry(what, pass_number, start_s, end_s or time.perf_counter(), n_bytes))

    def end_pass(self) -> None:
        """A pass is over: its token is known."""
        self._ends.append(time.perf_counter())

    def totals(self, start_s: float) -> list[PassTotals]:
        """Every pass, the first of which began at ``start_s``."""
        begins = [start_s, *self._ends]
        return [self._total(n, end - begins[n]) for n, end in enumerate(self._ends)]

    def _total(self, number: int, wall_s: float) -> PassTotals:
        mine = [entry for entry in self.entries if entry.pass_number == number]
        seconds = {what: sum(e.end_s - e.start_s for e in mine if e.what == what) for what in _SPANS}
        reads = [entry for entry in mine if entry.what == "read"]
        return PassTotals(
            wall_s=wall_s,
            read_s=seconds["read"],
            decompress_s=seconds["decompress"],
            compute_s=seconds["compute"],
            stall_s=seconds["stall"],
            read_bytes=sum(entry.n_bytes for entry in reads),
            n_reads=len(reads),
            n_hits=sum(entry.what == "hit" for entry in mine),
        )


_SPANS = ("read", "decompress", "compute", "stall")
