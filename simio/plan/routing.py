"""Which experts a token takes, where no trace says so: seeded, with skewed popularity and temporal locality.

Independent draws would hide the locality that makes an expert cache work. Each layer puts its experts in a random order
of popularity p(rank) ∝ (OFFSET·n_experts + rank)^-SKEW; an expert used by the previous token is taken again with
probability REPEAT before the rest is drawn by popularity without replacement (Gumbel top-k).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Fitted on the LRU hit curves (500 MiB to 6 GB) of two routing traces from a phone, Qwen3-30B-A3B and Gemma-4-26B-A4B,
#: both 128 experts, top-6: one set of parameters reproduces both to 1.5 points rms
#: (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1). For other numbers of experts it is assumed.
SKEW = 2.0
OFFSET = 1 / 16
REPEAT = 0.2


@lru_cache(maxsize=4)
def draw_routing(n_layers: int, n_experts: int, top_k: int, n_tokens: int, seed: int) -> list[list[tuple[int, ...]]]:
    """Experts per token and layer: ``result[token][layer]`` is a sorted tuple of ``top_k`` expert numbers."""
    rng = np.random.default_rng(seed)
    log_p = np.empty((n_layers, n_experts))
    for layer in range(n_layers):
        log_p[layer] = -SKEW * np.log(OFFSET * n_experts + rng.permutation(n_experts))
    used = np.zeros((n_layers, n_experts), dtype=bool)
    routing = []
    for _ in range(n_tokens):
        keep = used & (rng.random((n_layers, n_experts)) < REPEAT)
        score = log_p + rng.gumbel(size=(n_layers, n_experts)) + np.where(keep, 1e3, 0.0)
        chosen = np.argpartition(-score, top_k - 1, axis=1)[:, :top_k]
        used[:] = False
        np.put_along_axis(used, chosen, True, axis=1)
        routing.append([tuple(row) for row in np.sort(chosen, axis=1).tolist()])
    return routing


def union(routing: list[list[tuple[int, ...]]]) -> list[tuple[int, ...]]:
    """The experts that a batch of tokens needs, per layer."""
    n_layers = len(routing[0])
    return [tuple(sorted({e for token in routing for e in token[layer]})) for layer in range(n_layers)]
