"""Cut a profiled model into slabs: runs of weights that are read, decompressed and multiplied together.

A dense layer becomes one slab, or several of at most ``SLAB_BYTES`` (a 400 MB output head would otherwise need 400 MB
of staging). The experts of a layer become an ``ExpertLayer``, whose experts are read one by one. Of an embedding table
one row is read per token, except where it serves as the output head too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, islice

from simio.formats.execution_order import execution_order, use_of
from simio.records.codec_profile import CodecProfile, TensorCompression
from simio.records.model import Model, Tensor
from simio.records.weight_types import weight_type

#: Most raw bytes consumed by one step. Own choice: small against a phone's RAM, large against one read.
SLAB_BYTES = 64 * 1024**2

#: Chunks start on this boundary, as O_DIRECT asks (open(2)).
ALIGN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit compressed, cached and read. ``stored_bytes`` is padded to the alignment where one is kept."""

    raw_bytes: int
    stored_bytes: int

    @property
    def is_compressed(self) -> bool:
        """Whether a decompressor must touch it."""
        return self.stored_bytes < self.raw_bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """``n`` chunks of a tensor from its ``first`` on; ``follows``: they lie directly behind those of the extent before.

    Containers keep tensors in the order of use, and so does this; but a table that is multiplied too lies in front.
    """

    tensor: str
    first: int
    n: int
    follows: bool


@dataclass(frozen=True, slots=True)
class Slab:
    """Dense weights of one step. ``extents`` says which chunks of which tensors ``chunks`` are, in order."""

    layer: int
    label: str
    chunks: tuple[Chunk, ...]
    extents: tuple[Extent, ...]
    weight_bytes: tuple[tuple[str, int], ...]  # kernel class, raw bytes
    weights: tuple[tuple[str, int], ...]  # kernel class, number of weights
    raw_bytes: int  # decompressed
    is_head: bool  # multiplied only where a next token is wanted

    def runs(self) -> list[list[Chunk]]:
        """The chunks again, apart where one does not lie behind the other: no read goes across."""
        runs: list[list[Chunk]] = []
        chunks = iter(self.chunks)
        for extent in self.extents:
            own = list(islice(chunks, extent.n))
            if extent.follows:
                runs[-1] += own
            else:
                runs.append(own)
        return runs


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """The routed experts of one layer, all of one size; ``chunks`` and ``weight_bytes`` are those of ONE expert.

    ``tensors`` are those that stack the experts, or the first expert's where each has its own.
    """

    layer: int
    n_experts: int
    tensors: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    weight_bytes: tuple[tuple[str, int], ...]
    weights: tuple[tuple[str, int], ...]
    raw_bytes: int  # of one expert, decompressed

    @property
    def per_step(self) -> int:
        """Experts computed in one step: at most a slab, at least one."""
        return max(1, SLAB_BYTES // max(1, self.raw_bytes))


@dataclass(frozen=True, slots=True)
class Layout:
    """A model in the order a token meets it. ``row``: what a token reads of the embedding tables looked up.

    ``tied_row_bytes`` are read for the row of a table that is multiplied too, when it is not mapped but streamed.
    """

    blocks: tuple[Slab | ExpertLayer, ...]
    row: Chunk
    tied_row_bytes: int
    looked_up_bytes: int  # loaded but not multiplied: tables of which one row is read, towers, buffers
    dense_bytes: int  # raw bytes that every token multiplies
    expert_bytes: int  # raw bytes of all routed experts
    residency: tuple[tuple[str, str], ...] = ()  # (tensor, where it lies), by a joint plan; empty: the planner decides
    tied_table: str | None = None  # the embedding table that is multiplied, too

    @property
    def n_experts(self) -> int:
        """Routed experts of a layer; 0 for a dense model."""
        return max((b.n_experts for b in self.blocks if isinstance(b, ExpertLayer)), default=0)

    def active_bytes(self, top_k: int) -> int:
        """The weights one token multiplies, decompressed."""
        return self.dense_bytes + top_k * sum(b.raw_bytes for b in self.blocks if isinstance(b, ExpertLayer))

    @property
    def raw_bytes(self) -> int:
        """All the weights, decompressed."""
        return self.dense_bytes + self.expert_bytes + self.looked_up_bytes


def lay_out(profile: CodecProfile) -> Layout:
    """Cut ``profile``'s model into the blocks a token walks through, in order."""
    model = profile.model
    compression = dict(zip((t.name for t in model.tensors), profile.tensors, strict=True))
    head = head_names(model)
    idle = idle_names(model)
    used = multiplied_names(model)
    looked_up = [t for t in model.tensors if t.role == "embedding" and t.name not in head]
    last = max((t.layer for t in model.tensors if t.layer is not None), default=-1) + 1
    dense: dict[int, list[Tensor]] = {}
    experts: dict[int, list[Tensor]] = {}
    in_order = [model.tensors[index] for index in execution_order(model)]
    place = {tensor.name: n for n, tensor in enumerate(in_order)}
    for tensor in in_order:
        if tensor.name not in used:
            continue
        layer = last if tensor.layer is None else tensor.layer
        (experts if tensor.role == "expert" else dense).setdefault(layer, []).append(tensor)
    chunk = _packed_chunk if profile.basis == "packed" else file_chunk
    blocks: list[Slab | ExpertLayer] = []
    for layer in sorted({*dense, *experts}):
        label = "head" if layer == last and last else f"layer {layer}"
        blocks += _slabs(layer, label, dense.get(layer, []), compression, chunk, place)
        if layer in experts:
            blocks.append(_expert_layer(layer, experts[layer], compression, profile))
    tied = [t for t in model.tensors if t.role == "embedding" and t.name in head]
    return Layout(
        blocks=tuple(blocks),
        row=Chunk(
            sum(_row_bytes(t) for t in looked_up), sum(_row_read(t, compression[t.name], profile) for t in looked_up)
        ),
        tied_row_bytes=sum(_row_read(t, compression[t.name], profile) for t in tied),
        looked_up_bytes=sum(t.n_bytes for t in looked_up) + sum(t.n_bytes for t in model.tensors if t.name in idle),
        dense_bytes=sum(b.raw_bytes for b in blocks if isinstance(b, Slab)),
        expert_bytes=sum(b.raw_bytes * b.n_experts for b in blocks if isinstance(b, ExpertLayer)),
        residency=tuple((one.tensor, one.residency) for one in profile.plan),
        tied_table=tied[0].name if tied else None,
    )


def _row_bytes(table: Tensor) -> int:
    return table.n_bytes // max(1, table.shape[0])


def _row_read(table: Tensor, packed: TensorCompression, profile: CodecProfile) -> int:
    """Bytes read for one row: whole pages of a file; of a container its chunks, the mean over all rows. [bytes]"""
    row_bytes = _row_bytes(table)
    if profile.basis != "packed" or not row_bytes:
        return _aligned(row_bytes)
    ends = list(accumulate(packed.raw_bytes))
    starts = [0, *ends[:-1]]
    rows_of = (-(-end // row_bytes) - start // row_bytes for start, end in zip(starts, ends, strict=True))
    read = sum(n * _aligned(stored) for n, stored in zip(rows_of, packed.stored_bytes, strict=True))
    return round(read / table.shape[0])


def head_names(model: Model) -> set[str]:
    """The tensors multiplied at the end: the output head or, where there is none, the largest embedding table."""
    heads = {t.name for t in model.tensors if t.role == "head" and len(t.shape) > 1}
    tables = [t for t in model.tensors if t.role == "embedding" and t.layer is None]
    if heads or not tables:
        return heads
    main = [t for t in tables if "per_layer" not in t.name and "position" not in t.name] or tables
    return {max(main, key=lambda t: t.n_bytes).name}


class _OpenSlab:
    """A slab being filled."""

    def __init__(self, place: dict[str, int]) -> None:
        self._place = place  # of every tensor in the order of use
        self.chunks: list[Chunk] = []
        self.extents: list[Extent] = []
        self.raw_bytes = 0
        self.bytes_by_class: dict[str, int] = {}
        self.weights_by_class: dict[str, int] = {}

    def add(self, tensor: Tensor, first: int, chunks: Sequence[Chunk], raw_bytes: int) -> None:
        """Append ``chunks`` of ``tensor``, from its ``first``, together ``raw_bytes``."""
        kernel = weight_type(tensor.dtype).gemv_class
        n_weights = tensor.n_weights * raw_bytes // max(1, tensor.n_bytes)
        self.chunks += chunks
        self._extend(tensor.name, first, len(chunks))
        self.raw_bytes += raw_bytes
        self.bytes_by_class[kernel] = self.bytes_by_class.get(kernel, 0) + raw_bytes
        self.weights_by_class[kernel] = self.weights_by_class.get(kernel, 0) + n_weights

    def _extend(self, tensor: str, first: int, n: int) -> None:
        last = self.extents[-1] if self.extents else None
        if last is not None and last.tensor == tensor:
            self.extents[-1] = replace(last, n=last.n + n)
        else:
            follows = last is not None and self._place[tensor] == self._place[last.tensor] + 1
            self.extents.append(Extent(tensor, first, n, follows))

    def close(self, layer: int, label: str) -> Slab:
        """The finished slab."""
        by_class = _items(self.bytes_by_class), _items(self.weights_by_class)
        chunks, extents = tuple(self.chunks), tuple(self.extents)
        return Slab(layer, label, chunks, extents, *by_class, self.raw_bytes, label.startswith("head"))


def idle_names(model: Model) -> set[str]:
    """What a text token does not touch: buffers, vision and audio towers, multi-token prediction.

    They have role ``other``; where nothing else is known, unknown tensors count as the model.
    """
    other = {t.name for t in model.tensors if t.role == "other"}
    return other if any(t.role in ("attention", "mlp", "expert") for t in model.tensors) else set()


def multiplied_names(model: Model) -> set[str]:
    """The tensors that tokens multiply: all but what is idle, and the tables of which rows are looked up."""
    head, idle = head_names(model), idle_names(model)
    return {t.name for t in model.tensors if t.name not in idle and (t.role != "embedding" or t.name in head)}


def _slabs(
    layer: int,
    label: str,
    tensors: list[Tensor],
    compression: dict[str, TensorCompression],
    chunk: Callable[[int, int], Chunk],
    place: dict[str, int],
) -> list[Slab]:
    """Group the chunks of ``tensors``, in order, into slabs of at most ``SLAB_BYTES``."""
    slabs: list[Slab] = []
    slab = _OpenSlab(place)
    for tensor in tensors:
        packed = compression[tensor.name]
        chunks = list(map(chunk, packed.raw_bytes, packed.stored_bytes))
        if slab.raw_bytes + tensor.n_bytes <= SLAB_BYTES:
            slab.add(tensor, 0, chunks, tensor.n_bytes)
            continue
        for number, one in enumerate(chunks):
            if slab.raw_bytes and slab.raw_bytes + one.raw_bytes > SLAB_BYTES:
                slabs.append(slab.close(layer, f"{label} part {len(slabs) + 1}"))
                slab = _OpenSlab(place)
            slab.add(tensor, number, (one,), one.raw_bytes)
    if slab.chunks:
        slabs.append(slab.close(layer, f"{label} part {len(slabs) + 1}" if slabs else label))
    return slabs


def _expert_layer(
    layer: int, tensors: list[Tensor], compression: dict[str, TensorCompression], profile: CodecProfile
) -> ExpertLayer:
    """One expert's share of each expert tensor: the mean over the experts."""
    n_experts = max(
        [profile.model.architecture.n_experts, *(t.n_stacked for t in tensors), *((t.expert or 0) + 1 for t in tensors)]
    )
    chunks: list[Chunk] = []
    bytes_by_class: dict[str, int] = {}
    weights_by_class: dict[str, int] = {}
    stacked = [t for t in tensors if t.n_stacked > 1]
    separate = [t for t in tensors if t.n_stacked == 1 and t.expert == 0]
    for tensor in stacked + separate:
        raw = tensor.n_bytes // tensor.n_stacked
        if profile.basis == "packed":
            alike = [t for t in tensors if use_of(t) == use_of(tensor)]
            chunks += _packed_shares([(compression[t.name], t.n_stacked) for t in alike])
        else:
            packed = compression[tensor.name]
            chunks.append(file_chunk(raw, -(-raw * sum(packed.stored_bytes) // max(1, sum(packed.raw_bytes)))))
        kernel = weight_type(tensor.dtype).gemv_class
        bytes_by_class[kernel] = bytes_by_class.get(kernel, 0) + raw
        weights_by_class[kernel] = weights_by_class.get(kernel, 0) + tensor.n_weights // tensor.n_stacked
    by_class = _items(bytes_by_class), _items(weights_by_class)
    names = tuple(t.name for t in (*stacked, *separate))
    return ExpertLayer(layer, n_experts, names, tuple(chunks), *by_class, sum(bytes_by_class.values()))


def _packed_shares(packed: list[tuple[TensorCompression, int]]) -> list[Chunk]:
    """The chunks of one expert in a container, each the mean over the experts stacked in, or spread over, tensors."""
    shares: list[list[Chunk]] = []
    for tensor, n_stacked in packed:
        chunks = list(map(_packed_chunk, tensor.raw_bytes, tensor.stored_bytes))
        step = len(chunks) // n_stacked
        shares += [chunks[i * step : (i + 1) * step] for i in range(n_stacked)]
    return [_mean(column) for column in zip(*shares, strict=False)]


def _mean(chunks: Sequence[Chunk]) -> Chunk:
    raw_bytes, stored_bytes = (sum(c.raw_bytes for c in chunks), sum(c.stored_bytes for c in chunks))
    return Chunk(round(raw_bytes / len(chunks)), round(stored_bytes / len(chunks)))


@lru_cache(maxsize=65536)
def file_chunk(raw_bytes: int, stored_bytes: int) -> Chunk:
    """Pad a compressed chunk to the alignment; what no longer shrinks is stored raw."""
    padded = _aligned(stored_bytes)
    return Chunk(raw_bytes, padded if stored_bytes < raw_bytes and padded < raw_bytes else raw_bytes)


def _packed_chunk(raw_bytes: int, stored_bytes: int) -> Chunk:
    """A chunk of a container: raw ones are padded too."""
    return Chunk(raw_bytes, _aligned(stored_bytes))


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGN_BYTES) * ALIGN_BYTES


def _items(table: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(table.items()))
