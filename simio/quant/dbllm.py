"""DB-LLM: 2-bit weights as two sparse binary planes (arXiv 2402.11960, flexible dual binarization).

``w ≈ α1·b1 + α2·b2`` with bits b1, b2 of 0 or 1 and ``α1 > -α2 > 0``, so the levels are ``α2 < 0 < α1 + α2 < α1``. With
the Heaviside step H the paper has ``b1 = H(w - (α1 + α2) / 2)`` and ``b2 = H(-(w - α1·b1 - α2 / 2))``: the nearest
level. It starts from ``α1 = 2s``, ``α2 = -s``, the 2-bit grid of scale s, and learns both by distillation; here they
alternate between least squares and the nearest level, with ``s = max|w| / 2`` to start from. A group's scales are FP16.

The planes lie apart: most bits of either are 0, which a lossless coder can use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simio.quant.contract import FloatArray, Quantizer, Streams, integers
from simio.quant.granularity import Granularity
from simio.quant.packing import pack, packed_bytes, unpack

_ROUNDS = 12  # of the alternating fit

BoolArray = npt.NDArray[np.bool_]
Column = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DualBinary(Quantizer):
    """``grain`` says which weights share the two scales."""

    grain: Granularity = Granularity(64)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"dbllm:{self.grain}"

    @property
    def rows_apart(self) -> bool:
        """Not with one pair of scales fitted to all rows."""
        return self.grain.group != "tensor"

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``plane1``, ``plane2`` (a bit a weight each), ``scales1`` and ``scales2`` of ``w (n_out, n_in)``."""
        groups = self.grain.split(w, self.name)
        first, second = (scale.astype(self.grain.scale_type) for scale in fitted_scales(groups))
        plane1, plane2 = planes(groups, first.astype(np.float32), second.astype(np.float32))
        packed = {f"plane{i}": pack(plane.view(np.uint8), 1) for i, plane in ((1, plane1), (2, plane2))}
        return packed | {"scales1": first, "scales2": second}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        n, n_scales = shape[0] * shape[1], self.grain.n_scales(shape)
        values = np.zeros((n_scales, n // n_scales), np.float32)
        for i in (1, 2):
            bits = unpack(streams[f"plane{i}"], 1, n).reshape(n_scales, -1)
            values += bits * streams[f"scales{i}"].astype(np.float32)[:, None]
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Two, and the scales, exact to the byte."""
        n = shape[0] * shape[1]
        return 16 * (packed_bytes(n, 1) + self.grain.n_scales(shape) * self.grain.scale_type.itemsize) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Planes a bit an item; scales as they are."""
        found = {key: integers(stream) for key, stream in streams.items()}
        bits = {key: unpack(streams[key], 1, shape[0] * shape[1]) for key in ("plane1", "plane2")}
        return found | bits


def planes(groups: FloatArray, first: Column, second: Column) -> tuple[BoolArray, BoolArray]:
    """The bits ``b1`` and ``b2`` of ``groups (n, m)`` under the scales ``α1`` and ``α2 (n,)``; all 0 where α1 is 0."""
    first, second = first[:, None], second[:, None]
    plane1 = (groups >= (first + second) / 2) & (first > 0)
    plane2 = (groups - first * plane1 <= second / 2) & (first > 0)
    return plane1, plane2


def fitted_scales(groups: FloatArray) -> tuple[Column, Column]:
    """``α1`` and ``α2 (n,)`` for ``groups (n, m)``: nearest level and least squares in turn."""
    first = np.abs(groups).max(axis=1)
    second = -first / 2
    for _ in range(_ROUNDS):
        plane1, plane2 = planes(groups, first, second)
        new_first, new_second = _least_squares(groups, plane1, plane2)
        ordered = (new_second < 0) & (new_first + new_second > 0)
        first, second = np.where(ordered, (new_first, new_second), (first, second))
    return first, second


def _least_squares(groups: FloatArray, plane1: BoolArray, plane2: BoolArray) -> tuple[Column, Column]:
    """The scales with the least ``Σ(w - α1·b1 - α2·b2)²`` by group; 0 where a group's planes do not fix them."""
    n1, n2, both = (np.count_nonzero(bits, axis=1) for bits in (plane1, plane2, plane1 & plane2))
    sum1, sum2 = (np.sum(groups, axis=1, dtype=np.float64, where=bits) for bits in (plane1, plane2))
    determinant = n1 * n2 - both * both
    inverse = np.where(determinant > 0, 1 / np.maximum(determinant, 1), 0)
    first, second = (n2 * sum1 - both * sum2) * inverse, (n1 * sum2 - both * sum1) * inverse
    return first.astype(np.float32), second.astype(np.float32)


def dbllm(options: str) -> DualBinary:
    """The layout of ``group64`` (default), another ``groupN``, ``channel`` or ``tensor``."""
    return DualBinary(Granularity.parse(options or "group64"))
