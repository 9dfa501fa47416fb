"""The clairvoyant bound: what is needed again last leaves first (Belady, IBM Systems Journal 5, 1966).

No policy hits more often where all items are of one size; with sizes that differ it is a good one, not a bound. It has
to be told the whole future with ``prepare``; without it, nothing is known to come again and it keeps what it has. A run
that leaves out references it announced, or makes others (cold experts dropped, reads on a guess), is not bounded by it.
On a cyclic scan what it hits moves from scan to scan: prepared, it does not settle as the contract has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from heapq import heappop, heappush
from math import inf


class Belady:
    """Byte-weighted.

    >>> cache = Belady(2)
    >>> cache.prepare((key, 1) for key in "abcab")
    >>> [cache.access(key, 1) for key in "abcab"]
    [False, False, False, True, True]
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._uses: dict[Hashable, deque[int]] = {}
        self._resident: dict[Hashable, tuple[float, int]] = {}  # next use, bytes
        self._farthest: list[tuple[float, int, Hashable]] = []  # heap of -next use; stale entries are skipped
        self._n_seen = 0

    def prepare(self, references: Iterable[tuple[Hashable, int]]) -> None:
        """Learn the future."""
        for time, (key, _) in enumerate(references):
            self._uses.setdefault(key, deque()).append(time)

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key``; after a miss it is kept if all that has to leave for it is needed later than it."""
        uses = self._uses.get(key)
        if uses:
            uses.popleft()
        following = float(uses[0]) if uses else inf
        hit = key in self._resident
        if hit:
            n_bytes = self._resident[key][1]
        elif n_bytes > self.capacity_bytes or not self._makes_room(n_bytes, following):
            return False
        else:
            self.used_bytes += n_bytes
        self._n_seen += 1
        self._resident[key] = (following, n_bytes)
        heappush(self._farthest, (-following, self._n_seen, key))
        return hit

    def _makes_room(self, n_bytes: int, following: float) -> bool:
        """Evict what is needed after ``following``: as much as has to leave, or, where that is not enough, nothing."""
        leaving: dict[Hashable, tuple[float, int, Hashable]] = {}
        free = self.capacity_bytes - self.used_bytes
        while free < n_bytes:
            latest, _, key = entry = self._farthest[0]
            current = key in self._resident and self._resident[key][0] == -latest and key not in leaving
            if current and -latest <= following:
                for kept in leaving.values():
                    heappush(self._farthest, kept)
                return False
            heappop(self._farthest)
            if current:
                leaving[key] = entry
                free += self._resident[key][1]
        for key in leaving:
            self.used_bytes -= self._resident.pop(key)[1]
        return True

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        return key in self._resident
