"""Binary weights: a sign, and one scale per tensor, output channel or group.

Binary-Weight-Networks (XNOR-Net, arXiv 1603.05279, section 3.1): ``w ≈ α·sign(w)`` with ``α = mean|w|``, the least
squares scale. The sign of 0 is +1. Bits are 1 for +1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simio.quant.contract import ByteArray, FloatArray, Quantizer, Streams, TensorSummary, integers
from simio.quant.granularity import CHANNEL, TENSOR, Granularity
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.rows import mean_magnitudes


@dataclass(frozen=True, slots=True)
class Binary(Quantizer):
    """``grain`` says which weights share a scale."""

    grain: Granularity = CHANNEL
    mean_magnitude: float | None = None  # of the whole tensor, where rows come in runs

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"binary:{self.grain}"

    def for_tensor(self, summary: TensorSummary) -> Binary:
        """With one scale for the tensor: that of all its rows."""
        return replace(self, mean_magnitude=summary.mean_magnitude) if self.grain == TENSOR else self

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (sign bits) and ``scales`` of ``w (n_out, n_in)``."""
        groups = self.grain.split(w, self.name)
        means = mean_magnitudes(groups) if self.mean_magnitude is None else np.array([self.mean_magnitude])
        return {"codes": sign_bits(groups), "scales": means.astype(self.grain.scale_type)}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: plus or minus the scale."""
        values = signs(streams["codes"], shape[0] * shape[1]).reshape(self.grain.n_scales(shape), -1)
        values *= streams["scales"].astype(np.float32)[:, None]
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: signs and scales, exact to the byte."""
        n = shape[0] * shape[1]
        return 8 * (packed_bytes(n, 1) + self.grain.scale_bytes(shape)) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Sign bits one an item; scales as they are."""
        return {
            "codes": unpack(streams["codes"], 1, shape[0] * shape[1]),
            "scales": integers(streams["scales"]),
        }


def sign_bits(values: FloatArray) -> ByteArray:
    """1 where ``values`` (any shape) are not negative, packed, flat."""
    return pack((values >= 0).view(np.uint8), 1)


def signs(packed: ByteArray, n: int) -> FloatArray:
    """The ``n`` signs inside ``packed`` as ±1."""
    values: FloatArray = unpack(packed, 1, n).astype(np.float32) * np.float32(2) - np.float32(1)
    return values


def binary(options: str) -> Binary:
    """The layout of ``channel`` (default), ``tensor`` or ``groupN``."""
    return Binary(Granularity.parse(options or "channel", "binary"))
