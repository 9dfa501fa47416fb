"""SqueezeLLM: a codebook per output channel, and a sparse matrix of outliers (arXiv 2306.07629).

The 8 or 16 levels of a channel are the weighted k-means of its weights (section 4.1). The paper weighs a weight
by its diagonal Fisher information; here by the mean square of its input (the diagonal of ``XᵀX / n_tokens``, the part
of the Fisher information that needs no gradients) once calibrated, and all alike before.

The largest weights by magnitude, 0.45 % of the matrix unless told otherwise, lie apart (section 4.2: dense and sparse,
``W = D + S``; the paper's 0.45 % are 0.4 % by magnitude and 0.05 % by gradients). S is in CSR form: FP16 values, column
indices of 16 bits, row pointers of 32. Where a weight is moved to S, D holds the level nearest to 0, and S the rest, so
that a product adds both, as the authors' code does. Codebooks are FP16.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from simio.errors import UsageError
from simio.quant import scalar_kmeans
from simio.quant.contract import FP16_MAX, Activations, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.salience import fits, highest, read_share

_HINT = "write for example squeezellm:4bit, squeezellm:3bit or squeezellm:4bit:0.0045"
_BITS = re.compile(r"([34])bit")
_OUTLIERS = 0.0045
_MOST_COLUMNS = 1 << 16


@dataclass(frozen=True, slots=True)
class DenseAndSparse(Quantizer):
    """``bits`` per code; ``outliers`` is the share of weights in the sparse matrix."""

    bits: int = 4
    outliers: float = _OUTLIERS
    sensitivity: FloatArray | None = field(default=None, compare=False, repr=False)  # by input channel

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"squeezellm:{self.bits}bit" + ("" if self.outliers == _OUTLIERS else f":{self.outliers}")

    @property
    def rows_apart(self) -> bool:
        """Only without outliers, which are those of the whole matrix."""
        return self.outliers == 0

    def calibrated(self, activations: Activations) -> DenseAndSparse:
        """With weights that count as the mean square of their input."""
        return replace(self, sensitivity=np.diag(activations.gram).copy())

    def quantize(self, w: FloatArray) -> Streams:
        """Streams of ``w (n_out, n_in)``: ``codes`` (packed, a code a weight), ``codebooks``, and of the outliers
        ``values``, ``columns`` and ``row_pointers``.

        Raises ``UsageError`` also for more than 65 536 input channels, if there are outliers.
        """
        x = checked(w, 1, self.name, FP16_MAX / 2)  # an outlier and its level may have opposite signs
        n_in = x.shape[1]
        fits(self.sensitivity, n_in, self.name)
        if self.outliers and n_in > _MOST_COLUMNS:
            raise UsageError(
                f"{self.name} has column indices of 16 bits, got {n_in} input channels", "write :0 for no outliers"
            )
        apart = highest(np.abs(x), self._n_outliers(x.shape)).reshape(x.shape)
        counts = np.float32(1) if self.sensitivity is None else self.sensitivity
        codebooks = scalar_kmeans.levels_of_rows(x, ~apart * counts, 1 << self.bits).astype(np.float16)
        levels = codebooks.astype(np.float32)
        codes = scalar_kmeans.nearest(np.where(apart, np.float32(0), x), levels)
        rows, columns = np.nonzero(apart)
        streams: Streams = {"codes": pack(codes, self.bits), "codebooks": codebooks.reshape(-1)}
        if not self.outliers:
            return streams
        return streams | {
            "values": (x[apart] - levels[rows, codes[apart]]).astype(np.float16),
            "columns": columns.astype(np.uint16),
            "row_pointers": np.append(0, np.cumsum(np.count_nonzero(apart, axis=1))).astype(np.uint32),
        }

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: each channel's levels, plus the sparse matrix."""
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1]).reshape(shape)
        levels = streams["codebooks"].astype(np.float32).reshape(shape[0], -1)
        values: FloatArray = np.take_along_axis(levels, codes, axis=1)
        if self.outliers:
            rows = np.repeat(np.arange(shape[0]), np.diff(streams["row_pointers"]))
            values[rows, streams["columns"]] += streams["values"].astype(np.float32)
        return values

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, codebooks and outliers, exact to the byte."""
        n = shape[0] * shape[1]
        dense = packed_bytes(n, self.bits) + 2 * shape[0] * (1 << self.bits)
        sparse = (2 + 2) * self._n_outliers(shape) + 4 * (shape[0] + 1) if self.outliers else 0
        return 8 * (dense + sparse) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; the rest as it is."""
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1])
        return {key: integers(stream) for key, stream in streams.items()} | {"codes": codes}

    def _n_outliers(self, shape: tuple[int, ...]) -> int:
        return round(self.outliers * shape[0] * shape[1])


def squeezellm(options: str) -> DenseAndSparse:
    """The layout of ``4bit`` (default) or ``3bit``, with the share of outliers behind it (default 0.0045)."""
    bits, _, share = options.partition(":")
    match = _BITS.fullmatch(bits or "4bit")
    if not match:
        raise UsageError(f"squeezellm: '{bits}' is not a width (3bit, 4bit)", _HINT)
    return DenseAndSparse(int(match[1]), read_share(share, "squeezellm", _HINT) if share else _OUTLIERS)
