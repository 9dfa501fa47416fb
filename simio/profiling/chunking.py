"""Cut a model's streams into the chunks that are compressed, read, decompressed and cached as units.

A chunk is the largest whole number of quant blocks (or elements) within ``chunk_bytes``, so no quant block is cut; the
last chunk of a stream is shorter. Chunks of one tensor follow its streams in order. Where a chunk lies on storage, and
its rounding to 4 KiB there, is the planner's matter: sizes here are those of the data alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simio.errors import UsageError
from simio.records.model import Model, Stream
from simio.records.weight_types import weight_type
from simio.units import GIB, KIB

_MIN_CHUNK_BYTES = 4 * KIB
_MAX_CHUNK_BYTES = GIB


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """``n_bytes`` of ``stream`` from ``start``; ``tensor`` indexes ``Model.tensors``."""

    tensor: int
    stream: Stream
    start: int
    n_bytes: int


class WeightsSource(Protocol):
    """Random access to the bytes of a model's streams from any thread: ``simio.formats.weights.WeightsReader``."""

    def read(self, stream: Stream, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` of ``stream`` from ``start``."""
        ...


def check_chunk_bytes(chunk_bytes: int) -> None:
    """Raise ``UsageError`` for a chunk size outside 4 KiB to 1 GiB."""
    if not _MIN_CHUNK_BYTES <= chunk_bytes <= _MAX_CHUNK_BYTES:
        raise UsageError(f"chunk size {chunk_bytes} B is outside 4 KiB to 1 GiB", "1MiB is a good choice")


def cut(model: Model, chunk_bytes: int) -> list[ChunkRef]:
    """Every chunk of ``model`` in file order; raises ``UsageError`` for a preset, which has no bytes,
    and for a container."""
    check_chunk_bytes(chunk_bytes)
    if model.format == "simio":
        raise UsageError(f"{model.name} is packed already", "give the model file it was packed from")
    if not model.files:
        raise UsageError(f"{model.name} is a preset without weights", "give the path of a model file to profile")
    return [
        chunk
        for index, tensor in enumerate(model.tensors)
        for stream in tensor.streams
        for chunk in cut_stream(index, stream, chunk_bytes)
    ]


def cut_stream(tensor: int, stream: Stream, chunk_bytes: int) -> list[ChunkRef]:
    """The chunks of one stream of the ``tensor``-th tensor."""
    block_bytes = weight_type(stream.dtype).block_bytes
    step = max(1, chunk_bytes // block_bytes) * block_bytes
    starts = range(0, stream.n_bytes, step)
    return [ChunkRef(tensor, stream, start, min(step, stream.n_bytes - start)) for start in starts]
