"""DB-LLM: 2-bit weights as two sparse binary planes (arXiv 2402.11960, flexible dual binarization).

``w ≈ α1·b1 + α2·b2`` with bits b1, b2 of 0 or 1 and ``α1 > -α2 > 0``, so the levels are ``α2 < 0 < α1 + α2 < α1``. With
the Heaviside step H the paper has ``b1 = H(w - (α1 + α2) / 2)`` and ``b2 = H(-(w - α1·b1 - α2 / 2))``: the nearest
level. It starts from ``α1 = 2s``, ``α2 = -s``, the 2-bit grid of scale s, and learns both by distillation; here nearest
level and least squares take turns, from ``s = 1.3·mean|w|``, which is near the fit of Gaussian and of t4 weights.

The planes lie apart for a lossless coder to find their zeros. How many there are is the scales' doing: of Gaussian
weights in groups of 64 these leave 0.66 of the first plane's bits 0 and 0.45 of the second's, of t5 weights 0.69 and
0.51; scales of ``s = max|w| / 2`` would leave 0.74 and 0.51 of Gaussian weights, at a larger error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simio.quant.contract import FloatArray, Quantizer, Streams, integers
from simio.quant.granularity import TENSOR, Granularity
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.rows import mean_magnitudes

GROUP64 = Granularity(64)
_ROUNDS = 8  # of the alternating fit
_START = 1.3  # s / mean|w|
_INERTIA = 1e-3  # least squares also weighs a step away from the last scales: planes may leave one of them open

BoolArray = npt.NDArray[np.bool_]
Column = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DualBinary(Quantizer):
    """``grain`` says which weights share the two scales."""

    grain: Granularity = GROUP64

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"dbllm:{self.grain}"

    @property
    def rows_apart(self) -> bool:
        """Not with one pair of scales fitted to all rows."""
        return self.grain != TENSOR

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
        return 16 * (packed_bytes(n, 1) + self.grain.scale_bytes(shape)) / n

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
    scale = (_START * mean_magnitudes(groups)).astype(np.float32)
    first, second = 2 * scale, -scale
    for _ in range(_ROUNDS):
        new_first, new_second = _least_squares(groups, first, second)
        ordered = (new_second < 0) & (new_first + new_second > 0)
        first, second = np.where(ordered, (new_first, new_second), (first, second))
    return first, second


def _least_squares(groups: FloatArray, first: Column, second: Column) -> tuple[Column, Column]:
    """The scales with the least ``Σ(w - α1·b1 - α2·b2)²`` by group, for the planes of ``first`` and ``second``."""
    plane1, plane2 = planes(groups, first, second)
    n1, n2, both = (np.count_nonzero(bits, axis=1) for bits in (plane1, plane2, plane1 & plane2))
    sum1, sum2 = (np.einsum("ij,ij->i", groups, bits, dtype=np.float64) for bits in (plane1, plane2))
    n1, n2, sum1, sum2 = n1 + _INERTIA, n2 + _INERTIA, sum1 + _INERTIA * first, sum2 + _INERTIA * second
    determinant = n1 * n2 - both * both
    new_first, new_second = (n2 * sum1 - both * sum2) / determinant, (n1 * sum2 - both * sum1) / determinant
    return new_first.astype(np.float32), new_second.astype(np.float32)


def dbllm(options: str) -> DualBinary:
    """The layout of ``group64`` (default), another ``groupN``, ``channel`` or ``tensor``."""
    return DualBinary(Granularity.parse(options or "group64", "dbllm"))
