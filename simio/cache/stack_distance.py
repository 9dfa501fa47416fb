"""The hit ratio of LRU for every budget at once, from one pass over the references.

The stack distance of a reference is the bytes of all distinct keys touched since the same key was last touched, itself
included: LRU hits it exactly where the cache is at least that large (Mattson et al., IBM Systems Journal 9, 1970). A
Fenwick tree over time holds the size of each key at its last touch (Bennett and Kruskal, 1975), so a reference costs
two sums of log n. The curve is that of ``Lru`` to the reference, also where sizes differ, as long as every item fits by
itself: what ``Lru`` holds is then always the longest run of most recent keys that fits. At budgets below the largest
item ``Lru`` passes such items over without evicting for them, and the curve is a lower bound. A key keeps its size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    out = np.empty(len(numbers), np.int64)
    _compiled()(_previous(numbers), sizes, np.zeros(len(numbers) + 1, np.int64), out)
    return out


def _numbered(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], np.int64)


def _previous(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """When the same key was touched before; -1 if never."""
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


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., None]:
    """``_walk`` compiled where numba is installed, and as it stands where it is not."""
    try:
        from numba import njit
    except ModuleNotFoundError:
        return _walk
    compiled: Callable[..., None] = njit(_walk)
    return compiled
