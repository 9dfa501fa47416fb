"""Evenly spaced levels: from ranges to scales as they are stored, from weights to codes, and back.

Three rules for a code of b bits:

* ``sym`` (absmax; LLM.int8(), arXiv 2208.07339): ``scale = max|w| / (2^(b-1) - 1)``, ``code = round(w / scale)``;
* ``affine`` (MLX, Q4_1): ``scale = (max w - min w) / (2^b - 1)``, ``code = round((w - min) / scale)``, min stored
  like scale;
* ``zero`` (GPTQ, arXiv 2210.17323, and AWQ, arXiv 2306.00978, checkpoints): the range made to include 0,
  ``zero = round(-min / scale)``, ``code = round(w / scale) + zero``.

Groups are three-dimensional, ``(a, m, b)``: m weights along the middle axis share a scale, so that a group may lie
along a row (b = 1) or down columns. Codes are computed from scales, minima and zero points as stored, in runs of
weights that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.quant.contract import ByteArray, FloatArray

RULES = ("sym", "affine", "zero")

#: Weights coded at a time: 256 KiB of float32.
_RUN_WEIGHTS = 1 << 16

#: Up to this length, transposing a run of groups first is the faster way to their extremes.
_SHORT_GROUP = 64

Column = npt.NDArray[Any]  # one value a group, (a, b)
Run = tuple[slice, slice]  # of groups, of weights within groups


@dataclass(frozen=True, slots=True, eq=False)
class IntegerGrid:
    """The levels of every group: ``value = (code - zero)·scale + min``; arrays ``(a, b)``, as stored."""

    bits: int
    rule: str
    scales: Column
    mins: Column | None = None
    zeros: Column | None = None

    @staticmethod
    def over(low: FloatArray, high: FloatArray, bits: int, rule: str, stored: npt.DTypeLike) -> IntegerGrid:
        """The grid of groups that reach from ``low`` to ``high (a, b)``; scales and minima are of type ``stored``."""
        if rule == "sym":
            return IntegerGrid(bits, rule, (np.maximum(high, -low) / ((1 << (bits - 1)) - 1)).astype(stored))
        top = (1 << bits) - 1
        if rule == "affine":
            return IntegerGrid(bits, rule, (high / top - low / top).astype(stored), low.astype(stored))
        low = np.minimum(low, 0)
        scales = (np.maximum(high, 0) / top - low / top).astype(stored)
        zeros = np.clip(np.rint(-low / _divisor(scales)), 0, top).astype(np.uint8)
        return IntegerGrid(bits, rule, scales, zeros=zeros)

    @staticmethod
    def joined(grids: Sequence[IntegerGrid]) -> IntegerGrid:
        """The grids of neighbouring groups, side by side along the last axis."""
        scales = np.concatenate([grid.scales for grid in grids], axis=1)
        mins = [grid.mins for grid in grids if grid.mins is not None]
        zeros = [grid.zeros for grid in grids if grid.zeros is not None]
        return IntegerGrid(
            grids[0].bits,
            grids[0].rule,
            scales,
            np.concatenate(mins, axis=1) if mins else None,
            np.concatenate(zeros, axis=1) if zeros else None,
        )

    def codes(self, groups: FloatArray) -> ByteArray:
        """The codes of ``groups (a, m, b)``; symmetric ones have the offset ``2^(b-1)``, INT8 is two's complement."""
        codes = np.empty(groups.shape, np.uint8)
        for run, quotient in self._rounded(groups):
            np.copyto(codes[run].view(np.int8) if self._signed else codes[run], quotient, casting="unsafe")
        return codes

    def values(self, codes: ByteArray) -> FloatArray:
        """The weights that ``codes (a, m, b)`` stand for."""
        values = (codes.view(np.int8) if self._signed else codes).astype(np.float32)
        for run in _runs(values.shape):
            self._scale_back(values[run], run)
        return values

    def squared_errors(self, groups: FloatArray) -> npt.NDArray[np.float64]:
        """The squared error of each of ``groups (a, m, b)``, summed over its weights, ``(a, b)``."""
        errors = np.zeros((groups.shape[0], groups.shape[2]))
        for run, rounded in self._rounded(groups):
            self._scale_back(rounded, run)
            difference = np.subtract(rounded, groups[run], out=rounded)
            errors[run[0]] += np.square(difference, out=difference).sum(axis=1)
        return errors

    @property
    def _signed(self) -> bool:
        return self.rule == "sym" and self.bits == 8

    def _rounded(self, groups: FloatArray) -> Iterator[tuple[Run, FloatArray]]:
        """Codes as floats, run by run, in one buffer."""
        divisor, shift = _divisor(self.scales)[:, None], self._shift
        middle, top = 0 if self._signed else 1 << (self.bits - 1), (1 << (self.bits - 1)) - 1
        bounds = (middle - top, middle + top) if self.rule == "sym" else (0, (1 << self.bits) - 1)
        buffer = np.empty(_RUN_WEIGHTS, np.float32)
        for run in _runs(groups.shape):
            part = groups[run]
            quotient = buffer[: part.size].reshape(part.shape) if part.size <= buffer.size else np.empty_like(part)
            if self.mins is not None:
                part = np.subtract(part, self.mins[run[0], None].astype(np.float32), out=quotient)
            np.divide(part, divisor[run[0]], out=quotient)
            np.rint(quotient, out=quotient)
            if shift is not None:
                quotient += shift[run[0]] if shift.size > 1 else shift
            yield run, np.clip(quotient, *bounds, out=quotient)

    def _scale_back(self, codes: FloatArray, run: Run) -> None:
        """In place, codes to values."""
        if (shift := self._shift) is not None:
            codes -= shift[run[0]] if shift.size > 1 else shift
        codes *= self.scales[run[0], None].astype(np.float32)
        if self.mins is not None:
            codes += self.mins[run[0], None].astype(np.float32)

    @property
    def _shift(self) -> FloatArray | None:
        """What is added to a rounded quotient, ``(a, 1, b)`` or ``(1, 1, 1)``."""
        if self.zeros is not None:
            return self.zeros[:, None].astype(np.float32)
        if self.rule == "affine" or self._signed:
            return None
        return np.full((1, 1, 1), 1 << (self.bits - 1), np.float32)


def extremes(groups: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The least and the greatest weight of each of ``groups (a, m, b)``, ``(a, b)``."""
    a, m, b = groups.shape
    if b > 1 or a == 1:
        return groups.min(axis=1), groups.max(axis=1)
    if m > _SHORT_GROUP:
        flat, starts = groups.reshape(-1), np.arange(0, a * m, m)
        return np.minimum.reduceat(flat, starts)[:, None], np.maximum.reduceat(flat, starts)[:, None]
    low, high = np.empty((a, 1), np.float32), np.empty((a, 1), np.float32)
    for run in _runs(groups.shape):  # many groups side by side rather than one after the other
        beside = np.ascontiguousarray(groups[run][:, :, 0].T)
        beside.min(axis=0, out=low[run[0], 0])
        beside.max(axis=0, out=high[run[0], 0])
    return low, high


def _divisor(scales: Column) -> FloatArray:
    """``scales`` as float32, infinite where they are 0: any weight over it is code 0."""
    wide = scales.astype(np.float32)
    wide[wide == 0] = np.inf
    return wide


def _runs(shape: tuple[int, ...]) -> Iterator[Run]:
    """Whole groups at a time, or parts of a single one, of about ``_RUN_WEIGHTS`` weights."""
    a, m, b = shape
    n, others = (a, m * b) if a > 1 else (m, b)
    step = max(1, _RUN_WEIGHTS // others)
    for start in range(0, n, step):
        part = slice(start, start + step)
        yield (part, slice(None)) if a > 1 else (slice(None), part)
