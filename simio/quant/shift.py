"""Powers of two without a zero: a sign and an exponent, so that a product is a shift.

DenseShift (Li et al., ICCV 2023, arXiv 2208.09708): n bits stand for ``±2^p``, p = 0 … 2^(n-1) - 1. The
paper trains such weights; here trained weights are rounded to the nearest of ``±scale·2^(p - p_max)``. The scale, of an
output channel (FP32) or a group (FP16), is the one of least squared error that a search by quarters of octaves finds.
A row of zeros has the scale 0, which a scale for the whole tensor could not give it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import ByteArray, FloatArray, Quantizer, Streams
from simio.quant.granularity import TENSOR, Granularity
from simio.quant.packing import pack, packed_bytes, unpack, unpacked
from simio.quant.rows import divided, in_runs, magnitudes

#: Quarters of octaves below the largest magnitude at which the search starts, for the largest level.
_TRIALS = np.float32(2) ** (-np.arange(25, dtype=np.float32) / 4)


@dataclass(frozen=True, slots=True)
class Shift(Quantizer):
    """Codes of ``bits`` bits: the sign above the exponent p."""

    bits: int
    grain: Granularity

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"shift{self.bits}:{self.grain}"

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed) and ``scales`` (value of the largest level) of ``w (n_out, n_in)``."""
        rows = self.grain.split(w, self.name)
        searched = in_runs(self._searched, rows, magnitudes(rows))
        scales = np.minimum(searched, np.finfo(self.grain.scale_type).max).astype(self.grain.scale_type)
        codes = in_runs(self._codes, rows, scales.astype(np.float32)[:, None])
        return {"codes": pack(codes, self.bits), "scales": scales}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1])
        scales = streams["scales"].astype(np.float32)
        positive = np.ldexp(np.float32(1), np.arange(-self._top, 1))
        levels = np.concatenate([positive, -positive])
        values: FloatArray = np.take(levels, codes, mode="clip").reshape(len(scales), -1) * scales[:, None]
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes and scales, exact to the byte."""
        n = shape[0] * shape[1]
        return 8 * (packed_bytes(n, self.bits) + self.grain.scale_bytes(shape)) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales as they are."""
        return unpacked(streams, self.bits, shape[0] * shape[1])

    @property
    def _top(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def _powers(self, x: FloatArray) -> npt.NDArray[np.int32]:
        """The p whose ``2^(p - top)`` is nearest to ``x ≥ 0``: borders are at 1.5 times a level."""
        powers: npt.NDArray[np.int32] = np.frexp(x / np.float32(0.75))[1] + np.int32(self._top - 1)
        return np.clip(powers, 0, self._top, out=powers)

    def _codes(self, rows: FloatArray, scales: FloatArray) -> ByteArray:
        x: FloatArray = np.abs(divided(rows, scales))
        powers = self._powers(x).astype(np.uint8)
        codes: ByteArray = powers | (np.signbit(rows).view(np.uint8) << np.uint8(self.bits - 1))
        return codes

    def _searched(self, rows: FloatArray, peaks: FloatArray) -> FloatArray:
        """The scale that fits best the levels chosen under one of the scales tried."""
        x: FloatArray = np.abs(divided(rows, peaks[:, None]))
        scale, best = np.zeros_like(peaks), np.full_like(peaks, -1)
        for trial in _TRIALS:
            levels = np.ldexp(np.float32(1), self._powers(x / trial) - self._top)
            product = (x * levels).sum(axis=1)
            fitted = product / np.square(levels).sum(axis=1)
            gain = fitted * product
            scale, best = np.where(gain > best, (fitted, gain), (scale, best))
        with np.errstate(over="ignore"):  # the best scale may be a little above the largest weight
            return scale * peaks


def from_options(bits: int, options: str) -> Shift:
    """The layout of ``channel`` (default) or ``groupN``."""
    name = f"shift{bits}"
    hint = f"write {name}:channel or for example {name}:group64"
    grain = Granularity.parse(options or "channel", name, hint)
    if grain == TENSOR:
        raise UsageError(f"{name} has no level for zero, so that a row of zeros needs a scale of its own", hint)
    return Shift(bits, grain)


shift4 = partial(from_options, 4)
shift3 = partial(from_options, 3)
shift2 = partial(from_options, 2)
