"""On real trained weights: the finer the scale, the less is left to compress. Skips where the weights are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simio.quant.uniform import Uniform

ATTENTION = Path(__file__).parents[2].parent / "shared" / "models" / "gpt2-124m-attn-fp32be"

pytestmark = pytest.mark.skipif(not ATTENTION.is_dir(), reason=f"no GPT-2 weights at {ATTENTION}")


def int8_entropy(w: np.ndarray, group: int | str) -> float:
    counts = np.bincount(Uniform(8, group).quantize(w)["codes"])
    shares = counts[counts > 0] / w.size
    return float(-(shares * np.log2(shares)).sum())


LAYERS = (1, 4, 8, 12)
NAMES = ("query", "key", "value", "proj")


def matrix(layer: int, name: str) -> np.ndarray:
    return np.fromfile(ATTENTION / f"decoder{layer}" / f"att.{name}.w.dat", ">f4").reshape(768, 768).T


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", LAYERS)
def test_entropy_rises_from_tensor_to_channel_to_group(layer, name):
    w = matrix(layer, name)
    per_tensor, per_channel, per_group = (int8_entropy(w, group) for group in ("tensor", "channel", 32))
    assert per_tensor < per_channel < per_group
    assert per_group > 8 / 1.06


@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("layer", LAYERS)
def test_per_tensor_entropy_follows_the_crest_factor(layer, name):
    """``H = 2.047 + log2(127 σ / max|w|)``: the smooth-density formula with the Gaussian differential entropy."""
    w = matrix(layer, name)
    assert int8_entropy(w, "tensor") == pytest.approx(2.047 + np.log2(127 * w.std() / np.abs(w).max()), abs=0.1)


def test_outliers_leave_per_tensor_int8_compressible():
    entropies = [int8_entropy(matrix(layer, name), "tensor") for layer in LAYERS for name in NAMES]
    assert 8 / np.mean(entropies) >= 1.35
