"""Which chunks of a container every step needs: the planner's slabs and experts, with the places of their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simio.container.reading import Container
from simio.errors import ContainerError
from simio.plan.layout import Chunk, ExpertLayer, Layout
from simio.plan.placed import StreamResidency
from simio.plan.residency import requests


@dataclass(frozen=True, slots=True)
class Request:
    """Consecutive ``chunks`` (numbers in the container), read at once: ``n_bytes`` from ``offset``.

    ``packed_bytes`` is what its compressed chunks decompress to.
    """

    chunks: tuple[int, ...]
    offset: int
    n_bytes: int
    raw_bytes: int
    packed_bytes: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What a weight cache keeps or drops together: a request of a slab, all the requests of an expert.

    ``is_cached``: the cache is asked for it. The cache of a mixture of experts is theirs alone. ``form``: where it is
    in RAM, it is held as weights (``raw``) or as stored and decompressed at every use (``compressed``).
    """

    requests: tuple[Request, ...]
    is_cached: bool
    form: str

    @property
    def key(self) -> int:
        """What a cache knows the unit by."""
        return self.requests[0].chunks[0]

    @property
    def n_bytes(self) -> int:
        """Stored bytes."""
        return sum(request.n_bytes for request in self.requests)

    @property
    def raw_bytes(self) -> int:
        """Decompressed bytes."""
        return sum(request.raw_bytes for request in self.requests)

    @property
    def packed_bytes(self) -> int:
        """What its compressed chunks decompress to."""
        return sum(request.packed_bytes for request in self.requests)


@dataclass(frozen=True, slots=True)
class SlabWork:
    """The units of a slab; ``pinned`` ones are read once and stay in RAM."""

    is_head: bool
    units: tuple[Unit, ...]
    pinned: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class ExpertWork:
    """The unit of every expert of a layer; ``per_step`` experts are computed in one step."""

    layer: int
    experts: tuple[Unit, ...]
    per_step: int


Work = SlabWork | ExpertWork


def schedule(container: Container, layout: Layout, residency: StreamResidency, read_bytes: int) -> tuple[Work, ...]:
    """The work of one token, block by block, as ``simio.plan`` arranged it."""
    numbers = {tensor.name: _chunks_of(container, tensor.name) for tensor in container.model.tensors}
    work: list[Work] = []
    for index, block in enumerate(layout.blocks):
        if isinstance(block, ExpertLayer):
            work.append(_experts(container, block, read_bytes, residency.form))
            continue
        own = iter(n for e in block.extents for n in numbers[e.tensor][e.first : e.first + e.n])
        split = residency.split(index)
        reads = (request_of(container, [next(own) for _ in chunks]) for chunks in split.requests)
        units = tuple(Unit((r,), residency.caches_dense, form) for r, form in zip(reads, split.forms, strict=True))
        pinned = tuple(unit for unit, is_pinned in zip(units, split.pinned, strict=True) if is_pinned)
        work.append(SlabWork(block.is_head, units, pinned))
    return tuple(work)


def request_of(container: Container, numbers: Sequence[int]) -> Request:
    """One read of ``numbers``; raises ``ContainerError`` unless they are neighbours."""
    if numbers[-1] - numbers[0] != len(numbers) - 1:
        raise ContainerError(f"{container.path}: its tensors do not lie in the order of use", "pack the model again")
    offset = container.stored_span(numbers[0])[0]
    last_offset, last_bytes = container.stored_span(numbers[-1])
    rows = container.index.table[list(numbers)]
    raw_bytes, packed_bytes = int(rows["raw_bytes"].sum()), int(rows["raw_bytes"][rows["codec"] > 0].sum())
    return Request(tuple(numbers), offset, last_offset + last_bytes - offset, raw_bytes, packed_bytes)


def _chunks_of(container: Container, tensor: str) -> list[int]:
    return [number for piece in container.pieces_of(tensor) for number in container.chunks_of(piece)]


def _experts(container: Container, layer: ExpertLayer, read_bytes: int, form: str) -> ExpertWork:
    places: list[list[int]] = [[] for _ in range(layer.n_experts)]
    for tensor in container.model.tensors:
        if tensor.role == "expert" and tensor.layer == layer.layer:
            for piece in container.pieces_of(tensor.name):
                places[piece.expert or 0] += container.chunks_of(piece)
    experts = tuple(Unit(tuple(_neighbours(container, sorted(numbers), read_bytes)), True, form) for numbers in places)
    return ExpertWork(layer.layer, experts, layer.per_step)


def _neighbours(container: Container, numbers: Sequence[int], read_bytes: int) -> Iterator[Request]:
    """Requests of at most ``read_bytes``, each of consecutive chunks."""
    run: list[int] = []
    for number in [*numbers, -1]:
        if run and number != run[-1] + 1:
            yield from _cut(container, run, read_bytes)
            run = []
        run.append(number)


def _cut(container: Container, run: Sequence[int], read_bytes: int) -> Iterator[Request]:
    own = iter(run)
    for chunks in requests([Chunk(0, container.stored_span(n)[1]) for n in run], read_bytes):
        yield request_of(container, [next(own) for _ in chunks])
