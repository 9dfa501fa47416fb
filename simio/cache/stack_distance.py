"""The hit ratio of LRU for every budget at once, from one pass over the references.

The stack distance of a reference is the bytes of all distinct keys touched since the same key was last touched, itself
included: LRU hits it exactly where the cache is at least that large (Mattson et al., IBM Systems Journal 9, 1970). A
Fenwick tree over time holds the size of each key at its last touch (Bennett and Kruskal, 1975), so a reference costs
two sums of log n; without numba, numpy counts the same by halving the time again and again.

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

#: Stretches of time this short are compared pair by pair; at most 256.
SHORT = 128
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
    found = distances(keys, n_bytes)
    return HitCurve(np.sort(found[found != NEVER]), len(found))


def distances(
    keys: Sequence[Hashable] | NDArray[Any], n_bytes: int | NDArray[np.int64] | Sequence[int]
) -> NDArray[np.int64]:
    """Stack distance of every reference in time; ``NEVER`` for first ones. [bytes]"""
    numbers = keys if isinstance(keys, np.ndarray) else _numbered(keys)
    sizes = np.broadcast_to(np.asarray(n_bytes, np.int64), numbers.shape)
    previous, walk = _previous(numbers), _compiled()
    if walk is None:
        return _halved(previous, sizes)
    out = np.empty(len(numbers), np.int64)
    walk(previous, sizes, np.zeros(len(numbers) + 1, np.int64), out)
    return out


def _numbered(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], np.int64)


def _previous(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """When the same key was touched before; -1 if never. Small numbers sort by radix."""
    if len(numbers) and numbers.dtype.kind in "iu" and numbers.min() >= 0 and numbers.max() < 2**15:
        numbers = numbers.astype(np.int16)
    order = np.argsort(numbers, kind="stable")
    previous = np.full(len(numbers), -1, np.int64)
    same = numbers[order[1:]] == numbers[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
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


def _halved(previous: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What ``_walk`` finds: sizes j < i with ``previous[j] < previous[i]`` less all up to the same key's last touch."""
    found = np.full(len(previous), NEVER)
    again = np.flatnonzero(previous >= 0)
    if not len(again):
        return found
    unit = int(np.gcd.reduce(sizes)) or 1
    first = np.where(previous < 0, sizes, 0) // unit
    # Differences are exact modulo 2^16 or 2^32 where the true result is smaller; half the bytes are half the time.
    exact = np.min_scalar_type(max(2**8, int(first.sum())))
    scaled = (sizes // unit).astype(exact)
    until = np.cumsum(scaled, dtype=exact)[previous[again]]
    smaller = _smaller_before(previous[again], scaled[again]) + np.cumsum(first.astype(exact), dtype=exact)[again]
    found[again] = (smaller - until + scaled[again]).astype(np.int64) * unit
    return found


def _smaller_before(values: NDArray[np.int64], weights: NDArray[Any]) -> NDArray[Any]:
    """For every i the sum of ``weights[j]`` over j < i with ``values[j] < values[i]``; all values differ.

    Elements lie in blocks of positions, in each by increasing value; a block's right half gains what its left half has
    of smaller ones, then the halves become blocks.
    """
    slots = np.full(int(values.max()) + 1, -1)
    slots[values] = np.arange(len(values))
    short, n_levels = len(values), 0
    while short > SHORT:
        short, n_levels = -(-short // 2), n_levels + 1
    width = short << n_levels
    who = np.concatenate([slots[slots >= 0], np.arange(len(values), width)])
    place, weight = who.astype(np.int32), np.concatenate([weights, np.zeros(width - len(weights), weights.dtype)])[who]
    sums = np.zeros(width, weights.dtype)
    while width > short:
        half = width // 2
        is_left = place < half
        running = np.cumsum((weight * is_left).reshape(-1, width), axis=1, dtype=weights.dtype).ravel()
        left, right = np.flatnonzero(is_left), np.flatnonzero(~is_left)
        sums[who[right]] += running[right]
        halves = np.concatenate([left.reshape(-1, half), right.reshape(-1, half)], axis=1).ravel()
        who, weight, place = who[halves], weight[halves], place[halves]
        place.reshape(-1, 2, half)[:, 1] -= half
        width = half
    # one column a block, so that each comparison runs over long rows; places are below SHORT
    columns = np.ascontiguousarray(place.astype(np.uint8).reshape(-1, short).T)
    weight = np.ascontiguousarray(weight.reshape(-1, short).T)
    within = np.zeros_like(weight)
    for gap in range(1, short):
        within[gap:] += weight[:-gap] * (columns[:-gap] < columns[gap:])
    sums[who] += within.T.ravel()
    return sums[: len(values)]


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., None] | None:
    """``_walk`` compiled where numba is installed; the first call takes about a second."""
    try:
        from numba import njit
    except ModuleNotFoundError:
        return None
    compiled: Callable[..., None] = njit(_walk)
    return compiled
