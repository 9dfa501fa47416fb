"""What the blocks of ggml types hold, field by field: the integer code of every weight, and the block's scales.

Layouts as in ggml-common.h (llama.cpp, MIT). With d = ``scales`` where blocks have one scale, and
d = ``super_scales·(scales - offset)`` in super-blocks, a weight is

=======================  ====================================================================================
Q8_0                     ``d·code`` (INT8, two's complement)
Q4_0, Q5_0               ``d·(code - 8)``, ``d·(code - 16)``
Q4_1, Q5_1               ``d·code + min``, FP16 ``mins``
Q2_K, Q4_K, Q5_K         ``d·code - super_min·min``, offset 0: 4-bit scales and minima (Q2_K) or 6-bit ones
Q3_K, Q6_K               ``d·(code - 4)``, 6-bit scales, offset 32; ``d·(code - 32)``, INT8 scales (two's complement)
IQ4_NL, IQ4_XS           ``d·LEVELS[code]`` of :mod:`simio.quant.ggml_iq4`; IQ4_XS: 6-bit scales, offset 32
MXFP4                    ``2^(scale - 127)·e2m1[code]``, the top bit of a code its sign
TQ1_0, TQ2_0             ``d·(code - 1)``, ternary
F32, F16, BF16           the values' bits, as ``codes``
=======================  ====================================================================================

FP16 scales are given as ``uint16``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from simio.quant.contract import ByteArray, Streams
from simio.records.weight_types import weight_type


def symbols(data: ByteArray, dtype: str) -> Streams:
    """The fields of the blocks ``data`` of ggml type ``dtype``, flat, in the order of the weights."""
    if dtype in _PLAIN:
        return {"codes": data.view(_PLAIN[dtype])}
    blocks = data.view(np.uint8).reshape(-1, weight_type(dtype).block_bytes)
    return {key: np.ascontiguousarray(field).reshape(-1) for key, field in _FIELDS[dtype](blocks).items()}


def _q8_0(blocks: ByteArray) -> Streams:
    d, codes = _cut(blocks, 2, 32)
    return {"codes": codes, "scales": _half(d)}


def _q4_0(blocks: ByteArray) -> Streams:
    d, qs = _cut(blocks, 2, 16)
    return {"codes": _spread(qs, 4, 16), "scales": _half(d)}


def _q4_1(blocks: ByteArray) -> Streams:
    d, m, qs = _cut(blocks, 2, 2, 16)
    return {"codes": _spread(qs, 4, 16), "scales": _half(d), "mins": _half(m)}


def _q5_0(blocks: ByteArray) -> Streams:
    d, qh, qs = _cut(blocks, 2, 4, 16)
    return {"codes": _spread(qs, 4, 16) | (_spread(qh, 1, 1) << np.uint8(4)), "scales": _half(d)}


def _q5_1(blocks: ByteArray) -> Streams:
    d, m, qh, qs = _cut(blocks, 2, 2, 4, 16)
    codes = _spread(qs, 4, 16) | (_spread(qh, 1, 1) << np.uint8(4))
    return {"codes": codes, "scales": _half(d), "mins": _half(m)}


def _q2_k(blocks: ByteArray) -> Streams:
    scales, qs, d, dmin = _cut(blocks, 16, 64, 2, 2)
    fields = {"codes": _spread(qs, 2, 32), "scales": scales & np.uint8(15), "mins": scales >> np.uint8(4)}
    return fields | {"super_scales": _half(d), "super_mins": _half(dmin)}


def _q3_k(blocks: ByteArray) -> Streams:
    hmask, qs, scales, d = _cut(blocks, 32, 64, 12, 2)
    codes = _spread(qs, 2, 32) | (_spread(hmask, 1, 32) << np.uint8(2))
    unpacked = _spread(scales[:, :8], 4, 8) | (_spread(scales[:, 8:], 2, 4) << np.uint8(4))
    return {"codes": codes, "scales": unpacked, "super_scales": _half(d)}


def _q4_k(blocks: ByteArray) -> Streams:
    head, qs = _cut(blocks, 16, 128)
    return {"codes": _spread(qs, 4, 32)} | _six_bit_head(head)


def _q5_k(blocks: ByteArray) -> Streams:
    head, qh, qs = _cut(blocks, 16, 32, 128)
    return {"codes": _spread(qs, 4, 32) | (_spread(qh, 1, 32) << np.uint8(4))} | _six_bit_head(head)


def _q6_k(blocks: ByteArray) -> Streams:
    ql, qh, scales, d = _cut(blocks, 128, 64, 16, 2)
    codes = _spread(ql, 4, 64) | (_spread(qh, 2, 32) << np.uint8(4))
    return {"codes": codes, "scales": scales, "super_scales": _half(d)}


def _iq4_xs(blocks: ByteArray) -> Streams:
    d, high, low, qs = _cut(blocks, 2, 2, 4, 128)
    scales = _spread(low, 4, 1) | (_spread(high, 2, 1) << np.uint8(4))
    return {"codes": _spread(qs, 4, 16), "scales": scales, "super_scales": _half(d)}


def _mxfp4(blocks: ByteArray) -> Streams:
    exponents, qs = _cut(blocks, 1, 16)
    return {"codes": _spread(qs, 4, 16), "scales": exponents}


def _tq1_0(blocks: ByteArray) -> Streams:
    first, second, last, d = _cut(blocks, 32, 16, 4, 2)
    codes = np.concatenate([_digits(first, 5), _digits(second, 5), _digits(last, 4)], axis=1)
    return {"codes": codes, "scales": _half(d)}


def _tq2_0(blocks: ByteArray) -> Streams:
    qs, d = _cut(blocks, 64, 2)
    return {"codes": _spread(qs, 2, 32), "scales": _half(d)}


def _six_bit_head(head: ByteArray) -> Streams:
    """d, dmin and the 12 bytes of 8 scales and 8 minima that ``get_scale_min_k4`` reads."""
    d, dmin, scales, mins, rest = _cut(head, 2, 2, 4, 4, 4)
    high = np.uint8(0x30)
    return {
        "scales": np.concatenate([scales & 63, (rest & 15) | ((scales >> np.uint8(2)) & high)], axis=1),
        "mins": np.concatenate([mins & 63, (rest >> np.uint8(4)) | ((mins >> np.uint8(2)) & high)], axis=1),
        "super_scales": _half(d),
        "super_mins": _half(dmin),
    }


def _cut(blocks: ByteArray, *sizes: int) -> Iterator[ByteArray]:
    """Neighbouring fields of ``sizes`` bytes."""
    start = 0
    for size in sizes:
        yield blocks[:, start : start + size]
        start += size


def _half(field: ByteArray) -> ByteArray:
    return np.ascontiguousarray(field).view("<u2")


def _spread(field: ByteArray, bits: int, run: int) -> ByteArray:
    """Codes of ``bits`` bits: byte l of each ``run`` of bytes holds codes l, l + run, l + 2·run …, low bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    codes: ByteArray = (field.reshape(len(field), -1, 1, run) >> shifts) & np.uint8((1 << bits) - 1)
    return codes.reshape(len(field), -1)


def _digits(field: ByteArray, n_digits: int) -> ByteArray:
    """Base-3 digits of fixed-point bytes, the first in every byte before the second: ``(byte·3^k mod 256)·3 >> 8``."""
    shifted = field[:, None, :] * np.array([3**k for k in range(n_digits)], np.uint8)[:, None]
    digits: ByteArray = ((shifted.astype(np.uint16) * 3) >> 8).astype(np.uint8)
    return digits.reshape(len(field), -1)


_PLAIN = {"F32": "<u4", "F16": "<u2", "BF16": "<u2"}

_FIELDS: dict[str, Callable[[ByteArray], Streams]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _q4_0,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
}
