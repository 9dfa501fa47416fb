"""All weights in RAM, as stored: the reference that streamed weights must agree with, to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simio.errors import ModelFileError
from simio.formats.execution_order import use_of
from simio.records.model import Model, Stream, Tensor
from simio.runtime.kernels import dequantize
from simio.runtime.matrices import Matrix, RowBlock, matrix_of
from simio.runtime.scratch import ByteArray, FloatArray


class StreamReader(Protocol):
    """Reads streams: ``simio.formats.weights.WeightsReader``, or a ``simio.container`` container."""

    def read(self, stream: Stream, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` of ``stream`` from its byte ``start``."""


class InRamWeights:
    """The ``Weights`` of a forward pass, read at first use and kept."""

    def __init__(self, model: Model, reader: StreamReader) -> None:
        self._reader = reader
        self._tensors = {tensor.name: tensor for tensor in model.tensors}
        self._table = next((t for t in model.tensors if use_of(t) == "token_embd"), None)
        self._codes: dict[str, ByteArray] = {}
        self._matrices: dict[str, Matrix] = {}
        self._small: dict[str, FloatArray] = {}
        self._scales: dict[str, FloatArray | None] = {}

    def parts(self, tensor: str) -> Iterator[Sequence[RowBlock]]:
        """One part with all rows."""
        return self.expert_parts(tensor, 0)

    def expert_parts(self, tensor: str, expert: int) -> Iterator[Sequence[RowBlock]]:
        """One part with all rows of an expert."""
        matrix, codes = self._matrix(tensor), self._held(tensor)
        mine = codes[expert * matrix.n_bytes : (expert + 1) * matrix.n_bytes]
        size = matrix.row_bytes
        yield [RowBlock(at, n, (mine[at * size : (at + n) * size],)) for at, n in matrix.row_spans()]

    def experts(self, layer: int, chosen: Sequence[int]) -> None:
        """All experts are here already."""

    def small(self, tensor: str) -> FloatArray:
        """The whole tensor as float32."""
        if tensor not in self._small:
            self._small[tensor] = read_small(self._tensors[tensor], self._reader)
        return self._small[tensor]

    def scales(self, tensor: str) -> FloatArray | None:
        """The scales of an I8 or FP8 matrix."""
        if tensor not in self._scales:
            self._scales[tensor] = read_scales(self._matrix(tensor), self._reader)
        return self._scales[tensor]

    def embedding_rows(self, ids: Sequence[int]) -> FloatArray:
        """Rows of the token table."""
        if self._table is None:
            raise ModelFileError("the model has no token table", "only Llama-like decoders can be run")
        matrix = self._matrix(self._table.name)
        rows = self._held(self._table.name).reshape(matrix.n_rows, matrix.row_bytes)[list(ids)]
        return dequantized_rows(matrix, rows, ids, self.scales(self._table.name))

    def _matrix(self, tensor: str) -> Matrix:
        if tensor not in self._matrices:
            self._matrices[tensor] = matrix_of(self._tensors[tensor])
        return self._matrices[tensor]

    def _held(self, tensor: str) -> ByteArray:
        if tensor not in self._codes:
            codes = self._matrix(tensor).codes
            if codes is None:
                raise ModelFileError(f"'{tensor}' has no bytes: a preset cannot be run", "simio generate makes a file")
            self._codes[tensor] = np.frombuffer(self._reader.read(codes, 0, codes.n_bytes), np.uint8)
        return self._codes[tensor]


def dequantized_rows(
    matrix: Matrix, rows: bytes | ByteArray, ids: Sequence[int] | NDArray[Any], scales: FloatArray | None
) -> FloatArray:
    """The stored ``rows`` that have the numbers ``ids`` in ``matrix``; ``scales`` are those of all its rows."""
    if scales is not None and scales.size > 1:
        scales = scales.reshape(matrix.n_rows, -1)[list(ids)]
    found: FloatArray = dequantize(matrix.dtype, rows, len(ids), matrix.n_cols, scales)
    return found


def read_small(tensor: Tensor, reader: StreamReader) -> FloatArray:
    """A norm, bias or router as float32 in its logical shape."""
    if len(tensor.shape) > 1:
        matrix = matrix_of(tensor)
        if matrix.codes is None:
            raise ModelFileError(f"'{tensor.name}' has no bytes: a preset cannot be run", "simio generate makes a file")
        data = reader.read(matrix.codes, 0, matrix.codes.n_bytes)
        scales = read_scales(matrix, reader)
        return dequantize(matrix.dtype, data, matrix.n_rows, matrix.n_cols, scales).reshape(tensor.shape)
    if not tensor.streams:
        raise ModelFileError(f"'{tensor.name}' has no bytes: a preset cannot be run", "simio generate makes a file")
    stream = tensor.streams[0]
    whole: FloatArray = dequantize(stream.dtype, reader.read(stream, 0, stream.n_bytes), 1, tensor.n_weights)
    return whole.reshape(tensor.shape)


def read_scales(matrix: Matrix, reader: StreamReader) -> FloatArray | None:
    """The scales of ``matrix`` as float32, flat; nothing where its codes are the weights."""
    if matrix.scales is None:
        return None
    stream = matrix.scales
    n = int(np.prod(stream.shape, dtype=np.int64))
    stored: FloatArray = dequantize(stream.dtype, reader.read(stream, 0, stream.n_bytes), 1, n)[0]
    return stored * np.float32(matrix.scale_unit)
