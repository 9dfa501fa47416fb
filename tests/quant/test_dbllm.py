"""Two binary planes: nearest levels and fitted scales against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from simio.quant import parse
from simio.quant.dbllm import _least_squares, fitted_scales, planes


def groups(n: int, m: int) -> np.ndarray:
    return np.random.default_rng(8).standard_t(5, (n, m)).astype(np.float32)


def squared_error(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    plane1, plane2 = planes(x, first, second)
    return np.sum((x - first[:, None] * plane1 - second[:, None] * plane2) ** 2, axis=1)


def test_every_weight_takes_the_nearest_of_its_four_levels():
    w = groups(16, 256)
    q = parse("dbllm:group64")
    streams = q.quantize(w)
    first, second = (streams[key].astype(np.float32)[:, None] for key in ("scales1", "scales2"))
    levels = np.concatenate([second, 0 * first, first + second, first], axis=1)
    assert (np.diff(levels, axis=1) > 0).all()
    x = w.reshape(-1, 64)
    nearest = np.abs(x[:, :, None] - levels[:, None]).min(axis=2)
    restored = q.dequantize(streams, w.shape).reshape(-1, 64)
    np.testing.assert_allclose(np.abs(restored - x), nearest, atol=1e-5)


def test_scales_are_near_the_best_of_a_grid():
    x = groups(20, 256)
    mean = np.abs(x).mean(axis=1)
    best = np.full(len(x), np.inf)
    for a in np.linspace(1, 5, 33):
        for b in np.linspace(0.3, 2.5, 23):
            if b < a:
                best = np.minimum(best, squared_error(x, (a * mean).astype(np.float32), (-b * mean).astype(np.float32)))
    assert squared_error(x, *fitted_scales(x)).sum() <= 1.03 * best.sum()


def test_a_step_of_the_fit_never_errs_more():
    x = groups(30, 128)
    scale = np.abs(x).mean(axis=1)
    first, second = 2 * scale, -scale
    for _ in range(6):
        before = squared_error(x, first, second)
        first, second = _least_squares(x, first, second)
        assert (squared_error(x, first, second) <= before * (1 + 1e-6)).all()


@pytest.mark.parametrize("distribution", ["normal", "t5"])
def test_few_weights_are_in_the_first_plane(distribution):
    rng = np.random.default_rng(9)
    w = rng.standard_normal((64, 512)) if distribution == "normal" else rng.standard_t(5, (64, 512))
    symbols = parse("dbllm:group64").symbols(parse("dbllm:group64").quantize(w), w.shape)
    assert symbols["plane1"].mean() < 0.37
    assert symbols["plane2"].mean() < 0.6
