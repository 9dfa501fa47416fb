"""Quantized plus low-rank, and the truncated SVD below it and below BitStack."""

from __future__ import annotations

import numpy as np
import pytest

from simio import quant
from simio.quant.truncated_svd import EXACT_UP_TO, factors
from simio.quant.uniform import Uniform


def rmse(quantizer, w: np.ndarray) -> float:
    back = quantizer.dequantize(quantizer.quantize(w), w.shape)
    return float(np.sqrt(np.mean(np.square(back - w))) / w.std())


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    """Noise with a few strong directions, as decoders' matrices have them."""
    rng = np.random.default_rng(2)
    strong = rng.standard_normal((192, 8)) @ rng.standard_normal((8, 512))
    return (0.02 * (rng.standard_normal((192, 512)) + 0.3 * strong)).astype(np.float32)


@pytest.mark.parametrize("inner", ["int2:group64", "int2:group64:affine", "int3:group64", "int4:channel"])
def test_a_low_rank_correction_beats_the_quantizer_alone(inner, weights):
    errors = [rmse(quant.parse(inner), weights)]
    errors += [rmse(quant.parse(f"lowrank:{rank}:{inner}"), weights) for rank in (1, 4, 16, 64)]
    assert (np.diff(errors) < 0).all()


def test_alternating_beats_one_correction(weights):
    """LQ-LoRA's point: the quantizer may leave to the factors what they hold better."""
    inner = Uniform(2, 64)
    left = weights - inner.dequantize(inner.quantize(weights), weights.shape)
    u, v = factors(left, 16)
    once = float(np.sqrt(np.mean(np.square(left - u @ v))) / weights.std())
    assert rmse(quant.parse("lowrank:16:int2:group64"), weights) < 0.99 * once


def test_int2_with_a_small_rank_costs_a_twentieth_more():
    """INT2.1, arXiv 2306.08162: 1.05 times the size; rank 16 on 4096 is 0.125 bits."""
    alone, corrected = quant.parse("int2:group64"), quant.parse("lowrank:16:int2:group64")
    extra = corrected.bits_per_weight((4096, 4096)) - alone.bits_per_weight((4096, 4096))
    assert extra == 0.125
    assert 1 + extra / alone.bits_per_weight((4096, 4096)) == pytest.approx(1.05, abs=0.01)


def test_streams_of_both_parts_stay_apart(weights):
    streams = quant.parse("lowrank:4:int2:group64").quantize(weights)
    assert list(streams) == ["codes", "scales", "factor_u", "factor_v"]
    assert streams["factor_u"].size == 4 * 192
    assert streams["factor_v"].size == 4 * 512


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (EXACT_UP_TO + 64, EXACT_UP_TO + 300)])
def test_factors_are_nearly_the_best_of_their_rank(shape):
    a = np.abs(np.random.default_rng(1).standard_normal(shape)).astype(np.float32)
    u, v = factors(a, 12)
    assert u.shape == (shape[0], 12)
    assert v.shape == (12, shape[1])
    best = np.sqrt(np.square(np.linalg.svd(a, compute_uv=False)[12:]).sum())
    assert best <= np.linalg.norm(a - u @ v) * (1 + 1e-5)
    assert np.linalg.norm(a - u @ v) <= 1.01 * best
    assert np.allclose(np.linalg.norm(u, axis=0), np.linalg.norm(v, axis=1), rtol=1e-3)  # split evenly


def test_a_matrix_of_low_rank_comes_back_exactly():
    rng = np.random.default_rng(0)
    a = (rng.standard_normal((400, 5)) @ rng.standard_normal((5, 350))).astype(np.float32)
    u, v = factors(a, 5)
    assert np.allclose(u @ v, a, atol=1e-3)
