"""Least frequently used: what was asked for most often stays.

Counts outlive eviction: how popular an expert is belongs to the model, and one that comes back is not new. Ties leave
in the order they were last used. It settles on scans that use each of their keys once, as a dense token does: counts
then grow alike. A key that was popular and is not used any more stays until the others have been used as often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Lfu:
    """Byte-weighted LFU.

    >>> cache = Lfu(2)
    >>> [cache.access(key, 1) for key in "aabaca"]
    [False, True, False, True, False, True]
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._bytes: dict[Hashable, int] = {}  # of what is resident
        self._count: dict[Hashable, int] = {}  # of all ever asked for
        self._by_count: dict[int, OrderedDict[Hashable, None]] = {}  # resident keys, least recently used first

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key``; after a miss the least often used items make room."""
        count = self._count.get(key, 0)
        self._count[key] = count + 1
        hit = key in self._bytes
        if hit:
            self._leave(count, key)
        elif n_bytes > self.capacity_bytes:
            return False
        else:
            while self.used_bytes + n_bytes > self.capacity_bytes:
                self._evict()
            self._bytes[key] = n_bytes
            self.used_bytes += n_bytes
        self._by_count.setdefault(count + 1, OrderedDict())[key] = None
        return hit

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        return key in self._bytes

    def _evict(self) -> None:
        least = min(self._by_count)
        key = next(iter(self._by_count[least]))
        self._leave(least, key)
        self.used_bytes -= self._bytes.pop(key)

    def _leave(self, count: int, key: Hashable) -> None:
        same = self._by_count[count]
        del same[key]
        if not same:
            del self._by_count[count]
