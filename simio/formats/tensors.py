"""From named bytes to logical tensors: role, layer and expert from the name, stacked experts from the shape."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from simio.formats.names import classify
from simio.records.model import Stream, Tensor


def plain_tensor(stream: Stream, n_experts: int) -> Tensor:
    """A tensor stored as one run of bytes; ``stream.name`` is the tensor's name."""
    return logical_tensor(stream.name, stream.shape, stream.dtype, (replace(stream, name="data"),), n_experts)


def logical_tensor(
    name: str, shape: tuple[int, ...], dtype: str, streams: tuple[Stream, ...], n_experts: int
) -> Tensor:
    """A tensor of logical ``shape`` over its byte ``streams``; ``n_experts`` of the architecture, 0 when not known."""
    said = classify(name)
    return Tensor(
        name=name,
        shape=shape,
        dtype=dtype,
        role=said.role,
        layer=said.layer,
        expert=said.expert,
        n_stacked=_n_stacked(said.role, said.expert, shape, n_experts),
        n_weights=math.prod(shape),
        n_bytes=sum(stream.n_bytes for stream in streams),
        streams=streams,
    )


def in_file_order(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Sorted by file, then by the first byte of any of their streams."""
    return tuple(sorted(tensors, key=lambda t: min((s.file_index, s.offset) for s in t.streams)))


def _n_stacked(role: str, expert: int | None, shape: tuple[int, ...], n_experts: int) -> int:
    if role != "expert" or expert is not None or not shape or not shape[0]:
        return 1
    return shape[0] if len(shape) >= 3 or shape[0] == n_experts else 1
