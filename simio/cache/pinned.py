"""The most used keys stay for ever, all others are read each time: the best a static placement could do.

Which they are is known from the run itself (``prepare``), so this is a bound on what pinning by an earlier run's
counts can reach. Without ``prepare`` nothing is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable


class Pinned:
    """Keys by uses per byte, as many as fit; each is read once.

    >>> cache = Pinned(1)
    >>> cache.prepare((key, 1) for key in "abab" "a")
    >>> [cache.access(key, 1) for key in "ababa"]
    [False, False, True, False, True]
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._chosen: set[Hashable] = set()
        self._read: set[Hashable] = set()

    def prepare(self, references: Iterable[tuple[Hashable, int]]) -> None:
        """Choose what stays."""
        uses: Counter[tuple[Hashable, int]] = Counter(references)
        left = self.capacity_bytes
        for (key, n_bytes), _ in sorted(uses.items(), key=lambda item: -item[1] / max(1, item[0][1])):
            if n_bytes <= left:
                self._chosen.add(key)
                left -= n_bytes

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key``; a chosen one is kept from its first use on."""
        hit = key in self._read
        if key in self._chosen:
            self._read.add(key)
        return hit

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        return key in self._read
