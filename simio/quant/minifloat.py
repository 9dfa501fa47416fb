"""Floating-point numbers of 4 and 8 bits: E4M3 (bias 7, no infinities), E5M2 (bias 15) and E2M1 (bias 1).

FP8: Micikevicius et al. 2022, FP8 Formats for Deep Learning, arXiv 2209.05433, Table 1. FP4: OCP Microscaling Formats
(MX) Specification 1.0, section 5.3.3: E2M1 stands for 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.

With ``e = max(floor(log2|x|), e_min)`` and ``n = round(|x| / 2^(e - m))`` (m mantissa bits, halves to even) the code is
``(e - e_min)·2^m + n`` below the sign bit; subnormals and mantissas rounded up to the next power follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simio.quant.contract import ByteArray, FloatArray
from simio.quant.rows import divided, in_runs


@dataclass(frozen=True, slots=True)
class MiniFloat:
    """``bits`` with the sign, ``mantissa_bits`` m, smallest normal exponent ``e_min``, largest finite ``largest``."""

    bits: int
    mantissa_bits: int
    e_min: int
    largest: float
    signed_zero: bool = True  # whether a negative number that rounds to zero keeps its sign

    def codes(self, x: FloatArray) -> ByteArray:
        """The code nearest to each of ``x`` (any shape); what is beyond ``largest`` becomes ``largest``."""
        magnitude = np.minimum(np.abs(x), np.float32(self.largest))
        exponent = np.maximum(np.frexp(magnitude)[1] - 1, self.e_min)
        exponent[magnitude == 0] = self.e_min
        n = np.rint(np.ldexp(magnitude, self.mantissa_bits - exponent))
        code = (((exponent - self.e_min) << self.mantissa_bits) + n.astype(np.int32)).astype(np.uint8)
        negative = np.signbit(x) if self.signed_zero else np.signbit(x) & (code > 0)
        signed: ByteArray = code | (negative.view(np.uint8) << np.uint8(self.bits - 1))
        return signed

    def codes_under(self, rows: FloatArray, scales: FloatArray) -> ByteArray:
        """The codes of ``rows (n, m)`` over their ``scales (n,)``, or over one; those of 0 where it is 0."""
        columns = np.broadcast_to(scales[:, None], (len(rows), 1))
        return in_runs(lambda x, scale: self.codes(divided(x, scale)), rows, columns)

    def values(self) -> FloatArray:
        """The value of each code, ``(2^bits,)``; codes above ``largest`` (NaN, infinity) are never written."""
        code = np.arange(1 << (self.bits - 1))
        exponent, n = code >> self.mantissa_bits, code & ((1 << self.mantissa_bits) - 1)
        n = np.where(exponent > 0, n + (1 << self.mantissa_bits), n)
        positive = np.ldexp(n.astype(np.float32), np.maximum(exponent, 1) - 1 + self.e_min - self.mantissa_bits)
        return np.concatenate([positive, -positive]).astype(np.float32)


E4M3 = MiniFloat(8, mantissa_bits=3, e_min=-6, largest=448.0)
E5M2 = MiniFloat(8, mantissa_bits=2, e_min=-14, largest=57344.0)
#: Code 8 (negative zero) stays unused, as in ggml's MXFP4: it would cost an entropy coder and stand for nothing new.
E2M1 = MiniFloat(4, mantissa_bits=1, e_min=0, largest=6.0, signed_zero=False)
