"""FP4 (E2M1): one scale per tensor, channel or group, or an exponent bias per channel as LLM-FP4 has it.

LLM-FP4 (Liu et al. 2023, arXiv 2310.16836) splits a channel's exponent bias into a real one of the tensor,
which is a scale, and a whole one of the channel, which is a power of two and costs the matrix product nothing:
``w = tensor_scale · 2^-bias · value(code)``. The paper searches clipping ranges on a model's outputs; here the bias is
the one of least squared error of the weights among the four that clip nothing, half, three quarters, seven eighths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from simio.quant.contract import FloatArray, Quantizer, Streams, TensorSummary, checked
from simio.quant.granularity import Granularity
from simio.quant.minifloat import E2M1
from simio.quant.packing import pack, packed_bytes, unpack, unpacked
from simio.quant.rows import divided, in_runs, magnitudes
from simio.quant.scaled_float import ScaledFloat

Whole = npt.NDArray[np.int32]

_HINT = "write for example fp4:tensor, fp4:channel, fp4:channel:bias or fp4:group16"
_TRIALS = 4
_LARGEST_BIAS = 255


@dataclass(frozen=True, slots=True)
class BiasedFp4(Quantizer):
    """E2M1 codes with an exponent bias (a byte) per output channel under one FP32 scale."""

    peak: float | None = None  # max |w| of the whole tensor, where rows come in runs

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return "fp4:channel:bias"

    def for_tensor(self, summary: TensorSummary) -> BiasedFp4:
        """With the scale of all the tensor's rows."""
        return replace(self, peak=max(summary.high, -summary.low))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed), ``biases`` (a byte a row) and ``tensor_scale`` of ``w (n_out, n_in)``."""
        x = checked(w, 1, self.name)
        row_peaks = magnitudes(x)
        peak = float(row_peaks.max()) if self.peak is None else self.peak
        tensor_scale = np.array([peak / E2M1.largest], np.float32)
        ratio = np.divide(peak, row_peaks, out=np.ones(len(x)), where=row_peaks > 0, dtype=np.float64)
        unclipped = np.frexp(ratio)[1] - 1  # floor(log2(ratio))
        unclipped = np.minimum(unclipped, _LARGEST_BIAS + 1 - _TRIALS)
        biases = in_runs(_best_biases, x, unclipped, np.broadcast_to(tensor_scale, len(x)))
        codes = E2M1.codes_under(x, np.ldexp(tensor_scale, -biases))
        return {"codes": pack(codes, 4), "biases": biases.astype(np.uint8), "tensor_scale": tensor_scale}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        codes = unpack(streams["codes"], 4, shape[0] * shape[1]).reshape(shape)
        scales = np.ldexp(streams["tensor_scale"], -streams["biases"].astype(np.int32))
        weights: FloatArray = np.take(E2M1.values(), codes, mode="clip") * scales[:, None]
        return weights

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, biases and the scale, exact to the byte."""
        n = shape[0] * shape[1]
        return 8 * (packed_bytes(n, 4) + shape[0] + 4) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; biases and scale as they are."""
        return unpacked(streams, 4, shape[0] * shape[1])


def _best_biases(x: FloatArray, unclipped: Whole, tensor_scale: FloatArray) -> Whole:
    """The bias of least squared error for each row; errors are counted in the units of the first one tried."""
    values, errors = E2M1.values(), []
    for step in range(_TRIALS):
        scaled = divided(x, np.ldexp(tensor_scale, -(unclipped + step))[:, None])
        difference = np.take(values, E2M1.codes(scaled), mode="clip") - scaled
        errors.append(np.square(difference, out=difference).sum(axis=1) * np.float32(0.25**step))
    best: Whole = unclipped + np.argmin(errors, axis=0).astype(np.int32)
    return best


def fp4(options: str) -> Quantizer:
    """The layout of ``tensor`` (default), ``channel``, ``groupN`` or ``channel:bias``."""
    if options == "channel:bias":
        return BiasedFp4()
    return ScaledFloat("fp4", E2M1, Granularity.parse(options or "tensor", "fp4", _HINT))
