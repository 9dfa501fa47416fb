"""Where the experts of a streamed mixture are: in the weight cache, in RAM, in swap.

Memory pressure: when cache, dense weights and the rest leave less than the system wants, the kernel swaps out what has
been idle longest. It is played as a second LRU, of what it leaves of the cache, over the same accesses: an expert the
cache holds but this one has lost comes back page by page, and for each page another goes out. So a cache past RAM pays
for its hits.

Overflow: a cache with a share for each layer is trimmed when its layer is visited again, so the experts of a prompt's
batch stay until then, far beyond its size. Where they exceed RAM, all that the process holds is in swap when the prompt
ends: dense weights come back with the first token, experts when they are next hit. On a OnePlus 15R the first token
after a prompt of 38 hit 94 % under layer-LFU (LRU: 37 %) and took 396,903 and in a repeat 396,582 major faults,
1550 MiB: the dense weights (812) and every hit (738). The cache spent 2 s on trimming. 93 and 99 % of all faults fell
into the first 16 of 256 tokens (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1,
2026-07-20-cache-replay).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simio.cache.base import CachePolicy
from simio.cache.lru import Lru

#: Under pressure what comes back from swap makes as much go out, which costs as much (zram compresses it). On a OnePlus
#: 15R compute takes 67 to 79 us longer for each major fault under pressure, 25 to 39 us where all comes back once.
IN_AND_OUT = 2
#: Policies that give each layer a share.
SHARED_OUT = ("layer_lru", "layer_lfu")
OVERFLOW = (
    "the prompt's experts overflow their layers' shares of the cache, and RAM: all is swapped out when it ends and "
    "comes back page by page; what that costs the prompt itself is not counted"
)

#: An expert: the block of its layer, and its number there.
Key = tuple[int, int]


@dataclass(slots=True)
class Store:
    """The weight cache, and what the kernel still has of it in RAM."""

    cache: CachePolicy
    in_ram: Lru | None  # None: all of the cache is, but for ``swapped``
    is_overfull: bool = False  # nothing of the prompt's batch has been trimmed yet
    swapped: set[Key] = field(default_factory=set)  # of the prompt's batch, not used again so far

    def use(self, key: Key, n_bytes: int) -> tuple[bool, int]:
        """Touch an expert: whether the cache holds it, and how often its size goes through swap for that."""
        is_swapped = key in self.swapped
        resident = self.in_ram is None or self.in_ram.access(key, n_bytes)
        hit = self.cache.access(key, n_bytes) or (is_swapped and self.is_overfull)
        self.swapped.discard(key)
        if not hit:
            return False, 0
        return True, int(is_swapped) if resident else IN_AND_OUT

    def overflow(self, batch: Mapping[Key, int], room_bytes: int) -> None:
        """The prompt is over, and its last batch is held [bytes of each expert]; past ``room_bytes`` all is swapped."""
        if sum(batch.values()) > room_bytes:
            self.swapped = set(batch)
            self.is_overfull = True

    def trim(self) -> None:
        """Every layer has been visited since: what its share does not hold has gone."""
        self.is_overfull = False
