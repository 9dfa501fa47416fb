"""Cut source files into pieces and pieces into chunks, so that every byte of every file is in exactly one chunk.

A piece is what a reader may want alone: a stream of a tensor, one expert's slice of a stacked stream, or bytes that
belong to no tensor (headers, padding, companion files). Chunks never cross pieces. Pieces lie in the order a token
uses them, and all of one expert's pieces together, so that what is needed together is read at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from simio.container.sources import SourceFile
from simio.errors import ModelFileError
from simio.formats.execution_order import execution_order
from simio.plan.layout import head_names
from simio.profiling.chunking import ChunkRef, cut_stream
from simio.records.model import Model, Stream, Tensor
from simio.records.weight_types import weight_type
from simio.units import KIB


@dataclass(frozen=True, slots=True)
class Piece:
    """``n_bytes`` from ``offset`` of the ``file``-th source file, stored from chunk ``first_chunk`` on.

    ``tensor`` indexes ``Model.tensors`` and ``stream`` its streams; both are None for bytes outside tensors.
    ``expert`` is whose slice of a stacked stream, or whose tensor, it is; None for what is no expert's.
    """

    file: int
    offset: int
    n_bytes: int
    tensor: int | None
    stream: int | None
    expert: int | None
    first_chunk: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Pieces in container order and the chunks of all of them; ``ChunkRef.tensor`` is −1 outside tensors."""

    pieces: tuple[Piece, ...]
    chunks: tuple[ChunkRef, ...]


def lay_out(model: Model, files: Sequence[SourceFile], chunk_bytes: int) -> Layout:
    """Where everything goes: first the bytes outside tensors, then the tensors in the order of use.

    Tables of which rows are looked up are cut into small chunks of whole rows. Raises ``ModelFileError`` when tensors
    share bytes or end behind their file.
    """
    pieces: list[Piece] = []
    chunks: list[ChunkRef] = []
    heads = head_names(model)
    for piece, stream in (*_outside(model, files), *_inside(model)):
        pieces.append(replace(piece, first_chunk=len(chunks)))
        size = chunk_bytes
        if piece.tensor is not None and _is_looked_up(model.tensors[piece.tensor], heads):
            size = min(chunk_bytes, _rows_bytes(stream))
        chunks += cut_stream(-1 if piece.tensor is None else piece.tensor, stream, size)
    return Layout(tuple(pieces), tuple(chunks))


#: Chunk of a table of which single rows are read: small against a token's weights, large against a page.
ROWS_BYTES = 64 * KIB


def _is_looked_up(tensor: Tensor, heads: set[str]) -> bool:
    return tensor.role == "embedding" and tensor.name not in heads


def _rows_bytes(stream: Stream) -> int:
    """Whole rows of ``stream`` within ``ROWS_BYTES``, at least one. [bytes]"""
    row = stream.n_bytes // max(1, stream.shape[0]) if stream.shape else stream.n_bytes
    return max(1, ROWS_BYTES // max(1, row)) * row


def gaps(spans: Iterable[tuple[int, int]], n_bytes: int) -> Iterator[tuple[int, int]]:
    """What ``spans`` of (first, behind the last) byte leave of ``n_bytes``; raises ``ValueError`` where they overlap.

    >>> list(gaps([(2, 4), (4, 7)], 10))
    [(0, 2), (7, 10)]
    """
    at = 0
    for start, end in sorted(spans):
        if start < at or end > n_bytes:
            raise ValueError(f"bytes {start} to {end} overlap others or lie outside of {n_bytes}")
        if start > at:
            yield at, start
        at = end
    if at < n_bytes:
        yield at, n_bytes


def _outside(model: Model, files: Sequence[SourceFile]) -> Iterator[tuple[Piece, Stream]]:
    spans: list[list[tuple[int, int]]] = [[] for _ in files]
    for tensor in model.tensors:
        for stream in tensor.streams:
            if stream.n_bytes:
                spans[stream.file_index].append((stream.offset, stream.offset + stream.n_bytes))
    for index, (file, used) in enumerate(zip(files, spans, strict=True)):
        try:
            for start, end in gaps(used, file.n_bytes):
                n_bytes = end - start
                stream = Stream("other", "U8", (n_bytes,), index, start, n_bytes)
                yield Piece(index, start, n_bytes, None, None, None, 0), stream
        except ValueError as error:
            raise ModelFileError(f"{file.path}: {error}", "download the file again") from error


def _inside(model: Model) -> Iterator[tuple[Piece, Stream]]:
    for _, group in groupby(execution_order(model), key=lambda index: _together(model.tensors[index], index)):
        parts = [part for index in group for part in _parts(model, index)]
        yield from sorted(parts, key=lambda part: -1 if part[0].expert is None else part[0].expert)


def _together(tensor: Tensor, index: int) -> tuple[str, int]:
    """Equal for neighbours whose pieces are sorted by expert."""
    return ("experts", tensor.layer or 0) if tensor.role == "expert" else ("tensor", index)


def _parts(model: Model, index: int) -> Iterator[tuple[Piece, Stream]]:
    tensor = model.tensors[index]
    for number, stream in enumerate(tensor.streams):
        for expert, part in _slices(tensor, stream):
            yield Piece(part.file_index, part.offset, part.n_bytes, index, number, expert, 0), part


def _slices(tensor: Tensor, stream: Stream) -> list[tuple[int | None, Stream]]:
    """The stream whole, or expert by expert where it is stacked and every slice is whole quant blocks."""
    n = tensor.n_stacked
    if not stream.n_bytes:
        return []
    if (
        n == 1
        or not stream.shape
        or stream.shape[0] != n
        or stream.n_bytes % (n * weight_type(stream.dtype).block_bytes)
    ):
        return [(tensor.expert, stream)]
    size = stream.n_bytes // n
    return [
        (i, replace(stream, shape=stream.shape[1:], offset=stream.offset + i * size, n_bytes=size)) for i in range(n)
    ]
