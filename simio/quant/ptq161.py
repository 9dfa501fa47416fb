"""PTQ1.61: salient input channels in 4 bits, the rest binary, one bit of mask per input channel (arXiv 2502.13179).

Salient are the input channels with the largest activations (max ``|X|``, as the authors' code measures it) or, without
calibration, with the largest mean ``|w|``; a fifth of them unless told otherwise. They take min/max INT4 with FP16
scale and minimum per output channel. The rest is ``w_ij ≈ r_i·c_j·sign(w_ij)``: the paper learns row and column scales
by back-propagation through a block of layers; here they are the rank-1 least squares fit of ``|w|``, found by
alternating (non-negative matrix factorization of rank 1). Both are FP16.

For 4096 × 4096: 0.2·4 + 0.8 bits, 0.0002 of mask, 0.015 of scales, together the 1.61 bits of the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from simio.quant.binary import sign_bits, signs
from simio.quant.contract import FP16_MAX, Activations, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.salience import fits, highest, read_share
from simio.quant.uniform import Uniform

_HINT = "write for example ptq161 or ptq161:0.2"
_ROUNDS = 3  # of the alternating fit; for Gaussian, Laplace and t4 matrices one is enough to six digits

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SalientChannels(Quantizer):
    """``share`` of the input channels are salient, but at least two."""

    share: float = 0.2
    peak: FloatArray | None = field(default=None, compare=False, repr=False)  # max |X| by input channel

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"ptq161:{self.share}"

    @property
    def rows_apart(self) -> bool:
        """False: column scales are those of all rows."""
        return False

    def calibrated(self, activations: Activations) -> SalientChannels:
        """With the input channels of the largest activations as the salient ones."""
        return replace(self, peak=activations.peak)

    def quantize(self, w: FloatArray) -> Streams:
        """Streams of ``w (n_out, n_in)``: ``mask`` (a bit an input channel), ``codes`` (signs of the binary weights).

        ``row_scales``, ``column_scales`` of the binary channels, and ``salient_codes``, ``salient_scales``,
        ``salient_mins`` of the INT4 channels.
        """
        x = checked(w, 1, self.name, FP16_MAX)
        fits(self.peak, x.shape[1], self.name)
        scores = np.mean(np.abs(x), axis=0) if self.peak is None else self.peak
        mask = highest(scores, self._n_salient(x.shape))
        rest = x[:, ~mask]
        rows, columns = rank_one(np.abs(rest))
        salient = self._inner(x.shape).quantize(x[:, mask])
        binary: Streams = {
            "mask": pack(mask.view(np.uint8), 1),
            "codes": sign_bits(rest),
            "row_scales": rows.astype(np.float16),
            "column_scales": columns.astype(np.float16),
        }
        return binary | {f"salient_{key}": stream for key, stream in salient.items()}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        mask = unpack(streams["mask"], 1, shape[1]).view(np.bool_)
        rows, columns = (streams[key].astype(np.float32) for key in ("row_scales", "column_scales"))
        rest = signs(streams["codes"], shape[0] * len(columns)).reshape(shape[0], -1)
        values = np.empty(shape, np.float32)
        values[:, ~mask] = rest * rows[:, None] * columns
        values[:, mask] = self._inner(shape).dequantize(_salient(streams), (shape[0], shape[1] - len(columns)))
        return values

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``, exact to the byte."""
        n_out, n_in = shape
        n_salient = self._n_salient(shape)
        n_binary = n_in - n_salient
        binary_bytes = packed_bytes(n_out * n_binary, 1) + 2 * (n_out + n_binary)
        salient_bits = self._inner(shape).bits_per_weight((n_out, n_salient)) * n_out * n_salient
        return (8 * (packed_bytes(n_in, 1) + binary_bytes) + salient_bits) / (n_out * n_in)

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Mask and signs a bit an item, salient codes one an item; scales as they are."""
        n_salient = self._n_salient(shape)
        found = {key: integers(stream) for key, stream in streams.items()}
        found["mask"] = unpack(streams["mask"], 1, shape[1])
        found["codes"] = unpack(streams["codes"], 1, shape[0] * (shape[1] - n_salient))
        salient = self._inner(shape).symbols(_salient(streams), (shape[0], n_salient))
        return found | {f"salient_{key}": symbols for key, symbols in salient.items()}

    def _n_salient(self, shape: tuple[int, ...]) -> int:
        return min(max(2, round(self.share * shape[1])), shape[1])

    def _inner(self, shape: tuple[int, ...]) -> Uniform:
        return Uniform(4, self._n_salient(shape), "affine")


def rank_one(magnitudes: FloatArray) -> tuple[Vector, Vector]:
    """Rows ``r (n,)`` and columns ``c (m,)``, mean 1, with the least ``Σ(magnitudes_ij - r_i·c_j)²``."""
    columns = np.ones(magnitudes.shape[1], np.float32)
    rows = _fit(magnitudes, columns)
    for _ in range(_ROUNDS):
        columns = _fit(magnitudes.T, rows)
        mean = columns.mean() if columns.size else np.float32(0)
        columns = columns / mean if mean > 0 else np.ones_like(columns)
        rows = _fit(magnitudes, columns)
    return rows, columns


def _fit(magnitudes: FloatArray, columns: Vector) -> Vector:
    """The rows that suit ``columns`` best."""
    square = float(columns @ columns)
    rows: Vector = magnitudes @ columns / np.float32(square) if square > 0 else magnitudes @ columns
    return rows


def _salient(streams: Streams) -> Streams:
    return {key.removeprefix("salient_"): stream for key, stream in streams.items() if key.startswith("salient_")}


def ptq161(options: str) -> SalientChannels:
    """The layout with a salient share of the input channels, 0.2 unless ``options`` tell it."""
    return SalientChannels(read_share(options or "0.2", "ptq161", _HINT))
