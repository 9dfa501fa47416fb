"""NVFP4: FP4 (E2M1) in groups of 16 with FP8 (E4M3) scales under one FP32 scale: 4.5 bits a weight and 4 bytes.

NVIDIA, Pretraining Large Language Models with NVFP4, arXiv 2509.25149; the weights of
TensorRT Model Optimizer's ``NVFP4QTensor``. With E2M1's largest value 6 and E4M3's 448,
``tensor_scale = max|w| / (6·448)``, ``scale = E4M3(max_group|w| / (6·tensor_scale))``, and a weight is
``tensor_scale · scale · value(code)``. Codes are computed from the scales as stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simio.quant.contract import FloatArray, Quantizer, Streams, TensorSummary, checked, fixed
from simio.quant.minifloat import E2M1, E4M3
from simio.quant.packing import pack, packed_bytes, unpack, unpacked
from simio.quant.rows import divided, magnitudes

GROUP = 16


@dataclass(frozen=True, slots=True)
class NvFp4(Quantizer):
    """E2M1 codes, an E4M3 scale for 16 of them, and an FP32 scale."""

    peak: float | None = None  # max |w| of the whole tensor, where rows come in runs

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return "nvfp4"

    def for_tensor(self, summary: TensorSummary) -> NvFp4:
        """With the scale of all the tensor's rows."""
        return replace(self, peak=max(summary.high, -summary.low))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed), ``scales`` (E4M3, a byte a group) and ``tensor_scale`` of ``w (n_out, n_in)``."""
        groups = checked(w, GROUP, self.name).reshape(-1, GROUP)
        peaks = magnitudes(groups)
        peak = float(peaks.max()) if self.peak is None else self.peak
        tensor_scale = np.array([peak / (E2M1.largest * E4M3.largest)], np.float32)
        scales = E4M3.codes(divided(peaks / np.float32(E2M1.largest), tensor_scale))
        codes = E2M1.codes_under(groups, E4M3.values()[scales] * tensor_scale)
        return {"codes": pack(codes, 4), "scales": scales, "tensor_scale": tensor_scale}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        codes = unpack(streams["codes"], 4, shape[0] * shape[1]).reshape(-1, GROUP)
        scales = E4M3.values()[streams["scales"]] * streams["tensor_scale"]
        weights: FloatArray = np.take(E2M1.values(), codes, mode="clip") * scales[:, None]
        return weights.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes and both scales, exact to the byte."""
        n = shape[0] * shape[1]
        return 8 * (packed_bytes(n, 4) + n // GROUP + 4) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales as they are."""
        return unpacked(streams, 4, shape[0] * shape[1])


nvfp4 = fixed("nvfp4", NvFp4())
