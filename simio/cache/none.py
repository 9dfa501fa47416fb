"""No cache: every access goes to storage."""

from __future__ import annotations

from collections.abc import Hashable


class NoCache:
    """Never hits."""

    def __init__(self, capacity_bytes: int = 0) -> None:
        self.capacity_bytes = capacity_bytes

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Always a miss."""
        return False

    def __contains__(self, key: Hashable) -> bool:
        """Never."""
        return False
