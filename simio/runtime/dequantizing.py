"""Stored rows of a weight matrix become float32, with as few passes over memory as numpy allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from simio.errors import UsageError
from simio.quant.contract import Streams
from simio.records.weight_types import WEIGHT_TYPES
from simio.runtime.code_runs import TAKEN_APART
from simio.runtime.scratch import ByteArray, FloatArray

#: From rows ``(n_rows, row_bytes)`` to weights ``(n_rows, n_cols)``.
Expander = Callable[[ByteArray, FloatArray], None]


def expander(dtype: str) -> Expander:
    """The way from ``dtype`` to float32; raises ``UsageError`` for a type that has none."""
    found = _FAST.get(dtype) or _from_runs(dtype) or _from_gguf(dtype)
    if found is None:
        raise UsageError(
            f"weights stored as {dtype} cannot be computed with", f"types that can: {', '.join(sorted(known_dtypes()))}"
        )
    return found


def known_dtypes() -> list[str]:
    """The stored types that can be computed with."""
    return [dtype for dtype in WEIGHT_TYPES if dtype in _FAST or _from_gguf(dtype)]


def _f32(rows: ByteArray, out: FloatArray) -> None:
    out[...] = rows.view("<f4")


def _f16(rows: ByteArray, out: FloatArray) -> None:
    """Sign and magnitude moved to their places in a float32, then the exponent's bias corrected: exact, subnormals too.

    Infinity and NaN, which are no weights, become large numbers. Four times as fast as numpy's own conversion.
    """
    bits = out.view(np.int32)
    bits[...] = rows.view("<i2")
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _F16_PLACES, out=bits)
    np.multiply(out, _F16_BIAS, out=out)


_F16_PLACES = np.int32(-0x70002000)  # 0x8FFFE000
_F16_BIAS = np.float32(2.0**112)


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


_FAST: dict[str, Expander] = {
    "F32": _f32, "F16": _f16, "BF16": _bf16, "I8": _i8, "F8_E4M3": _f8_e4m3, "F8_E5M2": _f8_e5m2,
}  # fmt: skip


@cache
def _from_runs(dtype: str) -> Expander | None:
    take_apart = TAKEN_APART.get(dtype)
    return (lambda rows, out: take_apart(rows).write(out)) if take_apart else None


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
