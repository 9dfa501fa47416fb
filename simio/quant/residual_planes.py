"""Matryoshka weight quantization: a base of few bits, then planes of ±1 with a scale for each group.

D2MoE, arXiv 2504.15299, §3.3: the base is asymmetric with zero points (Eq. 2), ``W₁ = (Q₁ - z)·s₁``; each further bit
is the sign of what is left over, ``W_k = W_{k-1} + s_k·Q_k`` with ``Q_k`` in {+1, -1} (Eq. 4). So INT2 ⊂ INT3 ⊂ INT4,
and an expert is read up to as many planes as its token asks for.

``s_k`` is the mean magnitude of the residual, which minimises its squared error: Eq. 5 where all inputs are alike.
Weighting it by the inputs' mean squares gains 4 % at 4 bits and loses the double at 8, because later planes can no
longer reach the residuals that counted little; so calibration changes nothing. The error compensation between blocks
of columns (Algorithm 1) is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from simio.errors import UsageError
from simio.quant.contract import FP16_MAX, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.uniform import Uniform

_HINT = "write for example mwq:4:group64 or mwq:8:group64:base4"
_OPTIONS = re.compile(r"(\d+)(?::group(\d+))?(?::base(\d+))?")


@dataclass(frozen=True, slots=True)
class ResidualPlanes(Quantizer):
    """``bits`` in all, of which the first ``base`` (2, 3 or 4) are an integer code; ``group`` weights share scales."""

    bits: int
    group: int = 64
    base: int = 2

    def __post_init__(self) -> None:
        if self.base not in (2, 3, 4) or not self.base <= self.bits <= 8:
            raise UsageError(f"mwq: a base of {self.base} bits within {self.bits} is not a layout", _HINT)
        if self.group < 2:
            raise UsageError(f"mwq: a group of {self.group} weights cannot share a scale", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"mwq:{self.bits}:group{self.group}" + ("" if self.base == 2 else f":base{self.base}")

    def quantize(self, w: FloatArray) -> Streams:
        """Streams of ``w (n_out, n_in)``: ``codes``, ``zeros`` (packed) and ``scales`` (FP16) of the base; for each bit
        b above it ``plane_b`` (packed, 1 for +1) and ``scales_b`` (FP16).
        """
        x = checked(w, self.group, self.name, FP16_MAX)
        streams = self._base.quantize(x)
        rest = (x - self._base.dequantize(streams, x.shape)).reshape(-1, self.group)
        for bit in range(self.base + 1, self.bits + 1):
            scales = np.abs(rest).mean(axis=1).astype(np.float16)
            positive = rest >= 0
            wide = scales.astype(np.float32)[:, None]
            rest = rest - np.where(positive, wide, -wide)
            streams |= {f"plane_{bit}": pack(positive.astype(np.uint8), 1), f"scales_{bit}": scales}
        return streams

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)`` from all bits."""
        return self.dequantize_prefix(streams, shape, self.bits)

    def dequantize_prefix(self, streams: Streams, shape: tuple[int, int], n_bits: int) -> FloatArray:
        """The weights ``(n_out, n_in)`` from the first ``n_bits``; the streams of the others may be absent.

        Raises ``UsageError`` when ``n_bits`` is not between ``base`` and ``bits``.
        """
        if not self.base <= n_bits <= self.bits:
            raise UsageError(f"{self.name} has {self.base} to {self.bits} bits, not {n_bits}", "ask for fewer bits")
        w = self._base.dequantize(streams, shape).reshape(-1, self.group)
        for bit in range(self.base + 1, n_bits + 1):
            signs = unpack(streams[f"plane_{bit}"], 1, w.size).reshape(w.shape).astype(np.float32) * 2 - 1
            w += signs * streams[f"scales_{bit}"].astype(np.float32)[:, None]
        return w.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: base, planes and all scales."""
        return self.prefix_bits_per_weight(shape, self.bits)

    def prefix_bits_per_weight(self, shape: tuple[int, int], n_bits: int) -> float:
        """Bits per weight of what :meth:`dequantize_prefix` reads."""
        n = shape[0] * shape[1]
        plane = packed_bytes(n, 1) + 2 * (n // self.group)
        return self._base.bits_per_weight(shape) + 8 * (n_bits - self.base) * plane / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes and planes one an item; scales as they are."""
        n = shape[0] * shape[1]
        base = self._base.symbols({key: streams[key] for key in ("codes", "zeros", "scales")}, shape)
        rest = {key: stream for key, stream in streams.items() if key not in base}
        return base | {k: unpack(s, 1, n) if k.startswith("plane") else integers(s) for k, s in rest.items()}

    @property
    def _base(self) -> Uniform:
        return Uniform(self.base, self.group, "zero")


def mwq(options: str) -> ResidualPlanes:
    """The layout of ``BITS`` with ``:groupN`` and ``:baseBITS`` behind it."""
    match = _OPTIONS.fullmatch(options)
    if not match:
        raise UsageError(f"mwq: '{options}' is not BITS:groupN:baseBITS", _HINT)
    return ResidualPlanes(int(match[1]), int(match[2] or 64), int(match[3] or 2))
