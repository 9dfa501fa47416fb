"""The matrices of a model as float32, a run of rows at a time, whatever they are stored as.

A stack of experts is one matrix of all their rows. Runs are multiples of ``ROWS_TOGETHER`` rows where that many fit, so
that codes of 1 to 8 bits, and five codes to a byte, end at whole bytes: the bytes of the runs, one after the other, are
those of the whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

import numpy as np
import xxhash

from simio.errors import UsageError
from simio.profiling.chunking import WeightsSource
from simio.quant.contract import ByteArray, FloatArray, TensorSummary
from simio.records.compressibility import KeptTensor
from simio.records.model import Model, Tensor
from simio.runtime.dequantizing import expander
from simio.runtime.in_ram import read_scales
from simio.runtime.matrices import Matrix, matrix_of
from simio.units import MIB

#: Weights quantized at a time where rows are apart, and where a layout wants to see many rows together.
RUN_WEIGHTS = 1 << 22
WHOLE_WEIGHTS = 1 << 24

ROWS_TOGETHER = 320
_READ_BYTES = 16 * MIB

#: Converted by numpy, which keeps infinities and NaN; the runtime's expanders take every pattern for a weight.
_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
#: ``Conv1D`` of the transformers library keeps its matrices as (n_in, n_out).
_CONV1D = re.compile(r"\.(?:c_attn|c_proj|c_fc)\.weight$")
#: Tables that are computed, saved beside the weights: rotations, positions, causal masks.
_BUFFER = re.compile(r"freqs?_cis|inv_freq|rope_freqs|position_ids|masked_bias|attn\.bias$|attention\.bias$")


@dataclass(frozen=True, slots=True)
class WeightMatrix:
    """A tensor as a matrix of ``n_rows`` output channels × ``n_cols``; its bytes are ``stored``."""

    tensor: Tensor
    stored: Matrix
    is_transposed: bool = False  # rows are stored as columns

    @property
    def shape(self) -> tuple[int, int]:
        """(n_out, n_in)."""
        rows = self.stored.n_rows * self.stored.n_stacked
        return (self.stored.n_cols, rows) if self.is_transposed else (rows, self.stored.n_cols)

    @property
    def n_weights(self) -> int:
        """All of them."""
        return self.shape[0] * self.shape[1]

    def runs(self, most_weights: int) -> list[tuple[int, int]]:
        """(first row, rows) of the runs of at most ``most_weights``, in order; a row is never cut."""
        n_rows, n_cols = self.shape
        fitting = max(1, most_weights // n_cols)
        if fitting >= n_rows:
            return [(0, n_rows)]
        step = next(fitting // n * n for n in (ROWS_TOGETHER, 64, 8, 1) if fitting >= n)
        return [(first, min(step, n_rows - first)) for first in range(0, n_rows, step)]

    def read(self, source: WeightsSource, first: int, n_rows: int) -> FloatArray:
        """Rows ``first`` and on as a new float32 array ``(n_rows, n_in)``. Raises ``ModelFileError``."""
        if self.is_transposed:  # of GPT-2, which has no large ones: read whole
            whole = self._stored_rows(source, 0, self.shape[1])
            return np.ascontiguousarray(whole[:, first : first + n_rows].T)
        return self._stored_rows(source, first, n_rows)

    def digest(self, source: WeightsSource) -> str:
        """Identity of the weights: type, shape and every stored byte. Raises ``ModelFileError``."""
        state = xxhash.xxh3_128(repr((self.tensor.dtype, self.shape, self.is_transposed)).encode())
        for stream in self.tensor.streams:
            for start in range(0, stream.n_bytes, _READ_BYTES):
                state.update(source.read(stream, start, _READ_BYTES))
        return str(state.hexdigest())

    def summary(self, source: WeightsSource) -> TensorSummary:
        """Of all weights, run by run; NaN among them makes NaN of it."""
        parts = [TensorSummary.of(self.read(source, first, n_rows)) for first, n_rows in self.runs(RUN_WEIGHTS)]
        n_weights = self.n_weights
        return TensorSummary(
            n_weights=n_weights,
            low=float(np.min([p.low for p in parts])),
            high=float(np.max([p.high for p in parts])),
            mean_magnitude=sum(p.mean_magnitude * p.n_weights for p in parts) / n_weights,
            mean_square=sum(p.mean_square * p.n_weights for p in parts) / n_weights,
        )

    def _stored_rows(self, source: WeightsSource, first: int, n_rows: int) -> FloatArray:
        matrix = self.stored
        if matrix.codes is None:
            raise UsageError(f"'{matrix.name}' has no bytes", "give the path of a model file")
        out = np.empty((n_rows, matrix.n_cols), np.float32)
        step = max(1, _READ_BYTES // max(1, matrix.row_bytes))
        for start in range(0, n_rows, step):
            part = out[start : start + step]
            data = source.read(matrix.codes, (first + start) * matrix.row_bytes, len(part) * matrix.row_bytes)
            _expand(matrix.dtype, np.frombuffer(data, np.uint8).reshape(len(part), -1), part)
        scales = read_scales(matrix, source)
        if scales is not None:
            total = matrix.n_rows * matrix.n_stacked
            mine = scales.reshape(total, -1)[first : first + n_rows] if scales.size > 1 else scales.reshape(1, 1)
            grouped = out.reshape(n_rows, mine.shape[1], -1)
            np.multiply(grouped, mine[:, :, None], out=grouped)
        return out


def _expand(dtype: str, rows: ByteArray, out: FloatArray) -> None:
    if dtype in _PLAIN:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which layouts refuse
            out[...] = rows.view(_PLAIN[dtype])
    else:
        expander(dtype)(rows, out)


def matrices(model: Model) -> tuple[list[WeightMatrix], list[KeptTensor]]:
    """The weight matrices of ``model`` in file order, and every other tensor with the reason why it is kept.

    Raises ``UsageError`` for a preset, which has no weights, and for a container.
    """
    if model.format == "simio":
        raise UsageError(f"{model.name} is packed already", "give the model file it was packed from")
    if not model.files:
        raise UsageError(f"{model.name} is a preset without weights", "give the path of a model file")
    found: list[WeightMatrix] = []
    kept: list[KeptTensor] = []
    for tensor in model.tensors:
        try:
            found.append(_matrix(tensor, model))
        except UsageError as error:
            kept.append(KeptTensor(tensor.name, tensor.role, tensor.n_weights, error.message))
    return found, kept


def _matrix(tensor: Tensor, model: Model) -> WeightMatrix:
    """``tensor`` as a matrix; raises ``UsageError`` with the reason where it is none."""
    if len(tensor.shape) not in (2, 3):
        raise UsageError(f"no matrix: {len(tensor.shape)} dimension{'s' * (len(tensor.shape) != 1)}")
    if tensor.role == "other" and _BUFFER.search(tensor.name):
        raise UsageError("a computed table, no weights")
    if not tensor.n_weights:
        raise UsageError("no weights")
    stored = matrix_of(tensor)
    if stored.dtype not in _PLAIN:
        expander(stored.dtype)
    if stored.dtype == "I8" and stored.scales is None:
        raise UsageError("integers without a scale")
    n_scales = prod(stored.scales.shape) if stored.scales else 1
    if n_scales > 1 and n_scales % (stored.n_rows * stored.n_stacked):
        raise UsageError("scales of blocks of rows")
    is_gpt2 = model.architecture.family == "gpt2" and model.format == "safetensors"
    return WeightMatrix(tensor, stored, is_gpt2 and bool(_CONV1D.search(tensor.name)) and stored.scales is None)
