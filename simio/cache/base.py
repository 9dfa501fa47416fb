"""The contract of a weight-cache policy: it sees accesses in order and knows no clock.

``access(key, n_bytes) -> bool`` returns whether ``key`` was resident, and makes it resident if the policy keeps it.
On a cyclic scan a policy must settle: once two successive scans have hit alike, so must the next. The planner relies
on it to stop replaying dense tokens. A policy never holds more than ``capacity_bytes``; a larger item is never kept.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol


class CachePolicy(Protocol):
    """Replayed while planning; both engines then see the same hits."""

    def __init__(self, capacity_bytes: int) -> None: ...

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key``; return True on a hit."""
        ...

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        ...
