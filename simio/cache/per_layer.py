"""An equal share of the budget for every layer, so that no layer's experts push out another's.

Keys are (layer, expert), as the planner makes them. How many layers there are comes with ``prepare``; without it, there
are no shares, and all layers have the budget together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from simio.cache.base import CachePolicy
from simio.cache.lfu import Lfu
from simio.cache.lru import Lru


class PerLayer:
    """One policy a layer, made by ``make(capacity_bytes)``."""

    def __init__(self, capacity_bytes: int, make: Callable[[int], CachePolicy]) -> None:
        self.capacity_bytes = capacity_bytes
        self._make = make
        self._shared: CachePolicy | None = make(capacity_bytes)  # until the layers are known
        self._layers: dict[Hashable, CachePolicy] = {}

    def prepare(self, references: Iterable[tuple[Hashable, int]]) -> None:
        """Count the layers of what will be asked for."""
        layers = {_layer(key) for key, _ in references}
        self._shared = None
        self._layers = {layer: self._make(self.capacity_bytes // len(layers)) for layer in layers}

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key`` in its layer; one that was not announced has no share."""
        policy = self._of(key)
        return policy is not None and policy.access(key, n_bytes)

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        policy = self._of(key)
        return policy is not None and key in policy

    def _of(self, key: Hashable) -> CachePolicy | None:
        return self._layers.get(_layer(key)) if self._shared is None else self._shared


def _layer(key: Hashable) -> Hashable:
    return key[0] if isinstance(key, tuple) else None


class LayerLru(PerLayer):
    """LRU within each layer."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes, Lru)


class LayerLfu(PerLayer):
    """LFU within each layer."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes, Lfu)
