"""What each token of a dense model reads through a mapping: the page cache replayed, scan after scan.

Such a cache is bistable: a few megabytes more or less, or another moment to begin, make a run settle in another state.
How much of a memory limit is left for the weights is not known that well, so several cases are replayed, and a plan
takes one of them by rank, or their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import ClassVar

from simio.cache.mapped_pages import Kernel, MappedPages
from simio.cache.two_list import TwoList
from simio.plan.layout import ExpertLayer, Layout, Slab
from simio.plan.residency import ExpertFetches
from simio.records.plan import Fetch

#: Memory that a limit also pays for, beside KV cache and activations: vocabulary, heap, page tables and buffers.
#: Limit − page cache − KV cache is 10.4 to 12.8 MB in 40 runs of llama.cpp (traces/host-llamacpp).
PROCESS_BYTES = 11_500_000
#: Code and other files' pages in the page cache: 12.4 MB in six of those runs without a limit, 21.6 to 22.2 in four.
#: Where the file of weights would fit without them they stay, or go in part; where it would not, they are pushed out,
#: up to what is in use. One case each.
OTHERS_LEFT_ALONE = (
    0, 4_000_000, 8_000_000, 12_000_000, 12_400_000, 12_800_000, 21_600_000, 22_000_000, 22_400_000,
)  # fmt: skip
OTHERS_PUSHED_OUT = (0, 500_000, 900_000, 1_300_000, 1_900_000, 2_700_000, 4_500_000, 9_500_000, 20_500_000)
#: A process in a small box is small: it never counts for more than this share of its limit.
PROCESS_SHARE = 0.2
#: When a cgroup's statistics are first flushed, as a share of their period: another phase in each case, evenly spread
#: (golden ratio), because nothing ties the start of a run to the kernel's timer.
PHASE_STEP = 0.6180339887498949

#: Scans replayed before the last ones are repeated, and how many of them.
N_SCANS, N_REPEATED = 14, 6
#: Units of the replay: this fine against the read-ahead window and the file, and no finer than a fault maps at once
#: (64 KiB, mm/memory.c, fault_around_bytes). Halving them changes bytes per token by 1 to 4 %.
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
        return sum(n for scan in self.scans[1:] for n, _ in scan) / (len(self.scans) - 1)


def replays(layout: Layout, capacity_bytes: int, limit_bytes: int, kernel: Kernel) -> list[Replay]:
    """A case for each amount of other files' pages, from fewest to most bytes per token."""
    sizes = tuple(block.raw_bytes for block in layout.blocks)
    file_bytes = layout.looked_up_bytes + sum(sizes)
    found = []
    others = OTHERS_LEFT_ALONE if capacity_bytes - PROCESS_BYTES > file_bytes else OTHERS_PUSHED_OUT
    for number, other_bytes in enumerate(others, start=1):
        cached = capacity_bytes - min(PROCESS_BYTES + other_bytes, round(PROCESS_SHARE * limit_bytes))
        phase = number * PHASE_STEP % 1
        if cached > file_bytes + kernel.window_bytes:  # everything fits: all cases are one
            cached, phase = file_bytes + kernel.window_bytes, 0.0
        found.append(_replay(sizes, layout.looked_up_bytes, layout.row.raw_bytes, cached, kernel, phase))
    return sorted(found, key=lambda replay: replay.settled_bytes)


def chosen(cases: list[Replay], rank: float | None) -> Replay:
    """The case of ``rank``, 0 to 1; without one, the mean of all cases."""
    if rank is not None:
        return cases[min(len(cases) - 1, int(rank * len(cases)))]
    scans = zip(*(case.scans for case in cases), strict=True)
    return Replay(_mean(case.load_bytes for case in cases), tuple(_mean_scan(scan) for scan in scans))


def _mean_scan(scans: tuple[tuple[Traffic, ...], ...]) -> tuple[Traffic, ...]:
    """The mean of one scan over the cases, block by block."""
    return tuple(
        (_mean(read for read, _ in of_block), _mean(missed for _, missed in of_block))
        for of_block in zip(*scans, strict=True)
    )


def _mean(values: Iterable[int]) -> int:
    return round(fmean(values))


@lru_cache(maxsize=256)
def _replay(
    sizes: tuple[int, ...], looked_up: int, row: int, capacity_bytes: int, kernel: Kernel, phase: float
) -> Replay:
    file_bytes = looked_up + sum(sizes)
    finest = max(FAULT_AROUND_BYTES, file_bytes // UNITS_PER_FILE)
    unit = max(finest, kernel.window_bytes // UNITS_PER_WINDOW)
    flush_every = kernel.flush_bytes / unit
    pages = TwoList(max(1, capacity_bytes // unit), unit, flush_every, phase * flush_every)
    file = MappedPages(-(-file_bytes // unit), pages, kernel)
    file.populate()
    load_bytes = file.n_read * unit
    spans = []
    first = looked_up
    for size in sizes:
        spans.append(range(first // unit, max(first // unit + 1, (first + size) // unit)))
        first += size
    scans: list[tuple[Traffic, ...]] = []
    for token in range(N_SCANS):
        rows = [token * 37 % max(1, looked_up // unit)] if row else []
        scans.append(tuple(_traffic(file, units, unit) for units in (rows, *spans)))
    return Replay(load_bytes, tuple(scans))


def _traffic(file: MappedPages, units: Sequence[int], unit_bytes: int) -> Traffic:
    read, missed = file.n_read, file.n_missed
    for unit in units:
        file.touch(unit)
    return (file.n_read - read) * unit_bytes, (file.n_missed - missed) * unit_bytes


@dataclass(slots=True)
class ReplayedFile:
    """A residency that plays back what the page cache did."""

    settles: ClassVar[bool] = False
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
        return scans[N_SCANS - N_REPEATED + (self._scan - N_SCANS) % N_REPEATED]

    def _fetch(self, traffic: Traffic, most: int) -> tuple[Fetch, ...]:
        key = (traffic, most)
        if key not in self._made:
            read, missed = traffic
            n_reads = -(-read // self.read_bytes)
            fetch = Fetch(read, n_reads, min(missed, most), 0, 0, 0, sequential=True)
            self._made[key] = (fetch,) if read or missed else ()
        return self._made[key]
