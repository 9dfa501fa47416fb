"""The contract of a weight-cache policy: it sees accesses in order and knows no clock.

``access(key, n_bytes) -> bool`` returns whether ``key`` was resident, and makes it resident if the policy keeps it.
On a cyclic scan a policy must settle: once two successive scans have hit alike, so must the next. The planner relies
on it to stop replaying dense tokens. A policy never holds more than ``capacity_bytes``; a larger item is never kept.

A policy that has to know what will be asked for (how many layers there are, what is popular, the future) has one method
more, ``prepare(references)``: the whole run as pairs (key, n_bytes), called once before the first access.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol, runtime_checkable


class CachePolicy(Protocol):
    """Replayed while planning; both engines then see the same hits."""

    def __init__(self, capacity_bytes: int) -> None: ...

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key``; return True on a hit."""
        ...

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A policy that is told the whole run first."""

    def prepare(self, references: Iterable[tuple[Hashable, int]]) -> None:
        """Learn what will be asked for, in order."""
        ...
