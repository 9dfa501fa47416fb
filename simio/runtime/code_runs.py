"""Quant blocks taken apart for a product with one vector, without writing the weights out.

``Σ_k unit·scale·(code_k·x_k)`` needs the scales only once per run of codes, after a BLAS call over the run; so codes
become float32 in long contiguous passes, headers and all, which is what numpy does at the speed of memory. Layouts as
in ggml-common.h and ``dequantize_row_*`` of ggml-quants.c (llama.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simio.runtime.scratch import ByteArray, FloatArray, scratch


@dataclass(frozen=True, slots=True)
class CodeRuns:
    """Weights ``unit·scale·code - min_unit·min`` of ``n_rows`` rows of ``n_blocks`` quant blocks of ``n_runs`` runs.

    ``codes (…, n_rows, run)``: the leading axes together count the runs of a row in column order. ``units`` and
    ``min_units`` are ``(n_blocks, n_rows)``, ``scales`` and ``mins`` ``(n_blocks, n_runs, n_rows)``; None is 1 and 0.
    """

    codes: FloatArray
    n_runs: int
    units: FloatArray
    scales: FloatArray | None = None
    mins: FloatArray | None = None
    min_units: FloatArray | None = None

    def dot(self, x: FloatArray) -> FloatArray:
        """The product with ``x (n_cols,)``: ``(n_rows,)``."""
        *batch, n_rows, run = self.codes.shape
        n_blocks = len(self.units)
        sums: FloatArray = np.matmul(self.codes, x.reshape(*batch, run, 1)).reshape(n_blocks, self.n_runs, n_rows)
        if self.scales is not None:
            sums *= self.scales
        per_block = (sums.sum(axis=1) if self.n_runs > 1 else sums[:, 0]) * self.units
        if self.mins is not None and self.min_units is not None:
            x_sums = x.reshape(n_blocks, 1, self.n_runs, run).sum(axis=3)
            per_block -= np.matmul(x_sums, self.mins)[:, 0] * self.min_units
        total: FloatArray = per_block.sum(axis=0)
        return total

    def write(self, out: FloatArray) -> None:
        """The weights themselves into ``out (n_rows, n_cols)``."""
        *batch, n_rows, run = self.codes.shape
        view = np.moveaxis(out.reshape(n_rows, *batch, run), 0, -2)
        factors = self.units[:, None] if self.scales is None else self.scales * self.units[:, None]
        factors = np.broadcast_to(factors, (len(self.units), self.n_runs, n_rows))
        np.multiply(self.codes, factors.reshape(*batch, n_rows, 1), out=view)
        if self.mins is not None and self.min_units is not None:
            view -= (self.mins * self.min_units[:, None]).reshape(*batch, n_rows, 1)


def q8_0(rows: ByteArray) -> CodeRuns:
    """34 bytes: an FP16 unit, 32 int8."""
    n_rows, n_blocks = len(rows), rows.shape[1] // 34
    codes = scratch("codes", rows.shape, np.float32)
    codes[...] = rows.view(np.int8)
    runs = codes.reshape(n_rows, n_blocks, 34)[:, :, 2:].transpose(1, 0, 2)
    return CodeRuns(runs, 1, _halves(rows, n_blocks, 0))


def q4_0(rows: ByteArray) -> CodeRuns:
    """18 bytes: an FP16 unit, 16 bytes whose low nibbles are the first 16 codes, high nibbles the others; less 8."""
    n_rows, n_blocks = len(rows), rows.shape[1] // 18
    nibbles = _nibbles(rows)
    np.subtract(nibbles, 8, out=nibbles)
    codes = scratch("codes", nibbles.shape, np.float32)
    codes[...] = nibbles.view(np.int8)
    runs = codes.reshape(2, n_rows, n_blocks, 18)[..., 2:].transpose(2, 0, 1, 3)
    return CodeRuns(runs, 2, _halves(rows, n_blocks, 0))


def q4_k(rows: ByteArray) -> CodeRuns:
    """144 bytes: FP16 units of scales and minima, 8 + 8 of 6 bits in 12 bytes, 4 × 32 bytes of two codes each."""
    n_rows, n_blocks = len(rows), rows.shape[1] // 144
    codes = scratch("codes", (2, *rows.shape), np.float32)
    codes[...] = _nibbles(rows)
    runs = codes.reshape(2, n_rows, n_blocks, 144)[..., 16:].reshape(2, n_rows, n_blocks, 4, 32)
    scales, mins = _six_bit_pairs(rows, n_blocks)
    units = _halves(rows, n_blocks, 0), _halves(rows, n_blocks, 1)
    return CodeRuns(runs.transpose(2, 3, 0, 1, 4), 8, units[0], scales, mins, units[1])


def q5_k(rows: ByteArray) -> CodeRuns:
    """176 bytes: as Q4_K, with 32 bytes before the low nibbles whose bit j is the fifth of run j."""
    n_rows, n_blocks = len(rows), rows.shape[1] // 176
    blocks = rows.reshape(-1, 176)
    bits = scratch("codes8", (4, 2, len(blocks), 32), np.uint8)
    high = _gathered("high", blocks[:, 16:48])
    low = _gathered("low", blocks[:, 48:].reshape(-1, 4, 32).transpose(1, 0, 2))
    for run in range(8):
        np.right_shift(high, run, out=bits[run // 2, run % 2])
    np.bitwise_and(bits, 1, out=bits)
    np.multiply(bits, 16, out=bits)
    _add_nibbles(low, bits[:, 0], bits[:, 1])
    codes = scratch("codes", bits.shape, np.float32)
    codes[...] = bits
    runs = codes.reshape(4, 2, n_rows, n_blocks, 32).transpose(3, 0, 1, 2, 4)
    scales, mins = _six_bit_pairs(rows, n_blocks)
    units = _halves(rows, n_blocks, 0), _halves(rows, n_blocks, 1)
    return CodeRuns(runs, 8, units[0], scales, mins, units[1])


def q6_k(rows: ByteArray) -> CodeRuns:
    """210 bytes: 128 of low nibbles, 64 of high pairs of bits, 16 int8 scales, an FP16 unit; codes less 32."""
    n_rows, n_blocks = len(rows), rows.shape[1] // 210
    blocks = rows.reshape(-1, 210)
    bits = scratch("codes8", (4, len(blocks), 2, 32), np.uint8)
    high = _gathered("high", blocks[:, 128:192].reshape(-1, 2, 32))
    low = _gathered("low", blocks[:, :128].reshape(-1, 2, 2, 32).transpose(2, 0, 1, 3))
    for group in range(4):
        np.right_shift(high, 2 * group, out=bits[group])
        np.bitwise_and(bits[group], 3, out=bits[group])
    np.multiply(bits, 16, out=bits)
    _add_nibbles(low, bits[:2], bits[2:])
    np.subtract(bits, 32, out=bits)
    codes = scratch("codes", bits.shape, np.float32)
    codes[...] = bits.view(np.int8)
    runs = codes.reshape(4, n_rows, n_blocks, 2, 2, 16).transpose(2, 3, 0, 4, 1, 5)
    scales = blocks[:, 192:208].view(np.int8).reshape(n_rows, n_blocks, 16).transpose(1, 2, 0).astype(np.float32)
    return CodeRuns(runs, 16, _halves(rows, n_blocks, 104), scales)


#: How the types that numpy can take apart quickly are taken apart.
TAKEN_APART: dict[str, Callable[[ByteArray], CodeRuns]] = {
    "Q8_0": q8_0, "Q4_0": q4_0, "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k,
}  # fmt: skip


def _gathered(name: str, parts: ByteArray) -> ByteArray:
    """``parts`` of every block side by side, in scratch."""
    together: ByteArray = scratch(name, parts.shape, np.uint8)
    together[...] = parts
    return together


def _add_nibbles(nibbles: ByteArray, to_low: ByteArray, to_high: ByteArray) -> None:
    """Put the low halves of bytes into ``to_low`` and the high ones into ``to_high``; the bytes are used up."""
    lower = scratch("lower", nibbles.shape, np.uint8)
    np.bitwise_and(nibbles, 15, out=lower)
    np.bitwise_or(to_low, lower, out=to_low)
    np.right_shift(nibbles, 4, out=nibbles)
    np.bitwise_or(to_high, nibbles, out=to_high)


def _nibbles(rows: ByteArray) -> ByteArray:
    """Low and high halves of all bytes, ``(2, n_rows, row_bytes)``."""
    halves: ByteArray = scratch("codes8", (2, *rows.shape), np.uint8)
    np.bitwise_and(rows, 15, out=halves[0])
    np.right_shift(rows, 4, out=halves[1])
    return halves


def _six_bit_pairs(rows: ByteArray, n_blocks: int) -> tuple[FloatArray, FloatArray]:
    """Scales and minima ``(n_blocks, 8, n_rows)`` of Q4_K and Q5_K blocks (``get_scale_min_k4``), four at a time."""
    words = rows.view("<u4").reshape(len(rows), n_blocks, -1)
    first, second, third = words[..., 1], words[..., 2], words[..., 3]
    packed = np.empty((2, len(rows), n_blocks, 2), "<u4")
    packed[0, ..., 0] = first & 0x3F3F3F3F
    packed[1, ..., 0] = second & 0x3F3F3F3F
    packed[0, ..., 1] = (third & 0x0F0F0F0F) | (first >> 2 & 0x30303030)
    packed[1, ..., 1] = (third >> 4 & 0x0F0F0F0F) | (second >> 2 & 0x30303030)
    both = packed.view(np.uint8).astype(np.float32).transpose(0, 2, 3, 1)
    return both[0], both[1]


def _halves(rows: ByteArray, n_blocks: int, position: int) -> FloatArray:
    """The FP16 number at ``position`` (in numbers of two bytes) of every block: ``(n_blocks, n_rows)``."""
    numbers = rows.view("<f2").reshape(len(rows), n_blocks, -1)[:, :, position]
    return numbers.T.astype(np.float32)
