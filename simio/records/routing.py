"""A recorded routing: which experts every token of a run took, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoutingTrace:
    """``prompt[token][layer]`` and ``decoded[token][layer]`` are the experts chosen, by weight of the router.

    ``weights`` is parallel to both together: each expert's share of the router's weight. A layer in which a token took
    none (the last one, for all but the last prompt token) is empty.
    """

    n_layers: int
    n_experts: int
    top_k: int
    prompt: tuple[tuple[tuple[int, ...], ...], ...]
    decoded: tuple[tuple[tuple[int, ...], ...], ...]
    weights: tuple[tuple[tuple[float, ...], ...], ...]
