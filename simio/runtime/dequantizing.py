"""Stored rows of a weight matrix become float32, with as few passes over memory as numpy allows.

An expander writes ``values`` into ``out`` and returns ``mins`` or nothing: the weights are ``values - mins``, one
minimum for each run of ``n_cols / mins.shape[1]`` columns. Minima stay apart because ``(values - mins)·x`` needs only
the sum of ``x`` over each run. Layouts as in ggml-common.h and ``dequantize_row_*`` of ggml-quants.c (llama.cpp).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import Streams
from simio.records.weight_types import WEIGHT_TYPES

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

#: rows (n_rows, row_bytes), out (n_rows, n_cols) → mins (n_rows, n_runs) or nothing
Expander = Callable[[ByteArray, FloatArray], FloatArray | None]

_LOCAL = threading.local()


def scratch(name: str, n_items: int, dtype: Any) -> npt.NDArray[Any]:
    """``n_items`` of uninitialized memory of this thread; the same memory for every call with this ``name``."""
    held: npt.NDArray[Any] | None = getattr(_LOCAL, name, None)
    if held is None or held.size < n_items:
        held = np.empty(n_items, dtype)
        setattr(_LOCAL, name, held)
    return held[:n_items]


def expander(dtype: str) -> Expander:
    """The way from ``dtype`` to float32; raises ``UsageError`` for a type that has none."""
    found = _FAST.get(dtype) or _from_gguf(dtype)
    if found is None:
        raise UsageError(
            f"weights stored as {dtype} cannot be computed with", f"types that can: {', '.join(sorted(known_dtypes()))}"
        )
    return found


def known_dtypes() -> list[str]:
    """The stored types that can be computed with."""
    return [dtype for dtype in WEIGHT_TYPES if dtype in _FAST or _from_gguf(dtype) is not None]


def _f32(rows: ByteArray, out: FloatArray) -> None:
    out[...] = rows.view("<f4")


def _f16(rows: ByteArray, out: FloatArray) -> None:
    out[...] = rows.view("<f2")


def _bf16(rows: ByteArray, out: FloatArray) -> None:
    bits = out.view(np.uint32)
    bits[...] = rows.view("<u2")
    np.left_shift(bits, 16, out=bits)


def _i8(rows: ByteArray, out: FloatArray) -> None:
    out[...] = rows.view(np.int8)


def _f8_e4m3(rows: ByteArray, out: FloatArray) -> None:
    np.take(_fp8_values("f8_e4m3"), rows, out=out, mode="clip")


def _f8_e5m2(rows: ByteArray, out: FloatArray) -> None:
    np.take(_fp8_values("f8_e5m2"), rows, out=out, mode="clip")


@cache
def _fp8_values(name: str) -> FloatArray:
    from simio.quant import parse

    codes: Streams = {"codes": np.arange(256, dtype=np.uint8), "scales": np.ones(1, np.float32)}
    values: FloatArray = parse(name).dequantize(codes, (1, 256))[0]
    return values


def _q8_0(rows: ByteArray, out: FloatArray) -> None:
    """34 bytes: an FP16 scale, 32 int8."""
    blocks, values = rows.reshape(-1, 34), out.reshape(-1, 32)
    values[...] = blocks[:, 2:].view(np.int8)
    np.multiply(values, _halves(blocks[:, :2]), out=values)


def _q4_0(rows: ByteArray, out: FloatArray) -> None:
    """18 bytes: an FP16 scale, 16 bytes whose low nibbles are the first 16 codes; weight = scale·(code - 8)."""
    blocks, values = rows.reshape(-1, 18), out.reshape(-1, 32)
    codes = scratch("codes", out.size, np.uint8).reshape(-1, 2, 16)
    np.bitwise_and(blocks[:, 2:], 15, out=codes[:, 0])
    np.right_shift(blocks[:, 2:], 4, out=codes[:, 1])
    np.subtract(codes, 8, out=codes)
    values[...] = codes.reshape(-1, 32).view(np.int8)
    np.multiply(values, _halves(blocks[:, :2]), out=values)


def _q4_k(rows: ByteArray, out: FloatArray) -> FloatArray:
    """144 bytes: FP16 units of scales and minima, 8 + 8 of 6 bits in 12 bytes, 4 × 32 bytes of two codes each."""
    blocks, values = rows.reshape(-1, 144), out.reshape(-1, 8, 32)
    codes = scratch("codes", out.size, np.uint8).reshape(-1, 4, 2, 32)
    packed = blocks[:, 16:].reshape(-1, 4, 32)
    np.bitwise_and(packed, 15, out=codes[:, :, 0])
    np.right_shift(packed, 4, out=codes[:, :, 1])
    values[...] = codes.reshape(-1, 8, 32)
    scales, mins = _six_bit_pairs(blocks)
    np.multiply(values, scales[:, :, None], out=values)
    return mins.reshape(len(rows), -1)


def _six_bit_pairs(blocks: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Scales and minima ``(n, 8)`` of Q4_K and Q5_K blocks (``get_scale_min_k4``)."""
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales, mins = np.empty((len(blocks), 8), np.float32), np.empty((len(blocks), 8), np.float32)
    scales[:, :4], mins[:, :4] = first & 63, second & 63
    scales[:, 4:] = (third & 15) | (first >> 6 << 4)
    mins[:, 4:] = (third >> 4) | (second >> 6 << 4)
    scales *= _halves(blocks[:, 0:2])
    mins *= _halves(blocks[:, 2:4])
    return scales, mins


def _q6_k(rows: ByteArray, out: FloatArray) -> None:
    """210 bytes: 128 of low nibbles, 64 of high pairs, 16 int8 scales, an FP16 unit; weight = unit·scale·(code-32)."""
    blocks, values = rows.reshape(-1, 210), out.reshape(-1, 16, 16)
    codes = scratch("codes", out.size, np.uint8).reshape(-1, 2, 4, 32)
    low, high = blocks[:, :128].reshape(-1, 2, 64), blocks[:, 128:192].reshape(-1, 2, 1, 32)
    np.right_shift(high, _PAIR_SHIFTS, out=codes)
    np.bitwise_and(codes, 3, out=codes)
    np.left_shift(codes, 4, out=codes)
    codes.reshape(-1, 2, 2, 64)[:, :, 0] |= low & 15
    codes.reshape(-1, 2, 2, 64)[:, :, 1] |= low >> 4
    np.subtract(codes, 32, out=codes)
    values[...] = codes.reshape(-1, 16, 16).view(np.int8)
    scales = blocks[:, 192:208].view(np.int8) * _halves(blocks[:, 208:210])
    np.multiply(values, scales[:, :, None], out=values)


_PAIR_SHIFTS = np.arange(0, 8, 2, dtype=np.uint8).reshape(1, 1, 4, 1)


def _halves(two_bytes: ByteArray) -> FloatArray:
    """FP16 numbers ``(n, 2)`` bytes → ``(n, 1)`` float32."""
    return np.ascontiguousarray(two_bytes).view("<f2").astype(np.float32)


_FAST: dict[str, Expander] = {
    "F32": _f32, "F16": _f16, "BF16": _bf16, "I8": _i8, "F8_E4M3": _f8_e4m3, "F8_E5M2": _f8_e5m2,
    "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_K": _q4_k, "Q6_K": _q6_k,
}  # fmt: skip


@cache
def _from_gguf(dtype: str) -> Expander | None:
    """Any other block type through the ``gguf`` package, where it has a dequantizer."""
    import gguf
    from gguf import quants

    kind = gguf.GGMLQuantizationType.__members__.get(dtype)
    if kind is None or kind not in quants._type_traits:
        return None

    def expand(rows: ByteArray, out: FloatArray) -> None:
        out[...] = quants.dequantize(rows, kind).reshape(out.shape)

    return expand
