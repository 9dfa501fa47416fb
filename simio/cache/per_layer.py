"""An equal share of the budget for every layer, so that no layer's experts push out another's.

Keys are (layer, expert), as the planner makes them. How many layers there are comes with ``prepare``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from simio.cache.base import CachePolicy
from simio.cache.lfu import Lfu
from simio.cache.lru import Lru


class PerLayer:
    """One policy a layer, made by ``make(capacity_bytes)``; a single layer until ``prepare`` has counted them."""

    def __init__(self, capacity_bytes: int, make: Callable[[int], CachePolicy]) -> None:
        self.capacity_bytes = capacity_bytes
        self._make = make
        self._n_layers = 1
        self._layers: dict[Hashable, CachePolicy] = {}

    def prepare(self, references: Iterable[tuple[Hashable, int]]) -> None:
        """Count the layers of what will be asked for."""
        self._n_layers = max(1, len({_layer(key) for key, _ in references}))

    def access(self, key: Hashable, n_bytes: int) -> bool:
        """Touch ``key`` in its layer."""
        layer = _layer(key)
        if layer not in self._layers:
            if len(self._layers) == self._n_layers:
                return False  # a layer that was not announced has no share
            self._layers[layer] = self._make(self.capacity_bytes // self._n_layers)
        return self._layers[layer].access(key, n_bytes)

    def __contains__(self, key: Hashable) -> bool:
        """Whether ``key`` is resident; not an access."""
        layer = _layer(key)
        return layer in self._layers and key in self._layers[layer]


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
