"""The fields of a ggml block: scales quantized under an FP16 unit, and codes of a few bits spread over bytes.

Layouts as in ggml-common.h and ggml-quants.c (llama.cpp, MIT). Codes are ``uint8``, one a weight.
"""

from __future__ import annotations

import numpy as np

from simio.quant.contract import ByteArray, FloatArray
from simio.quant.scale_search import Column


def unsigned_scales(values: FloatArray, top: int) -> tuple[Column, ByteArray]:
    """The FP16 unit ``d (n,)``, as float32, and ``values ≈ d·q`` with q 0 … ``top``."""
    peak = np.maximum(values.max(axis=1), 0)
    q = np.clip(np.rint(divide(values * np.float32(top), peak[:, None])), 0, top).astype(np.uint8)
    return as_stored(peak / np.float32(top)), q


def signed_scales(values: FloatArray, top: int) -> tuple[Column, FloatArray]:
    """As :func:`unsigned_scales` with q ``-top`` … ``top - 1``: the value of largest magnitude becomes ``-top``."""
    where = np.abs(values).argmax(axis=1)
    unit = np.take_along_axis(values, where[:, None], axis=1)[:, 0] / np.float32(-top)
    return as_stored(unit), np.clip(np.rint(divide(values, unit[:, None])), -top, top - 1)


def pack_six_bits(scales: ByteArray, mins: ByteArray) -> ByteArray:
    """8 scales and 8 minima of 6 bits in 12 bytes (``get_scale_min_k4`` reads them)."""
    first = scales[:, :4] | (scales[:, 4:] >> np.uint8(4) << np.uint8(6))
    second = mins[:, :4] | (mins[:, 4:] >> np.uint8(4) << np.uint8(6))
    third = (scales[:, 4:] & np.uint8(15)) | ((mins[:, 4:] & np.uint8(15)) << np.uint8(4))
    return np.concatenate([first, second, third], axis=1)


def pack_signed_six_bits(quantized: FloatArray) -> ByteArray:
    """16 signed 6-bit scales in 12 bytes: low nibbles of j and j + 8, then high pairs of j, j + 4, j + 8, j + 12."""
    raw = (quantized + 32).astype(np.uint8)
    low = (raw[:, :8] & np.uint8(15)) | ((raw[:, 8:] & np.uint8(15)) << np.uint8(4))
    return np.concatenate([low, _shifted_or((raw >> np.uint8(4)).reshape(-1, 4, 4), 2)], axis=1)


def pack_nibbles(codes: ByteArray) -> ByteArray:
    """``(n, 256)`` codes of 4 bits: 32 low nibbles beside the next 32 as high nibbles."""
    return _shifted_or(codes.reshape(-1, 2, 32), 4).reshape(-1, 128)


def pack_pairs_of_bits(codes: ByteArray) -> ByteArray:
    """256 codes of 2 bits in 64 bytes: each byte takes weight l of four runs of 32."""
    return _shifted_or(codes.reshape(-1, 4, 32), 2).reshape(-1, 64)


def bit_planes(bits: ByteArray) -> ByteArray:
    """``(n, 8, 32)`` bits: bit j of byte l is ``bits[:, j, l]``."""
    return _shifted_or(bits, 1)


def _shifted_or(parts: ByteArray, shift: int) -> ByteArray:
    """``Σ_k parts[:, k] << (k·shift)`` for ``parts (n, k, m)``."""
    out = np.zeros((parts.shape[0], parts.shape[2]), np.uint8)
    for k in range(parts.shape[1]):
        out |= parts[:, k] << np.uint8(k * shift)
    return out


def as_stored(values: Column) -> Column:
    """``values`` after a round trip through FP16."""
    return values.astype(np.float16).astype(np.float32)


def fp16_bytes(values: Column) -> ByteArray:
    """The two bytes of each of ``values (n,)`` as FP16, ``(n, 2)``."""
    return values.astype(np.float16).view(np.uint8).reshape(-1, 2)


def divide(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a / b``, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape), np.float32), where=b != 0)
