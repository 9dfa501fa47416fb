"""Which of many things no other is better than in every respect: the Pareto front. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Rows compared with each other at once, and rows of the front they are held against at once: 2 MB of bits a column.
_BLOCK, _FRONT = 512, 4096


def pareto_front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of ``values`` (n, k ≥ 1) are on the front, all columns minimised: a mask (n,).

    A row is off it where another one is at most as large in every column; of equal rows the first stays. Rows with a
    NaN are never on it. In lexicographic order a row is only beaten by earlier ones, so one or two columns take a sort
    and a running minimum (Kung, Luccio, Preparata, JACM 22, 1975); more take n × front comparisons, in blocks.

    >>> pareto_front(np.array([[1.0, 3.0], [2.0, 1.0], [2.0, 3.0], [2.0, 1.0], [np.nan, 0.0]])).tolist()
    [True, True, False, False, False]
    """
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    order = known[np.lexsort(values[known].T[::-1])]
    later_columns = values[order, 1:]
    if later_columns.shape[1] == 1:
        stays = _new_minima(later_columns[:, 0])
    elif later_columns.shape[1]:
        stays = _unbeaten(later_columns)
    else:
        stays = np.arange(len(order)) == 0
    mask = np.zeros(len(values), np.bool_)
    mask[order[stays]] = True
    return mask


def _new_minima(column: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Entries that are smaller than all before them."""
    stays = np.ones(len(column), np.bool_)
    stays[1:] = column[1:] < np.minimum.accumulate(column)[:-1]
    return stays


def _unbeaten(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows that no earlier row is at most as large as, in all columns."""
    stays = np.ones(len(rows), np.bool_)
    front = np.empty((0, rows.shape[1]))
    for begin in range(0, len(rows), _BLOCK):
        block = rows[begin : begin + _BLOCK]
        beaten = np.zeros(len(block), np.bool_)
        for k in range(0, len(front), _FRONT):
            open_ = np.flatnonzero(~beaten)
            beaten[open_] = _at_most(front[k : k + _FRONT], block[open_]).any(axis=0)
        open_ = np.flatnonzero(~beaten)
        among = np.triu(_at_most(block[open_], block[open_]), 1)
        beaten[open_] = among.any(axis=0)
        stays[begin : begin + _BLOCK] = ~beaten
        front = np.concatenate([front, block[~beaten]])
    return stays


def _at_most(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(i, j): whether row i of ``left`` is at most row j of ``right`` in every column."""
    found = np.ones((len(left), len(right)), np.bool_)
    for column in range(left.shape[1]):
        found &= left[:, None, column] <= right[None, :, column]
    return found
