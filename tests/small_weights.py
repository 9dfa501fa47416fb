"""Weights with a known distribution, for models of a few matrices."""

from __future__ import annotations

import numpy as np


def gaussian(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 0.02).astype(np.float32)


def tensors() -> dict[str, np.ndarray]:
    """Two layers, a table, a norm; one matrix whose rows are no whole groups, one with NaN, one empty."""
    found = {"model.embed_tokens.weight": gaussian((1000, 256), 9), "model.norm.weight": np.ones(256, np.float32)}
    for n in range(2):
        layer = f"model.layers.{n}"
        found[f"{layer}.self_attn.q_proj.weight"] = gaussian((256, 256), 10 * n)
        found[f"{layer}.mlp.down_proj.weight"] = gaussian((128, 512), 10 * n + 1)
    found["model.layers.1.mlp.up_proj.weight"] = gaussian((64, 100), 5)
    found["model.layers.1.mlp.gate_proj.weight"] = np.full((64, 256), np.nan, np.float32)
    return found
