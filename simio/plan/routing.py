"""Which experts a token takes, where no trace says so: seeded, with skewed popularity and temporal locality.

Independent draws would hide the locality that makes an expert cache work, and the swings from token to token that make
its tail. Each layer puts its experts in a random order of popularity, p(rank) ∝ exp(-SKEW·(rank/n_experts)^SHAPE). An
expert is likelier the more recently it was used: e^MEMORY times right after, less by MEMORY_DECAY a token. One the last
token used is taken again outright with probability REPEAT. How much a token heeds all this is its own: its log weights
and its REPEAT are divided by one log-normal draw of standard deviation NOVELTY, the same in all layers, so that some
tokens are old friends everywhere and others new everywhere. Experts are drawn without replacement (Gumbel top-k).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simio.records.routing import RoutingTrace

#: Fitted on share missed and its standard deviation over tokens, under LRU of 1 to 6 GB, of two routing traces from a
#: phone, Qwen3-30B-A3B and Gemma-4-26B-A4B, both 128 experts, top-6 (github.com/Helldez/BigMoeOnEdge docs/bench-data,
#: commit 2d4f2b1). One set of parameters meets the ten hit ratios to 1.4 points rms; at top-8, where nothing was
#: fitted, seven more of runs on the phone to 2.5. For other numbers of experts it is assumed.
SKEW, SHAPE = 6.88, 0.833
REPEAT = 0.2
MEMORY, MEMORY_DECAY = 0.87, 0.97
NOVELTY = 0.47


@lru_cache(maxsize=4)
def draw_routing(n_layers: int, n_experts: int, top_k: int, n_tokens: int, seed: int) -> list[list[tuple[int, ...]]]:
    """Experts per token and layer: ``result[token][layer]`` is a sorted tuple of ``top_k`` expert numbers."""
    rng = np.random.default_rng(seed)
    rank = np.stack([rng.permutation(n_experts) for _ in range(n_layers)])
    log_p = -SKEW * (rank / n_experts) ** SHAPE
    used = np.zeros((n_layers, n_experts), dtype=bool)
    recency = np.zeros((n_layers, n_experts))
    routing = []
    for _ in range(n_tokens):
        novelty = np.exp(NOVELTY * rng.standard_normal())
        keep = used & (rng.random((n_layers, n_experts)) < REPEAT / novelty)
        score = (log_p + MEMORY * recency) / novelty + rng.gumbel(size=(n_layers, n_experts)) + np.where(keep, 1e3, 0.0)
        chosen = np.argpartition(-score, top_k - 1, axis=1)[:, :top_k]
        used[:] = False
        np.put_along_axis(used, chosen, True, axis=1)
        recency = np.maximum(recency * MEMORY_DECAY, used)
        routing.append([tuple(row) for row in np.sort(chosen, axis=1).tolist()])
    return routing


def union(routing: list[list[tuple[int, ...]]]) -> list[tuple[int, ...]]:
    """The experts that a batch of tokens needs, per layer."""
    n_layers = len(routing[0])
    return [tuple(sorted({e for token in routing for e in token[layer]})) for layer in range(n_layers)]


def replayed(trace: RoutingTrace, n_prompt: int, n_tokens: int) -> list[list[tuple[int, ...]]]:
    """The recorded experts of ``n_prompt`` tokens (again from the start where there are fewer) and of those decoded."""
    prompt = trace.prompt or trace.decoded[:1]
    first = [list(prompt[i % len(prompt)]) for i in range(n_prompt - 1)]
    return [*first, list(prompt[-1]), *map(list, trace.decoded[:n_tokens])]
