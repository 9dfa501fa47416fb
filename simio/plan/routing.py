"""Which experts a token takes, where no trace says so: seeded, with skewed popularity, drifting topics and bursts.

Independent draws would hide the locality that makes an expert cache work, and the swings from token to token that make
its tail. A token takes from every layer the ``top_k`` experts of the highest score, so that top-6 is part of top-8:

    score = (−SKEW·rank/n_experts + DRIFT·x(t)) / novelty(t) + gumbel

- Popularity: each layer ranks its experts at random; without the rest this draws without replacement with
  p ∝ e^score (Gumbel top-k; Kool, van Hoof, Welling, ICML 2019).
- Drift: x is unit Gaussian noise per expert that forgets within MEMORY tokens: what a passage is about.
- Repetition: an expert the last token used is taken again with probability REPEAT / novelty before any other.
- Bursts: novelty(t) = e^(NOVELTY·z), one normal z a token for all layers: some tokens are old friends everywhere and
  others new everywhere. Without it hit ratios are right and the slowest tokens are not. Every BLOCK tokens have the
  same z in another order, so that a short run is less the luck of its seed.
- Prompts are more varied than what a model writes: there novelty is PROMPT times as large.

Fitted to two routing traces from a phone, Qwen3-30B-A3B and Gemma-4-26B-A4B, both top-6 of 128, one set for both: share
missed under LRU of 1000 to 6000 MiB, its 95th percentile over tokens, how many experts a layer has used after 10 to 128
tokens and in the prompt, and how much more LFU of 3000 MiB hits (github.com/Helldez/BigMoeOnEdge docs/bench-data,
commit 2d4f2b1). Hit ratios are met to 1.5 points rms over three seeds; those of eleven runs of the same phone and
models that were not fitted, nine of them top-8, to 1.4. For other numbers of experts it is assumed that popularity
depends on rank/n_experts; a model of few experts trained to balance them is less skewed than that.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simio.records.routing import RoutingTrace

SKEW = 9.8  # ln of how much likelier the most popular expert is than the least popular one
DRIFT = 0.82  # standard deviation of what drifts, in the same unit
MEMORY = 18.0  # tokens
REPEAT = 0.155
NOVELTY = 0.495
PROMPT = 1.45
BLOCK = 32  # tokens


@lru_cache(maxsize=4)
def draw_routing(
    n_layers: int, n_experts: int, top_k: int, n_prompt: int, n_tokens: int, seed: int
) -> list[list[tuple[int, ...]]]:
    """Experts per token and layer, ``n_prompt`` tokens and then ``n_tokens`` written ones.

    ``result[token][layer]`` is a sorted tuple of ``top_k`` expert numbers.
    """
    rng = np.random.default_rng(seed)
    shape = (n_layers, n_experts)
    popularity = np.stack([rng.permutation(n_experts) for _ in range(n_layers)]) * (-SKEW / n_experts)
    kept = np.exp(-1 / MEMORY)
    fresh = DRIFT * np.sqrt(1 - kept**2)
    drift = DRIFT * rng.standard_normal(shape)
    novelties = np.concatenate([PROMPT * _novelties(n_prompt, (seed, 1)), _novelties(n_tokens, (seed, 2))])
    used = np.zeros(shape, dtype=bool)
    routing = []
    for novelty in novelties:
        again = used & (rng.random(shape) < REPEAT / novelty)
        score = (popularity + drift) / novelty + rng.gumbel(size=shape) + np.where(again, 1e3, 0.0)
        chosen = np.argpartition(-score, top_k - 1, axis=1)[:, :top_k]
        used[:] = False
        np.put_along_axis(used, chosen, True, axis=1)
        drift = kept * drift + fresh * rng.standard_normal(shape)
        routing.append([tuple(row) for row in np.sort(chosen, axis=1).tolist()])
    return routing


def _novelties(n_tokens: int, seed: tuple[int, int]) -> NDArray[np.float64]:
    """How new what each token takes is: log-normal, every block with the same quantiles; more tokens change none."""
    rng = np.random.default_rng(seed)
    scores = [NormalDist().inv_cdf((i + 0.5) / BLOCK) for i in range(BLOCK)]
    drawn = [rng.permutation(scores) for _ in range(-(-n_tokens // BLOCK))]
    return np.exp(NOVELTY * np.concatenate([*drawn, []])[:n_tokens])


def union(routing: list[list[tuple[int, ...]]]) -> list[tuple[int, ...]]:
    """The experts that a batch of tokens needs, per layer."""
    n_layers = len(routing[0])
    return [tuple(sorted({e for token in routing for e in token[layer]})) for layer in range(n_layers)]


def replayed(trace: RoutingTrace, n_prompt: int, n_tokens: int) -> list[list[tuple[int, ...]]]:
    """The recorded experts of ``n_prompt`` tokens (again from the start where there are fewer) and of those decoded."""
    prompt = trace.prompt or trace.decoded[:1]
    first = [list(prompt[i % len(prompt)]) for i in range(n_prompt - 1)]
    return [*first, list(prompt[-1]), *map(list, trace.decoded[:n_tokens])]
