"""Dequantized weights against straightforward references: every level tried, in float64, on drawn and real weights."""

from __future__ import annotations

import numpy as np
import pytest
from reference_levels import E2M1, E4M3, E5M2, KINDS, NF4, nearest, rmse, under_absmax, weights

from simio import quant
from simio.quant.nf4 import dynamic_levels


def of(name: str, w: np.ndarray) -> np.ndarray:
    layout = quant.parse(name)
    return layout.dequantize(layout.quantize(w), w.shape)


#: name, levels, weights under a scale (None: all).
ONE_SCALE = [
    ("nf4", NF4, 64),
    ("nf4:group128", NF4, 128),
    ("fp4:tensor", E2M1, None),
    ("fp4:channel", E2M1, 768),
    ("fp4:group16", E2M1, 16),
    ("fp4:group32", E2M1, 32),
    ("f8_e4m3", E4M3, None),
    ("f8_e4m3:channel", E4M3, 768),
    ("f8_e4m3:group128", E4M3, 128),
    ("f8_e5m2:channel", E5M2, 768),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "levels", "group"), ONE_SCALE, ids=lambda v: v if isinstance(v, str) else "")
def test_error_is_that_of_the_nearest_level_under_the_largest_weight(name, levels, group, kind):
    w = weights(kind)
    expected = rmse(under_absmax(w, levels, group or w.size), w)
    assert rmse(of(name, w), w) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("kind", KINDS)
def test_doubly_quantized_scales(kind):
    """QLoRA, section 3: absmax less its mean, in blocks of 256, as the nearest of 256 levels of the block's largest."""
    w = weights(kind)
    rows = w.astype(np.float64).reshape(-1, 64)
    exact = np.abs(rows).max(axis=1)
    stored = np.empty_like(exact)
    for start in range(0, exact.size, 256):
        block = exact[start : start + 256] - exact.mean()
        largest = np.abs(block).max()
        stored[start : start + 256] = nearest(block / largest, dynamic_levels()) * largest + exact.mean()
    expected = (nearest(rows / exact[:, None], NF4) * stored[:, None]).reshape(w.shape)
    assert rmse(of("nf4:double", w), w) == pytest.approx(rmse(expected, w), rel=0.002)
    assert rmse(of("nf4:double", w), w) <= 1.005 * rmse(of("nf4", w), w)


@pytest.mark.parametrize("kind", KINDS)
def test_nvfp4(kind):
    w = weights(kind)
    rows = w.astype(np.float64).reshape(-1, 16)
    tensor_scale = np.abs(rows).max() / (6 * 448)
    scale = nearest(np.abs(rows).max(axis=1) / (6 * tensor_scale), E4M3)[:, None] * tensor_scale
    expected = np.where(scale > 0, nearest(rows / np.where(scale > 0, scale, 1), E2M1) * scale, 0).reshape(w.shape)
    assert rmse(of("nvfp4", w), w) == pytest.approx(rmse(expected, w), rel=0.002)


@pytest.mark.parametrize("kind", KINDS)
def test_mxfp4(kind):
    w = weights(kind)
    rows = w.astype(np.float64).reshape(-1, 32)
    scale = 2.0 ** (np.floor(np.log2(np.abs(rows).max(axis=1, keepdims=True))) - 2)
    expected = (nearest(rows / scale, E2M1) * scale).reshape(w.shape)
    assert rmse(of("mxfp4", w), w) == pytest.approx(rmse(expected, w), rel=0.002)


@pytest.mark.parametrize("kind", KINDS)
def test_exponent_biases_are_the_best_of_all(kind):
    w = weights(kind)
    errors = []
    for bias in range(-1, 12):
        scale = np.abs(w).max() / 6 * 2.0**-bias
        errors.append(np.square(nearest(w / scale, E2M1) * scale - w).sum(axis=1))
    expected = np.sqrt(np.min(errors, axis=0).sum() / w.size)
    assert rmse(of("fp4:channel:bias", w), w) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_powers_of_two_have_the_scale_of_least_error(bits, kind):
    w = weights(kind)
    levels = 2.0 ** np.arange(1 - 2 ** (bits - 1), 1)
    errors = []
    for factor in np.geomspace(1 / 64, 1.34, 90):
        scale = np.abs(w).max(axis=1, keepdims=True) * factor
        errors.append(np.square(nearest(np.abs(w) / scale, levels) * scale - np.abs(w)).sum(axis=1))
    expected = np.sqrt(np.min(errors, axis=0).sum() / w.size)
    assert rmse(of(f"shift{bits}:channel", w), w) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "top"), [("power3:channel", 3), ("power4:channel", 7), ("power4:tensor", 7)])
def test_power_laws_have_the_exponent_of_least_error(name, top, kind):
    w = weights(kind).astype(np.float64)
    one = name.endswith("tensor")
    peak = np.abs(w).max() if one else np.abs(w).max(axis=1, keepdims=True)
    errors = []
    for a in np.linspace(0.25, 1, 61):
        levels = (np.rint(top * (np.abs(w) / peak) ** a) / top) ** (1 / a) * peak
        errors.append(np.square(levels - np.abs(w)).sum(axis=None if one else 1))
    expected = np.sqrt(np.min(errors, axis=0).sum() / w.size)
    assert rmse(of(name, w.astype(np.float32)), w) == pytest.approx(expected, rel=0.02)
    assert rmse(of(name, w.astype(np.float32)), w) <= rmse(of(f"int{name[5:]}", w.astype(np.float32)), w)
