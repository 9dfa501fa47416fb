"""PB-LLM: most weights binary, a salient share of them in 8 bits, and a mask that says which (arXiv 2310.00034).

The salient weights are the largest by magnitude or, once calibrated, by ``w² / [H⁻¹]_jj²`` (the authors' code takes
both measures over the whole matrix, as here). Binary weights get a scale per output channel, ``α = mean|w|`` over the
channel's binary weights (the least squares scale); salient ones are symmetric absmax INT8 per channel. Both scales are
FP32. With a share f this is ``1 + (1 - f) + 8f`` bits a weight, 2.7 for f = 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from simio.quant.binary import sign_bits, signs
from simio.quant.contract import Activations, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.salience import BoolArray, fits, hessian_salience, highest, read_share

_HINT = "write for example pbllm:0.1"
_TOP = 127  # the largest INT8 code


@dataclass(frozen=True, slots=True)
class PartiallyBinary(Quantizer):
    """``share`` of the weights are salient."""

    share: float = 0.1
    salience: FloatArray | None = field(default=None, compare=False, repr=False)  # what |w| counts, by input channel

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"pbllm:{self.share}"

    @property
    def rows_apart(self) -> bool:
        """False: the salient weights are those of the whole matrix."""
        return False

    def calibrated(self, activations: Activations) -> PartiallyBinary:
        """With salience measured by the Hessian."""
        return replace(self, salience=hessian_salience(activations))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams of ``w (n_out, n_in)``: ``mask`` (a bit a weight), ``codes`` (signs of the binary weights) with
        ``scales``, ``salient_codes`` (INT8) with ``salient_scales``. Codes follow the order of the weights.
        """
        x = checked(w, 1, self.name)
        fits(self.salience, x.shape[1], self.name)
        magnitudes = np.abs(x)
        scores = magnitudes if self.salience is None else magnitudes * self.salience
        mask = highest(scores, self._n_salient(x.shape)).reshape(x.shape)
        scales = _means(magnitudes, ~mask)
        steps = np.max(magnitudes, axis=1, where=mask, initial=0) / np.float32(_TOP)
        step = np.broadcast_to(steps[:, None], x.shape)[mask]
        codes = np.rint(np.divide(x[mask], step, out=np.zeros_like(step), where=step > 0))
        return {
            "mask": pack(mask.view(np.uint8), 1),
            "codes": sign_bits(x[~mask]),
            "scales": scales,
            "salient_codes": np.clip(codes, -_TOP, _TOP).astype(np.int8).view(np.uint8),
            "salient_scales": steps,
        }

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        mask = unpack(streams["mask"], 1, shape[0] * shape[1]).view(np.bool_).reshape(shape)
        values = np.empty(shape, np.float32)
        values[mask] = streams["salient_codes"].view(np.int8)
        values[~mask] = signs(streams["codes"], mask.size - self._n_salient(shape))
        values *= np.where(mask, streams["salient_scales"][:, None], streams["scales"][:, None])
        return values

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: mask, signs, salient codes and scales, exact to the byte."""
        n, n_salient = shape[0] * shape[1], self._n_salient(shape)
        return 8 * (packed_bytes(n, 1) + packed_bytes(n - n_salient, 1) + n_salient + 2 * 4 * shape[0]) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Mask and signs a bit an item; the rest as it is."""
        n = shape[0] * shape[1]
        found = {key: integers(stream) for key, stream in streams.items()}
        found["mask"] = unpack(streams["mask"], 1, n)
        found["codes"] = unpack(streams["codes"], 1, n - self._n_salient(shape))
        return found

    def _n_salient(self, shape: tuple[int, ...]) -> int:
        return round(self.share * shape[0] * shape[1])


def _means(magnitudes: FloatArray, where: BoolArray) -> npt.NDArray[np.float32]:
    """Mean of each row of ``magnitudes`` over ``where``; 0 for a row without any."""
    totals = np.sum(magnitudes, axis=1, dtype=np.float64, where=where)
    means: npt.NDArray[np.float32] = (totals / np.maximum(np.count_nonzero(where, axis=1), 1)).astype(np.float32)
    return means


def pbllm(options: str) -> PartiallyBinary:
    """The layout with a salient share of the weights, 0.1 unless ``options`` tell it."""
    return PartiallyBinary(read_share(options or "0.1", "pbllm", _HINT))
