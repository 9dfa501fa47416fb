"""What a run did and when: spans of reading, decompression, computing and waiting, added up token by token."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass


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
    """Takes spans of work from any thread; keeps a few sums a pass, however long the run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._ends: list[float] = []

    def note(
        self, what: str, pass_number: int, start_s: float, n_bytes: int = 0, end_s: float | None = None, n: int = 1
    ) -> None:
        """Add a span that began at ``start_s`` and ends now (or at ``end_s``), clock ``time.perf_counter``.

        ``what``: read, decompress, compute, stall or hit; ``n`` of them.
        """
        seconds = (end_s or time.perf_counter()) - start_s
        with self._lock:
            sums = self._sums[pass_number]
            sums[f"{what}_s"] += seconds
            sums[f"{what}_bytes"] += n_bytes
            sums[f"{what}_n"] += n

    def end_pass(self) -> None:
        """A pass is over: its token is known."""
        self._ends.append(time.perf_counter())

    def read_bytes(self, pass_number: int) -> int:
        """Bytes read for a pass."""
        return int(self._sums[pass_number]["read_bytes"])

    def totals(self, start_s: float) -> list[PassTotals]:
        """Every pass, the first of which began at ``start_s``."""
        begins = [start_s, *self._ends]
        return [self._total(n, end - begins[n]) for n, end in enumerate(self._ends)]

    def _total(self, number: int, wall_s: float) -> PassTotals:
        sums = self._sums[number]
        return PassTotals(
            wall_s=wall_s,
            read_s=sums["read_s"],
            decompress_s=sums["decompress_s"],
            compute_s=sums["compute_s"],
            stall_s=sums["stall_s"],
            read_bytes=int(sums["read_bytes"]),
            n_reads=int(sums["read_n"]),
            n_hits=int(sums["hit_n"]),
        )
