"""The clairvoyant bound: what is needed again last leaves first (Belady, IBM Systems Journal 5, 1966).

No policy hits more often where all items are of one size; with sizes that differ it is a good one, not a bound. It has
to be told the whole future with ``prepare``; without it, nothing is known to come again and it keeps what it has.
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
        """Touch ``key``; after a miss it is kept unless all that would have to leave is needed before it."""
        uses = self._uses.get(key)
        if uses:
            uses.popleft()
        following = float(uses[0]) if uses else inf
        hit = key in self._resident
        if hit:
            self.used_bytes -= self._resident.pop(key)[1]
        elif n_bytes > self.capacity_bytes:
            return False
        while self.used_bytes + n_bytes > self.capacity_bytes:
            latest, _, other = self._farthest[0]
            if other not in self._resident or self._resident[other][0] != -latest:
                heappop(self._farthest)
                continue
            if -latest <= following:
                return False
            heappop(self._farthest)
            self.used_bytes -= self._resident.pop(other)[1]
        self._n_seen += 1
        self._resident[key] = (following, n_bytes)
        self.used_bytes += n_bytes
        heappush(self._farthest, (-following, self._n_seen, key))
        return hit

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        return key in self._resident
