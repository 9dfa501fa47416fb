"""IQ4_NL and IQ4_XS: 4-bit codes into a fixed non-linear codebook, with FP16 or two-level scales.

Layouts as in ggml-common.h (llama.cpp, MIT): IQ4_NL is ``d 2, qs 16`` for 32 weights; IQ4_XS is ``d 2, scales_h 2,
scales_l 4, qs 128`` for 256 weights, with signed 6-bit scales of 8 sub-blocks.
"""

from __future__ import annotations

import numpy as np

from simio.quant import scale_search
from simio.quant.block_fields import as_stored, divide, fp16_bytes, signed_scales
from simio.quant.contract import ByteArray, FloatArray

#: ``kvalues_iq4nl`` of ggml-common.h.
LEVELS = scale_search.Levels((-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113))


def pack_iq4_nl(x: FloatArray) -> ByteArray:
    """``x (n, 32)`` → ``(n, 18)``: ``w = d·LEVELS[code]``."""
    d = as_stored(scale_search.codebook(x, LEVELS))
    return np.concatenate([fp16_bytes(d), _codes(x, d[:, None])], axis=1)


def pack_iq4_xs(x: FloatArray) -> ByteArray:
    """``x (n, 256)`` → ``(n, 136)``: ``w = d·scale·LEVELS[code]``, one scale for 32 weights."""
    subs = x.reshape(-1, 32)
    d, scales = signed_scales(scale_search.codebook(subs, LEVELS).reshape(-1, 8), 32)
    codes = _codes(subs, (d[:, None] * scales).reshape(-1, 1))
    raw = (scales + 32).astype(np.uint16)
    low = (raw & 15).astype(np.uint8)
    high = (raw >> 4) << np.arange(0, 16, 2, dtype=np.uint16)
    scales_h = np.bitwise_or.reduce(high, axis=1).astype("<u2").view(np.uint8).reshape(-1, 2)
    scales_l = low[:, 0::2] | (low[:, 1::2] << np.uint8(4))
    return np.concatenate([fp16_bytes(d), scales_h, scales_l, codes.reshape(-1, 128)], axis=1)


def _codes(subs: FloatArray, scale: FloatArray) -> ByteArray:
    """Codes of ``subs (n, 32)``, weight l beside weight l + 16 in byte l."""
    index = LEVELS.nearest(divide(subs, scale))
    return index[:, :16] | (index[:, 16:] << np.uint8(4))
