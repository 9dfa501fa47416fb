"""The weights as a forward pass wants them: matrices in blocks of rows, small tensors whole; whoever supplies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simio.errors import UsageError
from simio.records.model import Stream, Tensor
from simio.runtime.kernels import row_bytes, rows_per_block
from simio.runtime.scratch import FloatArray

#: Streams that describe a layout without entering the arithmetic of a forward pass.
_SILENT = ("weight_format", "input_scale")


@dataclass(frozen=True, slots=True)
class Matrix:
    """How a weight tensor is multiplied: ``n_rows`` × ``n_cols`` of kernel type ``dtype``, ``n_stacked`` times in turn.

    ``codes`` holds the rows, one after the other; ``scales`` is the stream of their scales, if any.
    """

    name: str
    dtype: str
    n_rows: int
    n_cols: int
    n_stacked: int
    codes: Stream | None  # None for a preset: there is no file
    scales: Stream | None
    scale_unit: float = 1.0  # what the stored scales count in

    @property
    def row_bytes(self) -> int:
        """Stored bytes of a row."""
        return row_bytes(self.dtype, self.n_cols)

    @property
    def n_bytes(self) -> int:
        """Stored bytes of one of the stacked matrices, scales aside."""
        return self.n_rows * self.row_bytes

    def row_spans(self) -> list[tuple[int, int]]:
        """(first row, rows) of the blocks that the kernels take, in order: fixed by type and shape, about equal."""
        n_blocks = -(-self.n_rows // rows_per_block(self.row_bytes))
        step = -(-self.n_rows // n_blocks)
        return [(first, min(step, self.n_rows - first)) for first in range(0, self.n_rows, step)]


@dataclass(frozen=True, slots=True)
class RowBlock:
    """``n_rows`` whole rows from ``first_row``; ``pieces``: objects with the buffer protocol, together their bytes."""

    first_row: int
    n_rows: int
    pieces: tuple[Any, ...]

    @property
    def data(self) -> Any:
        """The bytes as stored: a view where they lie in one piece, else copied together while they are used."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


class Weights(Protocol):
    """Who holds or fetches the weights. A forward pass asks in the order of ``simio.formats.execution_order``."""

    def parts(self, tensor: str) -> Iterator[Sequence[RowBlock]]:
        """The blocks of :meth:`Matrix.row_spans`, every row once, in order; a part is used until the next."""

    def expert_parts(self, tensor: str, expert: int) -> Iterator[Sequence[RowBlock]]:
        """The same for one expert of a stacked tensor."""

    def experts(self, layer: int, chosen: Sequence[int]) -> None:
        """The router of ``layer`` has chosen: these experts follow, in ascending order."""

    def small(self, tensor: str) -> FloatArray:
        """A norm, a bias or a router, whole, as float32 in its logical shape."""

    def scales(self, tensor: str) -> FloatArray | None:
        """The scales of an I8 or FP8 matrix: one, one a row, or ``(n_rows, n_groups)``; nothing for other types."""

    def embedding_rows(self, ids: Sequence[int]) -> FloatArray:
        """Rows of the token table, ``(len(ids), d_model)`` float32."""


def matrix_of(tensor: Tensor) -> Matrix:
    """How to multiply ``tensor``; raises ``UsageError`` for a layout that the kernels do not know."""
    if len(tensor.shape) not in (2, 3):
        raise UsageError(f"tensor '{tensor.name}' {list(tensor.shape)} is no matrix")
    streams = {stream.name: stream for stream in tensor.streams}
    codes = streams.get("data") or streams.get("codes")
    dtype = tensor.dtype if codes is None or codes.name == "data" else _codes_dtype(tensor, codes)
    unused = set(streams) - {"data", "codes", "scales", *_SILENT}
    if unused:
        raise UsageError(f"tensor '{tensor.name}' is stored as {tensor.dtype} with {', '.join(sorted(unused))}", _HINT)
    n_rows, n_cols = tensor.shape[-2:]
    row_bytes(dtype, n_cols)
    n_stacked = tensor.shape[0] if len(tensor.shape) == 3 else 1
    unit = 1 / 127 if tensor.dtype == "BNB_INT8" else 1.0  # bitsandbytes stores the largest magnitude of each row
    return Matrix(tensor.name, dtype, n_rows, n_cols, n_stacked, codes, streams.get("scales"), unit)


_HINT = "quantize it to a GGUF type, or store it as symmetric INT8 with one scale per tensor or per row"


def _codes_dtype(tensor: Tensor, codes: Stream) -> str:
    """INT8 and FP8 keep a byte a weight in the tensor's own shape; packed words are not computed with."""
    if codes.shape != tensor.shape or codes.dtype not in ("I8", "F8_E4M3", "F8_E5M2"):
        raise UsageError(f"tensor '{tensor.name}' is stored as {tensor.dtype}, which cannot be computed with", _HINT)
    return codes.dtype
