"""Least recently used: on a cyclic scan longer than the cache it never hits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Lru:
    """Byte-weighted LRU.

    >>> cache = Lru(2)
    >>> [cache.access(key, 1) for key in "abcabc"]
    [False, False, False, False, False, False]
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._items: OrderedDict[Hashable, int] = OrderedDict()

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key``; evict the least recently used items to make room after a miss."""
        if key in self._items:
            self._items.move_to_end(key)
            return True
        if n_bytes > self.capacity_bytes:
            return False
        while self.used_bytes + n_bytes > self.capacity_bytes:
            self.used_bytes -= self._items.popitem(last=False)[1]
        self._items[key] = n_bytes
        self.used_bytes += n_bytes
        return False

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        return key in self._items
