"""Nested bit planes: an integer code in planes, most significant first, whose first b planes are a b-bit quantization.

Matryoshka Quantization, arXiv 2502.06786: the codes of fewer bits lie in the high bits of an INT8 code, so a prefix
of the planes can be read alone, as D2MoE (arXiv 2504.15299) does expert by expert; for D2MoE's own residual planes see
:mod:`simio.quant.residual_planes`.

The range of a group of weights is cut into ``2^bits`` cells and a weight stands at the middle of its cell:
``code = floor((w - min)·2^bits / range)``, ``w = min + (code + 1/2)·range / 2^bits``. Dropping low bits then gives just
the cells of the coarser cut, with no rounding bit and the same ``min`` and ``range`` (FP16).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from simio.errors import UsageError
from simio.quant.contract import FP16_MAX, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack

_HINT = "write for example nested:8:group64"
_OPTIONS = re.compile(r"(\d+)(?::group(\d+))?")


@dataclass(frozen=True, slots=True)
class Nested(Quantizer):
    """``bits`` planes; ``group`` weights share minimum and range."""

    bits: int
    group: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise UsageError(f"nested: {self.bits} planes are not between 1 and 8", _HINT)
        if self.group < 2:
            raise UsageError(f"nested: a group of {self.group} weights cannot share a scale", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"nested:{self.bits}:group{self.group}"

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``plane_1`` (highest bits, packed) to ``plane_bits``, ``scales`` (FP16: half the range, which is the
        step of one plane) and ``mins`` (FP16) of ``w (n_out, n_in)``.
        """
        x = checked(w, self.group, self.name, FP16_MAX)
        groups = x.reshape(-1, self.group)
        low, high = groups.min(axis=1), groups.max(axis=1)
        scales, mins = (high / 2 - low / 2).astype(np.float16), low.astype(np.float16)
        wide = scales.astype(np.float32)[:, None]
        share = np.divide(groups - mins.astype(np.float32)[:, None], wide, out=np.zeros_like(groups), where=wide > 0)
        codes = np.clip(np.floor(np.ldexp(share, self.bits - 1)), 0, (1 << self.bits) - 1).astype(np.uint8)
        planes = {f"plane_{i}": pack((codes >> (self.bits - i)) & 1, 1) for i in range(1, self.bits + 1)}
        return planes | {"scales": scales, "mins": mins}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)`` from all planes."""
        return self.dequantize_prefix(streams, shape, self.bits)

    def dequantize_prefix(self, streams: Streams, shape: tuple[int, int], n_planes: int) -> FloatArray:
        """The weights ``(n_out, n_in)`` from the first ``n_planes``; the streams of the others may be absent.

        Raises ``UsageError`` when ``n_planes`` is not between 1 and ``bits``.
        """
        if not 1 <= n_planes <= self.bits:
            raise UsageError(f"{self.name} has 1 to {self.bits} planes, not {n_planes}", "ask for fewer planes")
        n = shape[0] * shape[1]
        steps = streams["scales"].astype(np.float32)[:, None]
        w = streams["mins"].astype(np.float32)[:, None] + np.ldexp(steps, -n_planes)
        for i in range(1, n_planes + 1):
            w = w + unpack(streams[f"plane_{i}"], 1, n).reshape(-1, self.group) * np.ldexp(steps, 1 - i)
        return w.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: all planes, scales and minima."""
        return self.prefix_bits_per_weight(shape, self.bits)

    def prefix_bits_per_weight(self, shape: tuple[int, int], n_planes: int) -> float:
        """Bits per weight of what :meth:`dequantize_prefix` reads."""
        n = shape[0] * shape[1]
        return 8 * (n_planes * packed_bytes(n, 1) + 4 * (n // self.group)) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Planes one bit an item; scales and minima as they are."""
        n = shape[0] * shape[1]
        return {key: unpack(s, 1, n) if key.startswith("plane") else integers(s) for key, s in streams.items()}


def nested(options: str) -> Nested:
    """The layout of ``BITS`` with ``:groupN`` behind it."""
    match = _OPTIONS.fullmatch(options)
    if not match:
        raise UsageError(f"nested: '{options}' is not BITS:groupN", _HINT)
    return Nested(int(match[1]), int(match[2] or 64))
