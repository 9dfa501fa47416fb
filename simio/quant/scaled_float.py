"""Small floating-point codes under one scale per tensor, output channel or group: ``scale = max|w| / largest``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simio.quant.contract import FP16_MAX, FloatArray, Quantizer, Streams, TensorSummary, checked
from simio.quant.granularity import TENSOR, Granularity
from simio.quant.minifloat import MiniFloat
from simio.quant.packing import pack, packed_bytes, unpack, unpacked


@dataclass(frozen=True, slots=True)
class ScaledFloat(Quantizer):
    """Codes of ``number`` under the scales of ``grain``.

    Scales are FP32; those of FP4 groups, where 32 bits would weigh, FP16. (FP8 scales are below FP16's normal range.)
    """

    layout: str
    number: MiniFloat
    grain: Granularity
    peak: float | None = None  # max |w| of the whole tensor, where rows come in runs

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back; FP8 by itself has one scale, as in checkpoints."""
        plain = self.number.bits == 8 and self.grain == TENSOR
        return self.layout if plain else f"{self.layout}:{self.grain}"

    def for_tensor(self, summary: TensorSummary) -> ScaledFloat:
        """With the scale of all the tensor's rows, if it has only one."""
        return replace(self, peak=max(summary.high, -summary.low)) if self.grain == TENSOR else self

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed) and ``scales`` of ``w (n_out, n_in)``."""
        largest = FP16_MAX if self._scale_type == np.float16 else float("inf")
        rows = self.grain.rows(checked(w, self.grain.multiple, self.name, largest))
        peaks = self.grain.peaks(rows) if self.peak is None else np.array([self.peak], np.float32)
        scales = (peaks / np.float32(self.number.largest)).astype(self._scale_type)
        codes = self.number.codes_under(rows, scales.astype(np.float32))
        return {"codes": pack(codes, self.number.bits), "scales": scales}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: value of the code times scale."""
        codes = unpack(streams["codes"], self.number.bits, shape[0] * shape[1])
        scales = streams["scales"].astype(np.float32)
        values = np.take(self.number.values(), codes, mode="clip").reshape(len(scales), -1) * scales[:, None]
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes and scales, exact to the byte."""
        n = shape[0] * shape[1]
        scales = self.grain.n_scales(shape) * self._scale_type.itemsize
        return 8 * (packed_bytes(n, self.number.bits) + scales) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales as they are."""
        return unpacked(streams, self.number.bits, shape[0] * shape[1])

    @property
    def _scale_type(self) -> np.dtype[Any]:
        return self.grain.scale_type if self.number.bits == 4 else np.dtype(np.float32)
