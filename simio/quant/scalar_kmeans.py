"""Weighted k-means of scalars, many rows at once: Lloyd's algorithm (1982) on sorted rows.

In one dimension a cluster is a run of the sorted values, so prefix sums give its mean, and a bisection its ends: a
round costs ``n_levels·log2(n)`` steps a row, whatever the row's length. Nothing is random.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simio.quant.contract import ByteArray, FloatArray

_ROUNDS = 50  # as the authors of SqueezeLLM allow k-means
_AT_ONCE = 1 << 20  # values sorted at once

DoubleArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]


def levels_of_rows(x: FloatArray, weights: FloatArray, n_levels: int) -> FloatArray:
    """Ascending levels ``(n, n_levels)`` of the rows ``x (n, m)``, near the least ``Σ weights·(x - level)²``.

    ``weights (n, m)`` are at least 0; a row without any counts all its values alike.
    """
    per_run = max(1, _AT_ONCE // x.shape[1])
    runs = [slice(start, start + per_run) for start in range(0, len(x), per_run)]
    return np.concatenate([_SortedRows(x[run], weights[run]).levels(n_levels) for run in runs])


def nearest(x: FloatArray, levels: FloatArray) -> ByteArray:
    """Index of the nearest of ``levels (n, k)``, ascending by row, for each of ``x (n, m)``; ties go up."""
    borders = (levels[:, 1:] + levels[:, :-1]) / 2
    codes = np.zeros(x.shape, np.uint8)
    for border in borders.T:
        codes += x >= border[:, None]
    return codes


class _SortedRows:
    """Rows in ascending order, with the prefix sums of weights and of weighted values."""

    def __init__(self, x: FloatArray, weights: FloatArray) -> None:
        order = np.argsort(x, axis=1)
        self.x = np.take_along_axis(x, order, axis=1)
        sorted_weights = np.take_along_axis(weights, order, axis=1).astype(np.float64)
        sorted_weights[sorted_weights.sum(axis=1) == 0] = 1
        self.mass = _prefix_sums(sorted_weights)
        self.moment = _prefix_sums(sorted_weights * self.x)

    def levels(self, n_levels: int, rounds: int = _ROUNDS) -> FloatArray:
        """Lloyd's rounds from the start of :meth:`companded`; a level that no value is nearest to stays."""
        levels = self.companded(n_levels)
        for _ in range(rounds):
            moved = self.means(levels)
            if np.array_equal(moved, levels):
                break
            levels = moved
        return levels.astype(np.float32)

    def companded(self, n_levels: int) -> DoubleArray:
        """Levels as dense as the cube root of the values' density (Panter and Dite 1951), by weighted gaps.

        A gap g between neighbours of weight v tells of a density ``v / g``, whose cube root, times g, is the share of
        the levels that fall into it.
        """
        gaps, between = np.diff(self.x, axis=1).astype(np.float64), np.diff(self.mass, axis=1)
        share = _prefix_sums(np.cbrt((between[:, 1:] + between[:, :-1]) * gaps * gaps))
        wanted = share[:, -1:] * ((np.arange(n_levels) + 0.5) / n_levels)
        at = np.minimum(_count_below(share, wanted), self.x.shape[1] - 1)
        return np.take_along_axis(self.x, at, axis=1).astype(np.float64)

    def means(self, levels: DoubleArray) -> DoubleArray:
        """The mean of the values that are nearest to each of ``levels``."""
        cuts = _count_below(self.x, (levels[:, 1:] + levels[:, :-1]) / 2)
        n, m = self.x.shape
        ends = np.concatenate([np.zeros((n, 1), np.intp), cuts, np.full((n, 1), m, np.intp)], axis=1)
        mass = np.diff(np.take_along_axis(self.mass, ends, axis=1), axis=1)
        moment = np.diff(np.take_along_axis(self.moment, ends, axis=1), axis=1)
        return np.sort(np.divide(moment, mass, out=levels.copy(), where=mass > 0), axis=1)


def _prefix_sums(x: DoubleArray) -> DoubleArray:
    """Sums of the first 0, 1, … values of each row."""
    sums = np.zeros((x.shape[0], x.shape[1] + 1))
    np.cumsum(x, axis=1, out=sums[:, 1:])
    return sums


def _count_below(ascending: npt.NDArray[np.floating], borders: DoubleArray) -> IndexArray:
    """How many of each row of ``ascending (n, m)`` lie below each of ``borders (n, k)``: a bisection by row."""
    low = np.zeros(borders.shape, np.intp)
    high = np.full(borders.shape, ascending.shape[1], np.intp)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        below = open_ & (np.take_along_axis(ascending, np.minimum(middle, ascending.shape[1] - 1), axis=1) < borders)
        low, high = np.where(below, middle + 1, low), np.where(open_ & ~below, middle, high)
    return low
