"""FP8 with one FP32 scale per tensor: E4M3 (bias 7, no infinities) and E5M2 (bias 15), as FP8 checkpoints hold them.

Formats: Micikevicius et al. 2022, FP8 Formats for Deep Learning, arXiv 2209.05433, Table 1.
With ``e = max(floor(log2|x|), e_min)`` and ``n = round(|x| / 2^(e - m))`` (m mantissa bits, halves to even) the code is
``(e - e_min)·2^m + n`` below the sign bit; subnormals and mantissas rounded up to the next power follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simio.quant.contract import ByteArray, FloatArray, Quantizer, Streams, TensorSummary, checked, fixed


@dataclass(frozen=True, slots=True)
class Fp8(Quantizer):
    """``mantissa_bits`` m, smallest normal exponent ``e_min``, largest finite value ``largest``."""

    layout: str
    mantissa_bits: int
    e_min: int
    largest: float
    peak: float | None = None  # max |w| of the whole tensor, where rows come in runs

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return self.layout

    def for_tensor(self, summary: TensorSummary) -> Fp8:
        """With the scale of all the tensor's rows."""
        return replace(self, peak=max(summary.high, -summary.low))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (a byte a weight) and ``scales`` (one FP32: absmax / largest) of ``w (n_out, n_in)``."""
        x = checked(w, 1, self.name).reshape(-1)
        peak = max(float(x.max()), -float(x.min())) if self.peak is None else self.peak
        scale = np.float32(peak / self.largest)
        scaled = x / scale if scale > 0 else x
        return {"codes": self._codes(scaled), "scales": np.array([scale], np.float32)}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        values: FloatArray = self._values()[streams["codes"]] * streams["scales"]
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Eight, and the scale."""
        return 8 + 32 / (shape[0] * shape[1])

    def _codes(self, x: FloatArray) -> ByteArray:
        magnitude = np.minimum(np.abs(x), np.float32(self.largest))
        exponent = np.maximum(np.frexp(magnitude)[1] - 1, self.e_min)
        exponent[magnitude == 0] = self.e_min
        n = np.rint(np.ldexp(magnitude, self.mantissa_bits - exponent))
        code = ((exponent - self.e_min) << self.mantissa_bits) + n.astype(np.int32)
        codes: ByteArray = (code | (np.signbit(x).astype(np.int32) << 7)).astype(np.uint8)
        return codes

    def _values(self) -> FloatArray:
        """The value of each of the 256 codes; codes above ``largest`` (NaN, infinity) are never written."""
        code = np.arange(128)
        exponent, n = code >> self.mantissa_bits, code & ((1 << self.mantissa_bits) - 1)
        n = np.where(exponent > 0, n + (1 << self.mantissa_bits), n)
        positive = np.ldexp(n.astype(np.float32), np.maximum(exponent, 1) - 1 + self.e_min - self.mantissa_bits)
        return np.concatenate([positive, -positive]).astype(np.float32)


f8_e4m3 = fixed("f8_e4m3", Fp8("f8_e4m3", mantissa_bits=3, e_min=-6, largest=448.0))
f8_e5m2 = fixed("f8_e5m2", Fp8("f8_e5m2", mantissa_bits=2, e_min=-14, largest=57344.0))
