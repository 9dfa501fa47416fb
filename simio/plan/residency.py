"""Who is in RAM: everything, the pages of a mapped file, or the pinned and cached part of a streamed model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

from simio.cache.base import CachePolicy
from simio.plan.layout import ALIGN_BYTES, Chunk, ExpertLayer, Layout, Slab
from simio.plan.shares import pin
from simio.records.plan import Fetch

#: What each chosen expert needs.
ExpertFetches = tuple[tuple[Fetch, ...], ...]


class InRam:
    """Everything is in RAM, as it will be multiplied."""

    settles: ClassVar[bool] = True

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """Nothing to fetch."""
        return ()

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> ExpertFetches:
        """Nothing to fetch."""
        return _NOTHING.setdefault(len(chosen), ((),) * len(chosen))

    def rows(self, n: int) -> tuple[Fetch, ...]:
        """Nothing to fetch."""
        return ()


_NOTHING: dict[int, ExpertFetches] = {}


@dataclass(slots=True)
class MappedFile:
    """A memory-mapped file: what the page cache lost is faulted in, a read-ahead window at a time."""

    settles: ClassVar[bool] = True
    layout: Layout
    page_cache: CachePolicy
    read_ahead_bytes: int
    all_fits: bool
    _made: dict[object, tuple[Fetch, ...]] = field(default_factory=dict)
    _experts: dict[object, ExpertFetches] = field(default_factory=dict)

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """The whole slab is faulted in, or none of it."""
        hit = self.page_cache.access(index, slab.raw_bytes)
        return () if hit else self._faults((slab.raw_bytes,))

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> ExpertFetches:
        """Each missing expert is faulted in, matrix by matrix."""
        hits = tuple(self.page_cache.access((index, expert), layer.raw_bytes) for expert in chosen)
        key = (layer.chunks, hits)
        if key not in self._experts:
            faults = tuple(f for c in layer.chunks for f in self._scattered(c.raw_bytes))
            self._experts[key] = tuple(() if hit else faults for hit in hits)
        return self._experts[key]

    def rows(self, n: int) -> tuple[Fetch, ...]:
        """A fault for each row of the embedding table, unless the whole file is cached."""
        if self.all_fits or not self.layout.row.raw_bytes:
            return ()
        key = ("rows", n)
        if key not in self._made:
            window = min(self.read_ahead_bytes, ALIGN_BYTES)
            self._made[key] = (Fetch(n * window, n, 0, 0, 0, 0, sequential=False),)
        return self._made[key]

    def _faults(self, sizes: tuple[int, ...]) -> tuple[Fetch, ...]:
        if sizes not in self._made:
            self._made[sizes] = tuple(self._fault(n, sequential=True) for n in sizes)
        return self._made[sizes]

    def _scattered(self, n_bytes: int) -> list[Fetch]:
        """A matrix somewhere in the file: its first window is waited for, then the kernel reads ahead in order."""
        first = min(n_bytes, self.read_ahead_bytes)
        rest = n_bytes - first
        return [self._fault(first, sequential=False), *([self._fault(rest, sequential=True)] if rest else [])]

    def _fault(self, n_bytes: int, sequential: bool) -> Fetch:
        return Fetch(n_bytes, -(-n_bytes // self.read_ahead_bytes), n_bytes, 0, 0, 0, sequential)


@dataclass(slots=True)
class Streamed:
    """Explicit reads: part of every slab is pinned, the rest read each time; experts go through a cache policy.

    ``pinned_fraction`` of the dense bytes is pinned, never more than ``pin_limit_bytes`` of RAM, in whole read requests
    spread evenly over the slabs so that reading and computing can overlap everywhere. ``holds_compressed``: pinned and
    cached weights are kept as stored and decompressed at each use.
    """

    settles: ClassVar[bool] = True
    rows_from_ram: ClassVar[bool] = False  # rows of a pinned table are read all the same
    layout: Layout
    cache: CachePolicy
    caches_dense: bool
    pinned_fraction: float
    pin_limit_bytes: float
    holds_compressed: bool
    read_bytes: int
    pinned_ram_bytes: int = 0
    unpinned_bytes: int = 0  # dense weights left to storage, as the cache would hold them
    _slabs: dict[int, SplitSlab] = field(default_factory=dict)
    _made: dict[object, tuple[Fetch, ...]] = field(default_factory=dict)
    _experts: dict[object, ExpertFetches] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cuts = {
            index: tuple(request for run in block.runs() for request in requests(run, self.read_bytes))
            for index, block in enumerate(self.layout.blocks)
            if isinstance(block, Slab)
        }
        every = [request for cut in cuts.values() for request in cut]
        raw_bytes, held = [sum(c.raw_bytes for c in request) for request in every], list(map(self._held_bytes, every))
        pinned = [False] * len(every)
        self.pinned_ram_bytes = pin(raw_bytes, held, self.pinned_fraction, self.pin_limit_bytes, pinned)
        self.unpinned_bytes = sum(held) - self.pinned_ram_bytes
        marks = iter(pinned)
        self._slabs = {
            index: SplitSlab(cut, tuple(islice(marks, len(cut))), (self.form,) * len(cut))
            for index, cut in cuts.items()
        }

    def load(self) -> list[tuple[Fetch, ...]]:
        """What is read before the first token: the pinned part of every slab."""
        return [
            tuple(f for r in split.held() for f in reads(r, self.read_bytes, staged=False))
            for split in self._slabs.values()
        ]

    @property
    def form(self) -> str:
        """How weights are held in RAM: ``raw`` as they are multiplied, ``compressed`` as they are stored."""
        return "compressed" if self.holds_compressed else "raw"

    def split(self, index: int) -> SplitSlab:
        """The read requests of slab ``index``, pinned ones marked."""
        return self._slabs[index]

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """The unpinned requests that the cache does not hold."""
        split = self._slabs[index]
        hits = tuple(
            pinned or (self.caches_dense and self.cache.access((index, number), self._held_bytes(request)))
            for number, (request, pinned) in enumerate(zip(split.requests, split.pinned, strict=True))
        )
        key = (index, hits)
        if key not in self._made:
            uses = (self._use(request, hit) for request, hit in zip(split.requests, hits, strict=True))
            self._made[key] = tuple(fetch for use in uses for fetch in use)
        return self._made[key]

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> ExpertFetches:
        """What each chosen expert needs: nothing, a decompression or reads."""
        held = self._held_bytes(layer.chunks)
        hits = tuple(self.cache.access((index, expert), held) for expert in chosen)
        key = (layer.chunks, hits)
        if key not in self._experts:
            per_hit = {hit: tuple(self._use(layer.chunks, hit, sequential=False)) for hit in set(hits)}
            self._experts[key] = tuple(per_hit[hit] for hit in hits)
        return self._experts[key]

    def rows(self, n: int) -> tuple[Fetch, ...]:
        """What holds each embedding row is read for itself."""
        n_bytes = self.layout.row.stored_bytes + self.layout.tied_row_bytes
        key = ("rows", n)
        if key not in self._made:
            self._made[key] = row_fetches(n_bytes, n, self.read_bytes)
        return self._made[key]

    def _held_bytes(self, chunks: Iterable[Chunk]) -> int:
        return sum(c.stored_bytes if self.holds_compressed else c.raw_bytes for c in chunks)

    def _use(self, chunks: tuple[Chunk, ...], hit: bool, sequential: bool = True) -> list[Fetch]:
        if not hit:
            return list(reads(chunks, self.read_bytes, staged=True, sequential=sequential))
        return list(decompressions(chunks)) if self.holds_compressed else []


@dataclass(frozen=True, slots=True)
class SplitSlab:
    """A slab cut into read requests; ``pinned`` marks those that stay in RAM, ``forms`` says how they are held there.

    A form is ``raw`` or ``compressed``; of what is not pinned it is the cache's.
    """

    requests: tuple[tuple[Chunk, ...], ...]
    pinned: tuple[bool, ...]
    forms: tuple[str, ...]

    def held(self) -> list[tuple[Chunk, ...]]:
        """The pinned requests."""
        return [request for request, pinned in zip(self.requests, self.pinned, strict=True) if pinned]


def requests(chunks: Iterable[Chunk], read_bytes: int) -> list[tuple[Chunk, ...]]:
    """Group consecutive chunks into read requests of at most ``read_bytes`` (a larger chunk stays whole)."""
    cut: list[tuple[Chunk, ...]] = []
    open_: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if open_ and size + chunk.stored_bytes > read_bytes:
            cut.append(tuple(open_))
            open_, size = [], 0
        open_.append(chunk)
        size += chunk.stored_bytes
    if open_:
        cut.append(tuple(open_))
    return cut


def reads(chunks: Iterable[Chunk], read_bytes: int, staged: bool, sequential: bool = True) -> Iterable[Fetch]:
    """One fetch per request. Staging holds what was read and, where compressed, what it decompresses to."""
    for request in requests(chunks, read_bytes):
        packed = [c.raw_bytes for c in request if c.is_compressed]
        stored = sum(c.stored_bytes for c in request)
        yield Fetch(
            link_bytes=stored,
            n_reads=-(-stored // read_bytes),
            raw_bytes=sum(c.raw_bytes for c in request),
            decompress_bytes=sum(packed),
            n_chunks=len(packed),
            staging_bytes=stored + sum(packed) if staged else 0,
            sequential=sequential,
        )


def decompressions(chunks: Iterable[Chunk]) -> Iterable[Fetch]:
    """Compressed chunks already in RAM: no read, but a decompression into staging."""
    for chunk in chunks:
        if chunk.is_compressed:
            yield Fetch(0, 0, 0, chunk.raw_bytes, 1, chunk.raw_bytes, sequential=True)


def row_fetches(n_bytes: int, n: int, read_bytes: int) -> tuple[Fetch, ...]:
    """The reads of ``n`` embedding rows of ``n_bytes`` each, with their pages; nothing where rows are in RAM."""
    if not n_bytes:
        return ()
    return (Fetch(n * n_bytes, n * -(-n_bytes // read_bytes), 0, 0, 0, n_bytes, sequential=False),)


def load_experts(layer: ExpertLayer, read_bytes: int) -> tuple[Fetch, ...]:
    """All experts of a layer, read once into RAM, expert by expert."""
    return tuple(reads(layer.chunks, read_bytes, staged=False)) * layer.n_experts
