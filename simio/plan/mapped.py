"""What each token of a dense model reads through a mapping: the page cache replayed, scan after scan.

Such a cache is bistable: a few megabytes more or less make a run settle in another state. How much of a memory limit is
left for the weights is not known that well, so several cases are replayed and a plan takes one of them by rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

from simio.cache.mapped_pages import Kernel, MappedPages
from simio.cache.two_list import TwoList
from simio.plan.layout import ExpertLayer, Layout, Slab
from simio.plan.residency import ExpertFetches
from simio.records.plan import Fetch

#: Memory of a llama.cpp process beside KV cache and activations that its limit also pays for: vocabulary, page tables,
#: code and other files' pages. With limit minus page cache at 31 to 33 MB and a 21 MB KV cache, 19 to 20 MB and a 6 MB
#: KV cache, it is 11 to 14 MB; without a limit the cache held 12 to 22 MB that was not the model (host-llamacpp runs).
PROCESS_BYTES = (
    13_000_000,
    15_000_000,
    17_000_000,
    19_000_000,
    21_000_000,
    23_500_000,
    26_000_000,
    29_000_000,
    33_000_000,
)
#: When the statistics are first flushed, as a share of their period: each case another phase, evenly spread (golden
#: ratio), because nothing ties a run's start to the kernel's timer.
PHASE_STEP = 0.6180339887498949
#: A process in a small box is small: it never counts for more than this share of its limit.
PROCESS_SHARE = 0.2

#: Scans replayed before the last ones are repeated, and how many of them.
N_SCANS, N_REPEATED = 14, 6
#: Units of the replay: this fine against the read-ahead window and the file, and no finer than a fault maps at once
#: (64 KiB, mm/memory.c fault_around_bytes). Halving them changes bytes per token by 1 to 4 %.
UNITS_PER_WINDOW, UNITS_PER_FILE, FAULT_AROUND_BYTES = 64, 4096, 65536

#: Bytes read, and bytes of weights not in RAM when they were needed.
Traffic = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Replay:
    """What loading read, and scan by scan the traffic of the embedding row and of every block."""

    load_bytes: int
    scans: tuple[tuple[Traffic, ...], ...]

    @property
    def settled_bytes(self) -> float:
        """Mean bytes read per scan, without the first one, which warms up."""
        later = self.scans[1:] or self.scans
        return sum(n for scan in later for n, _ in scan) / len(later)


def replays(layout: Layout, capacity_bytes: int, limit_bytes: int, kernel: Kernel) -> list[Replay]:
    """The cases of ``PROCESS_BYTES``, from fewest to most bytes per token."""
    sizes = tuple(block.raw_bytes for block in layout.blocks)
    most = round(PROCESS_SHARE * limit_bytes)
    found = [
        _replay(sizes, layout.looked_up_bytes, layout.row.raw_bytes, capacity_bytes - min(n, most), kernel, phase)
        for n, phase in zip(PROCESS_BYTES, (k * PHASE_STEP % 1 for k in count(1)), strict=False)
    ]
    return sorted(found, key=lambda replay: replay.settled_bytes)


@lru_cache(maxsize=256)
def _replay(
    sizes: tuple[int, ...], looked_up: int, row: int, capacity_bytes: int, kernel: Kernel, phase: float
) -> Replay:
    file_bytes = looked_up + sum(sizes)
    finest = max(FAULT_AROUND_BYTES, file_bytes // UNITS_PER_FILE)
    unit = max(finest, kernel.window_bytes // UNITS_PER_WINDOW)
    n_units = -(-file_bytes // unit)
    flush_every = kernel.flush_bytes / unit
    pages = TwoList(max(1, capacity_bytes // unit), unit, flush_every, phase * flush_every)
    file = MappedPages(n_units, pages, kernel)
    file.populate()
    first = looked_up
    spans = []
    for size in sizes:
        spans.append(range(first // unit, max(first // unit + 1, (first + size) // unit)))
        first += size
    load_bytes = file.n_read * unit
    scans = []
    for token in range(N_SCANS):
        rows = [token * 37 % max(1, looked_up // unit)] if row else []
        scans.append(tuple(_traffic(file, units, unit) for units in (rows, *spans)))
        if len(scans) > 1 and scans[-1] == scans[-2]:
            break
    return Replay(load_bytes, tuple(scans))


def _traffic(file: MappedPages, units: Sequence[int], unit_bytes: int) -> Traffic:
    read, missed = file.n_read, file.n_missed
    for unit in units:
        file.touch(unit)
    return (file.n_read - read) * unit_bytes, (file.n_missed - missed) * unit_bytes


@dataclass(slots=True)
class ReplayedFile:
    """A residency that plays back what the page cache did."""

    layout: Layout
    replay: Replay
    read_bytes: int
    _scan: int = -1
    _made: dict[tuple[Traffic, int], tuple[Fetch, ...]] = field(default_factory=dict)

    def load(self) -> list[tuple[Fetch, ...]]:
        """Everything that loading read, in one go."""
        return [self._fetch((self.replay.load_bytes, 0), 0)]

    def rows(self, n: int) -> tuple[Fetch, ...]:
        """Begins the next scan with a row of the embedding table (a batch reads about what one token does)."""
        self._scan += 1
        return self._fetch(self._current()[0], 0)

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """What was read while ``slab`` was used: for it, for later ones, or again."""
        return self._fetch(self._current()[index + 1], slab.raw_bytes)

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> ExpertFetches:
        """Raises ``TypeError``: replays cover dense models; experts are mapped by ``residency.MappedFile``."""
        raise TypeError(f"block {index} is a layer of experts, which a replay does not cover")

    def _current(self) -> tuple[Traffic, ...]:
        scans = self.replay.scans
        if self._scan < len(scans):
            return scans[self._scan]
        repeated = min(N_REPEATED, len(scans)) if len(scans) == N_SCANS else 1
        return scans[len(scans) - repeated + (self._scan - len(scans)) % repeated]

    def _fetch(self, traffic: Traffic, most: int) -> tuple[Fetch, ...]:
        key = (traffic, most)
        if key not in self._made:
            read, missed = traffic
            n_reads = -(-read // self.read_bytes)
            self._made[key] = (
                (Fetch(read, n_reads, min(missed, most), 0, 0, 0, sequential=True),) if read or missed else ()
            )
        return self._made[key]
