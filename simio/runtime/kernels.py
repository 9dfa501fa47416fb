"""Multiply stored weights with float32 vectors: dequantize a block of rows into this thread's scratch, one BLAS call.

numpy lets other threads run meanwhile. Results depend on the block's bytes, its shape and ``x`` alone, not on threads,
as long as callers cut a matrix into blocks of :func:`rows_per_block` and BLAS itself stays on one thread
(:func:`one_blas_thread`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simio.errors import UsageError
from simio.records.weight_types import weight_type
from simio.runtime.code_runs import TAKEN_APART
from simio.runtime.dequantizing import expander
from simio.runtime.scratch import ByteArray, FloatArray, scratch
from simio.units import KIB

#: Stored bytes of a block of rows. Measured from 128 KiB to 1 MiB: doubling gains 10 to 20 % up to 512 KiB, and two
#: threads, which share one interpreter lock, scale as two only from there on; beyond, less than 5 %, for twice the
#: scratch and fewer blocks to share.
BLOCK_BYTES = 512 * KIB


def rows_per_block(row_bytes: int) -> int:
    """How many rows of ``row_bytes`` one call takes at most; fixed by the shape, so that every run rounds alike."""
    return max(1, BLOCK_BYTES // max(1, row_bytes))


def row_bytes(dtype: str, n_cols: int) -> int:
    """Stored bytes of a row of ``n_cols`` weights; raises ``UsageError`` unless they are whole quant blocks."""
    packing = weight_type(dtype)
    if n_cols % packing.block_weights:
        raise UsageError(f"rows of {n_cols} weights are no whole {dtype} blocks of {packing.block_weights}")
    return n_cols // packing.block_weights * packing.block_bytes


def one_blas_thread() -> Any:
    """A context in which BLAS computes on the calling thread only."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def matvec(
    dtype: str, data: Any, n_rows: int, n_cols: int, x: FloatArray, out: FloatArray, scales: FloatArray | None = None
) -> None:
    """``out (n_rows,) = W x`` for ``x (n_cols,)`` and the rows ``W`` stored in the buffer ``data`` as ``dtype``.

    ``scales`` multiplies ``I8`` and FP8 codes: one number, one a row, or ``(n_rows, n_groups)`` along the columns;
    other types have none.
    Raises ``UsageError`` for a type that cannot be computed with and for data of another length.
    """
    if dtype in TAKEN_APART:
        out[...] = TAKEN_APART[dtype](_rows(dtype, data, n_rows, n_cols)).dot(x)
        return
    weights, after = _expanded(dtype, data, n_rows, n_cols, scales)
    np.matmul(weights, x, out=out)
    if after is not None:
        out *= after


def matmul(
    dtype: str, data: Any, n_rows: int, n_cols: int, x: FloatArray, out: FloatArray, scales: FloatArray | None = None
) -> None:
    """``out (n_tokens, n_rows) = x Wᵀ`` for ``x (n_tokens, n_cols)``; otherwise as :func:`matvec`."""
    if len(x) == 1:
        matvec(dtype, data, n_rows, n_cols, x[0], out[0], scales)
        return
    weights, after = _expanded(dtype, data, n_rows, n_cols, scales)
    np.matmul(x, weights.T, out=out)
    if after is not None:
        out *= after


def dequantize(dtype: str, data: Any, n_rows: int, n_cols: int, scales: FloatArray | None = None) -> FloatArray:
    """The weights ``(n_rows, n_cols)`` as a new float32 array: embedding rows, norms. Arguments as of `matvec`."""
    weights, after = _expanded(dtype, data, n_rows, n_cols, scales)
    return weights.copy() if after is None else weights * after.reshape(-1, 1)


def _expanded(
    dtype: str, data: Any, n_rows: int, n_cols: int, scales: FloatArray | None
) -> tuple[FloatArray, FloatArray | None]:
    """Weights, and scales that may as well be applied after a product (one number or one a row)."""
    rows = _rows(dtype, data, n_rows, n_cols)
    if dtype == "F32":
        return rows.view("<f4"), None
    values: FloatArray = scratch("values", (n_rows, n_cols), np.float32)
    expander(dtype)(rows, values)
    if scales is None or scales.size in (1, n_rows):
        return values, None if scales is None else scales.reshape(-1)
    grouped = values.reshape(n_rows, scales.size // n_rows, -1)
    np.multiply(grouped, scales.reshape(n_rows, -1, 1), out=grouped)
    return values, None


def _rows(dtype: str, data: Any, n_rows: int, n_cols: int) -> ByteArray:
    expander(dtype)
    flat = np.frombuffer(data, np.uint8)
    n_bytes = row_bytes(dtype, n_cols)
    if flat.size != n_rows * n_bytes:
        raise UsageError(
            f"{flat.size} bytes are not {n_rows} rows of {n_cols} {dtype} weights ({n_rows * n_bytes} bytes)"
        )
    return flat.reshape(n_rows, n_bytes)
