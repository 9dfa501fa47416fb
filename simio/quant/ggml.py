"""The ggml layouts: one stream ``data`` of block bytes, identical in layout to what a GGUF file holds.

``F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 MXFP4 TQ1_0 TQ2_0`` are quantized by the ``gguf`` package; ``Q2_K … Q6_K``,
``IQ4_NL`` and ``IQ4_XS``, which it only dequantizes, by :mod:`simio.quant.ggml_k` and :mod:`simio.quant.ggml_iq4`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.quant import ggml_iq4, ggml_k, ggml_symbols
from simio.quant.contract import FP16_MAX, ByteArray, FloatArray, Quantizer, Streams, checked, fixed
from simio.records.weight_types import weight_type

#: From quant blocks ``(n, block_weights)`` to their bytes ``(n, block_bytes)``.
Packer = Callable[[FloatArray], ByteArray]

#: Weights packed at a time: the arrays of the scale search stay in the processor's cache.
_BATCH_WEIGHTS = 1 << 17

_WIDE = ("F32", "BF16", "MXFP4")  # no FP16 number inside


@dataclass(frozen=True, slots=True)
class Ggml(Quantizer):
    """The ggml type ``dtype``; ``pack`` makes its blocks, or None where the ``gguf`` package does."""

    dtype: str
    pack: Packer | None = None

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return self.dtype.lower()

    def quantize(self, w: FloatArray) -> Streams:
        """``{"data": block bytes}`` of ``w (n_out, n_in)``; rows must be whole blocks."""
        largest = float("inf") if self.dtype in _WIDE else FP16_MAX
        n_weights = weight_type(self.dtype).block_weights
        x = checked(w, n_weights, self.name, largest)
        if self.pack is None:
            return {"data": _with_gguf(x, self.dtype)}
        return {"data": _in_batches(self.pack, x.reshape(-1, n_weights))}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``, by the ``gguf`` package."""
        from gguf import GGMLQuantizationType, quants

        rows = streams["data"].view(np.uint8).reshape(shape[0], -1)
        weights: npt.NDArray[Any] = quants.dequantize(rows, GGMLQuantizationType[self.dtype])
        return weights.astype(np.float32, copy=False).reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight, block scales included; the same for every shape of whole blocks."""
        return weight_type(self.dtype).bits_per_weight

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """``codes`` of the weights, ``scales`` and what else a block holds, by :mod:`simio.quant.ggml_symbols`."""
        return ggml_symbols.symbols(streams["data"].view(np.uint8), self.dtype)


def _in_batches(pack: Packer, blocks: FloatArray) -> ByteArray:
    step = max(1, _BATCH_WEIGHTS // blocks.shape[1])
    parts = [pack(blocks[start : start + step]) for start in range(0, len(blocks), step)]
    return np.concatenate(parts).reshape(-1)


def _with_gguf(x: FloatArray, dtype: str) -> ByteArray:
    from gguf import GGMLQuantizationType, quants

    data: npt.NDArray[Any] = quants.quantize(x, GGMLQuantizationType[dtype])
    return np.ascontiguousarray(data).view(np.uint8).reshape(-1)


f32 = fixed("f32", Ggml("F32"))
f16 = fixed("f16", Ggml("F16"))
bf16 = fixed("bf16", Ggml("BF16"))
q8_0 = fixed("q8_0", Ggml("Q8_0"))
q4_0 = fixed("q4_0", Ggml("Q4_0"))
q4_1 = fixed("q4_1", Ggml("Q4_1"))
q5_0 = fixed("q5_0", Ggml("Q5_0"))
q5_1 = fixed("q5_1", Ggml("Q5_1"))
mxfp4 = fixed("mxfp4", Ggml("MXFP4"))
tq1_0 = fixed("tq1_0", Ggml("TQ1_0"))
tq2_0 = fixed("tq2_0", Ggml("TQ2_0"))
q2_k = fixed("q2_k", Ggml("Q2_K", ggml_k.pack_q2_k))
q3_k = fixed("q3_k", Ggml("Q3_K", ggml_k.pack_q3_k))
q4_k = fixed("q4_k", Ggml("Q4_K", ggml_k.pack_q4_k))
q5_k = fixed("q5_k", Ggml("Q5_K", ggml_k.pack_q5_k))
q6_k = fixed("q6_k", Ggml("Q6_K", ggml_k.pack_q6_k))
iq4_nl = fixed("iq4_nl", Ggml("IQ4_NL", ggml_iq4.pack_iq4_nl))
iq4_xs = fixed("iq4_xs", Ggml("IQ4_XS", ggml_iq4.pack_iq4_xs))
