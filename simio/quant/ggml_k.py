"""The K-quants Q2_K … Q6_K: super-blocks of 256 weights whose sub-block scales are themselves quantized.

Layouts as in ggml-common.h (llama.cpp, MIT), sizes in bytes:

====  =======================================================  =====
type  fields of a super-block                                  total
====  =======================================================  =====
Q2_K  scales 16 (4-bit scale, 4-bit min), qs 64, d 2, dmin 2      84
Q3_K  hmask 32, qs 64, scales 12 (6 bit), d 2                    110
Q4_K  d 2, dmin 2, scales 12 (6-bit scale and min), qs 128       144
Q5_K  d 2, dmin 2, scales 12, qh 32, qs 128                      176
Q6_K  ql 128, qh 64, scales 16 (int8), d 2                       210
====  =======================================================  =====

Every ``pack_*`` takes ``x (n, 256)`` float32 and returns the block bytes ``(n, block_bytes)``.
"""

from __future__ import annotations

import numpy as np

from simio.quant import scale_search
from simio.quant.block_fields import (
    bit_planes,
    divide,
    fp16_bytes,
    pack_nibbles,
    pack_pairs_of_bits,
    pack_signed_six_bits,
    pack_six_bits,
    signed_scales,
    unsigned_scales,
)
from simio.quant.contract import ByteArray, FloatArray
from simio.quant.scale_search import Column

#: Trials of the affine search: offsets to the number of steps (rmin, rdelta, nstep of ``make_qkx2_quants``).
_TRIALS = {2: (-0.5, 15), 4: (-1.0, 20), 5: (-0.5, 15)}


def pack_q2_k(x: FloatArray) -> ByteArray:
    """Q2_K: 16 sub-blocks of 16 weights, ``w = d·scale·code - dmin·min``, 4-bit scales and minima."""
    subs = x.reshape(-1, 16)
    codes, d, dmin, scales, mins = _affine_codes(subs, np.abs(subs), bits=2, scale_top=15, absolute=True)
    return np.concatenate(
        [scales | (mins << np.uint8(4)), pack_pairs_of_bits(codes), fp16_bytes(d), fp16_bytes(dmin)], axis=1
    )


def pack_q4_k(x: FloatArray) -> ByteArray:
    """Q4_K: 8 sub-blocks of 32 weights, ``w = d·scale·code - dmin·min``, 6-bit scales and minima."""
    codes, head = _affine_head(x, bits=4)
    return np.concatenate([head, pack_nibbles(codes)], axis=1)


def pack_q5_k(x: FloatArray) -> ByteArray:
    """Q5_K: as Q4_K with the fifth bits apart; bit j of ``qh[l]`` belongs to weight l of sub-block j."""
    codes, head = _affine_head(x, bits=5)
    high = bit_planes(codes.reshape(-1, 8, 32) >> np.uint8(4))
    return np.concatenate([head, high, pack_nibbles(codes & np.uint8(15))], axis=1)


def pack_q3_k(x: FloatArray) -> ByteArray:
    """Q3_K: 16 sub-blocks of 16 weights, ``w = d·scale·(code - 4)``, 6-bit scales, third bits in ``hmask``."""
    scales = scale_search.refined(x.reshape(-1, 16), top=4).reshape(-1, 16)
    d, quantized = signed_scales(scales, 32)
    codes = _symmetric_codes(x, d, quantized, top=4)
    hmask, qs = bit_planes(codes.reshape(-1, 8, 32) >> np.uint8(2)), pack_pairs_of_bits(codes & np.uint8(3))
    return np.concatenate([hmask, qs, pack_signed_six_bits(quantized), fp16_bytes(d)], axis=1)


def pack_q6_k(x: FloatArray) -> ByteArray:
    """Q6_K: 16 sub-blocks of 16 weights, ``w = d·scale·(code - 32)``, int8 scales; low 4 and high 2 bits apart."""
    scales = scale_search.symmetric(x.reshape(-1, 16), top=32).reshape(-1, 16)
    d, quantized = signed_scales(scales, 128)
    codes = _symmetric_codes(x, d, quantized, top=32).reshape(-1, 2, 2, 64)
    low = codes & np.uint8(15)
    ql = (low[:, :, 0] | (low[:, :, 1] << np.uint8(4))).reshape(-1, 128)
    qh = pack_pairs_of_bits(codes >> np.uint8(4))
    return np.concatenate([ql, qh, quantized.astype(np.int8).view(np.uint8), fp16_bytes(d)], axis=1)


def _affine_head(x: FloatArray, bits: int) -> tuple[ByteArray, ByteArray]:
    """Codes ``(n, 256)`` and the first 16 bytes (d, dmin, 6-bit scales) of a Q4_K or Q5_K block."""
    subs = x.reshape(-1, 32)
    rms = np.sqrt(np.einsum("ij,ij->i", subs, subs) / np.float32(32))
    codes, d, dmin, scales, mins = _affine_codes(subs, rms[:, None] + np.abs(subs), bits, scale_top=63, absolute=False)
    return codes, np.concatenate([fp16_bytes(d), fp16_bytes(dmin), pack_six_bits(scales, mins)], axis=1)


def _affine_codes(
    subs: FloatArray, weights: FloatArray, bits: int, scale_top: int, absolute: bool
) -> tuple[ByteArray, Column, Column, ByteArray, ByteArray]:
    """Codes ``(n, 256)``, d, dmin ``(n,)`` and the quantized scales and minima ``(n, 256 / sub-block)``."""
    top = (1 << bits) - 1
    first, n_steps = _TRIALS[bits]
    trials = [first + 0.1 * step for step in range(n_steps + 1)]
    scale, low = scale_search.affine(subs, weights, top, trials, absolute)
    per_block = 256 // subs.shape[1]
    d, scales = unsigned_scales(scale.reshape(-1, per_block), scale_top)
    dmin, mins = unsigned_scales(-low.reshape(-1, per_block), scale_top)
    step, offset = (d[:, None] * scales).reshape(-1, 1), (dmin[:, None] * mins).reshape(-1, 1)
    codes = np.clip(np.rint(divide(subs + offset, step)), 0, top).astype(np.uint8)
    return codes.reshape(-1, 256), d, dmin, scales, mins


def _symmetric_codes(x: FloatArray, d: Column, quantized: FloatArray, top: int) -> ByteArray:
    """Codes ``(n, 256)`` with offset ``top``."""
    subs = x.reshape(-1, 16, 16)
    codes = np.clip(np.rint(divide(subs, (d[:, None] * quantized)[:, :, None])), -top, top - 1)
    return (codes + top).astype(np.uint8).reshape(-1, 256)
