"""Where the experts of a streamed mixture are: in the weight cache, in RAM, in swap.

Memory pressure: when cache, dense weights and the rest leave less than the system wants, the kernel swaps out what has
been idle longest. It is played as a second LRU, of what it leaves of the cache, over the same accesses: an expert the
cache holds but this one has lost comes back page by page, and for each page another goes out. So a cache past RAM pays
for its hits. That says how much; when is another matter, as it comes in bursts (``fault_bursts``).

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

import numpy as np
from numpy.typing import NDArray

from simio.cache.base import CachePolicy
from simio.cache.lru import Lru

#: Under pressure what comes back from swap makes as much go out, which costs as much (zram compresses it). On a OnePlus
#: 15R compute takes 67 to 79 us longer for each major fault under pressure, 25 to 39 us where all comes back once.
IN_AND_OUT = 2
#: Tokens from one burst of page faults to the next: seven in 880 tokens of the runs below.
BURST_EVERY = 120
#: The share ``x`` of the tokens that has most faults has ``1 − e^−(x/BURST)^STRETCH`` of them: least squares to the
#: mean of the five runs on a OnePlus 15R with 100 or more major faults a token, the first 16 tokens left out. Half of
#: them falls into 2.1 % of the tokens (0.8 to 4.7), 80 % into 6.2 (2 to 12), 95 % into 15.3 (3.5 to 27), in four of the
#: runs neighbours (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1: 2026-07-17 gemma_kdef, qwen_k6;
#: 07-20-cache-replay qwen-lfu_a; 07-20-sidecar qw-a2, qw-b2). Two more of the sidecar's settings had next to none.
BURST, STRETCH = 0.034, 0.75
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


def fault_bursts(most: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much more than on average each token of a run brings back from swap: shape (n_tokens,), mean 1 (P2).

    ``most``, shape (n_tokens,), is how much that would be if all it hits was swapped: what a burst has beyond that goes
    to other tokens. There is one burst for every 120 tokens, in the middle of them, and one at least.

    >>> fault_bursts(np.full(8, 100.0)).round(2).tolist()
    [0.0, 0.0, 0.0, 0.0, 7.44, 0.47, 0.07, 0.01]
    >>> fault_bursts(np.full(8, 2.0)).round(2).tolist()
    [0.35, 0.09, 0.02, 0.01, 2.0, 2.0, 2.0, 1.54]
    """
    n_tokens = len(most)
    if (all_hit := float(most.sum())) <= n_tokens:  # everything is swapped
        return most * (n_tokens / all_hit)
    n_bursts = max(1, round(n_tokens / BURST_EVERY))
    length, tokens = n_tokens / n_bursts, np.arange(n_tokens)
    starts = ((np.arange(n_bursts) + 0.5) * length).astype(int)
    age = (tokens - starts[np.searchsorted(starts, tokens, side="right") - 1]) % n_tokens
    left = np.exp(-((np.stack([age, age + 1]) / length / BURST) ** STRETCH))  # before and after each token
    share: NDArray[np.float64] = (left[0] - left[1]) * n_tokens / (left[0] - left[1]).sum()
    full = np.zeros(n_tokens, np.bool_)
    while (share > most * (1 + 1e-9)).any():
        full |= share > most
        share[full] = most[full]
        share[~full] *= (n_tokens - most[full].sum()) / share[~full].sum()
    return share


def in_bursts(swap_bytes: NDArray[np.int64], hit_bytes: NDArray[np.int64]) -> NDArray[np.float64]:
    """What goes through swap for each token of a run, shape (n_tokens,), as it comes in bursts. [whole bytes]

    ``swap_bytes`` is what would if the system took as much all the time, ``hit_bytes`` what tokens find in the cache.
    The total stays.
    """
    if not (mean := float(swap_bytes.mean())):
        return np.zeros(len(swap_bytes))
    return np.rint(fault_bursts(IN_AND_OUT * hit_bytes / mean) * mean, dtype=np.float64)
