"""The hit ratio of LRU for every budget at once, from one pass over the references.

The stack distance of a reference is the bytes of all distinct keys touched since the same key was last touched, itself
included: LRU hits it exactly where the cache is at least that large (Mattson et al., IBM Systems Journal 9, 1970). A
Fenwick tree over time holds the size of each key at its last touch (Bennett and Kruskal, 1975), so a reference costs
two sums of log n; without numba, numpy counts the same by dividing the time again and again.

The curve is that of ``Lru`` to the reference, also where sizes differ, as long as every item fits by itself: what
``Lru`` holds is then always the longest run of most recent keys that fits. At budgets below the largest item ``Lru``
passes such items over without evicting for them, and the curve is a lower bound. A key keeps its size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Stretches this short are compared pair by pair, and a block has as many parts; at most 64.
SHORT = 32
#: Distance of a first reference: no cache holds it.
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class HitCurve:
    """``distances_bytes``: of every reference that is no first one, ascending; ``n``: of all references."""

    distances_bytes: NDArray[np.int64]
    n: int

    def hit_ratio(self, budget_bytes: float | NDArray[Any]) -> Any:
        """Share of references that hit in an LRU cache of ``budget_bytes``, which may be an array."""
        return np.searchsorted(self.distances_bytes, budget_bytes, side="right") / max(1, self.n)


def lru_curve(keys: Sequence[Hashable] | NDArray[Any], n_bytes: int | NDArray[np.int64] | Sequence[int]) -> HitCurve:
    """The curve of references ``keys``, in time. ``n_bytes``: of each, or one size of all. Integer arrays are quick."""
    found = np.sort(distances(keys, n_bytes))
    return HitCurve(found[: np.searchsorted(found, NEVER)], len(found))


def distances(
    keys: Sequence[Hashable] | NDArray[Any], n_bytes: int | NDArray[np.int64] | Sequence[int]
) -> NDArray[np.int64]:
    """Stack distance of every reference in time; ``NEVER`` for first ones. [bytes]"""
    numbers = keys if isinstance(keys, np.ndarray) else _numbered(keys)
    previous, sizes, walk = _previous(numbers), np.asarray(n_bytes, np.int64), _compiled()
    if walk is None:
        return _divided(previous, sizes)
    out = np.empty(len(numbers), np.int64)
    walk(previous, np.broadcast_to(sizes, numbers.shape), np.zeros(len(numbers) + 1, np.int64), out)
    return out


def _numbered(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], np.int64)


def _previous(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """When the same key was touched before; -1 if never. Small numbers sort by radix."""
    if len(numbers) and numbers.dtype.kind in "iu" and numbers.min() >= 0 and numbers.max() < 2**15:
        numbers = numbers.astype(np.int16)
    order = np.argsort(numbers, kind="stable")
    ordered, previous = numbers[order], np.full(len(numbers), -1, np.int64)
    previous[order[1:]] = np.where(ordered[1:] == ordered[:-1], order[:-1], -1)
    return previous


def _walk(previous, sizes, tree, out):  # type: ignore[no-untyped-def]
    """Fill ``out``; ``tree`` is a Fenwick tree of zeros, one longer than the rest."""
    n = len(previous)
    total = 0
    for i in range(n):
        p = previous[i]
        if p < 0:
            out[i] = 9223372036854775807
        else:
            before = 0  # sizes of keys last touched up to p, this one among them
            k = p + 1
            while k > 0:
                before += tree[k]
                k -= k & -k
            out[i] = total - before + sizes[p]
            k = p + 1
            while k <= n:
                tree[k] -= sizes[p]
                k += k & -k
            total -= sizes[p]
        k = i + 1
        while k <= n:
            tree[k] += sizes[i]
            k += k & -k
        total += sizes[i]


def _divided(previous: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What ``_walk`` finds: sizes j < i with ``previous[j] < previous[i]`` less all up to the same key's last touch."""
    n, is_first = len(previous), previous < 0
    if not n:
        return np.empty(0, np.int64)
    unit = int(np.gcd.reduce(sizes, axis=None)) or 1
    scaled = np.broadcast_to(sizes // unit, n)
    # Differences are exact modulo 2^8, 2^16 or 2^32 where the true result is smaller; fewer bytes take less time.
    scaled = scaled.astype(np.min_scalar_type(int(scaled[is_first].sum())))
    following = np.full(n + 1, -1)
    following[previous] = np.arange(n)  # first ones go to the last place, which is left out
    who = np.concatenate([np.flatnonzero(is_first), following[:n][following[:n] >= 0]])
    scaled += _smaller_before(who, scaled) - np.cumsum(scaled, dtype=scaled.dtype)[previous]
    found = scaled.astype(np.int64) * unit
    found[is_first] = NEVER
    return found


def _smaller_before(who: NDArray[np.int64], weights: NDArray[Any]) -> NDArray[Any]:
    """For every i the sum of ``weights[j]`` over j < i with a smaller value; ``who`` is all, by increasing value.

    Elements lie in blocks of positions, in each by increasing value. A block has ``SHORT`` parts; an element gains what
    parts before its own have of smaller ones, in all earlier stretches of the block's order by a table of sums, in its
    own stretch pair by pair. Then the parts become blocks.
    """
    n, short, n_levels = len(who), len(who), 0
    while short > 4 * SHORT:
        short, n_levels = -(-short // SHORT), n_levels + 1
    width = short * SHORT**n_levels
    who = np.concatenate([who, np.arange(n, width)])
    weight = weights.take(who, mode="clip")  # what is behind the end is before nothing
    sums, out = np.zeros_like(weight), np.empty_like(weight)
    while width > short:
        starts, width = np.arange(0, len(who), width)[:, None], width // SHORT
        part = np.tile(np.arange(SHORT, dtype=np.uint8).repeat(width), len(starts))[who]
        order = np.argsort(part.reshape(len(starts), -1), axis=1, kind="stable")
        order += starts
        part = part.reshape(-1, SHORT)
        cell, table = (np.arange(0, len(who), SHORT)[:, None] + part).ravel(), np.zeros_like(weight)
        np.add.at(table, cell, weight)
        for axis in (1, 2):  # of earlier stretches, of them in earlier parts
            table = table.reshape(len(starts), -1, SHORT)
            table = np.cumsum(table, axis, table.dtype) - table
        sums += table.take(cell) + _smaller_within(part, weight)
        who, weight, sums = (of_each.take(order).ravel() for of_each in (who, weight, sums))
    place = np.tile(np.arange(short, dtype=np.uint8), len(who) // short)[who].reshape(-1, short)
    out[who] = sums + _smaller_within(place, weight)
    return out[:n]


def _smaller_within(values: NDArray[np.uint8], weights: NDArray[Any]) -> NDArray[Any]:
    """For every element the sum of ``weights`` of smaller ones before it in its row, pair by pair."""
    # one column a row, so that each comparison runs over long rows
    columns, weight = np.ascontiguousarray(values.T), np.ascontiguousarray(weights.reshape(values.shape).T)
    sums = np.zeros_like(weight)
    for gap in range(1, len(columns)):
        sums[gap:] += weight[:-gap] * (columns[:-gap] < columns[gap:])
    return sums.T.ravel()


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., None] | None:
    """``_walk`` compiled where numba is installed; the first call takes about a second."""
    try:
        from numba import njit
    except ModuleNotFoundError:
        return None
    compiled: Callable[..., None] = njit(_walk)
    return compiled
