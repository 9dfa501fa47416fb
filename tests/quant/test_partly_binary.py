"""Binary layouts, and those that keep a salient part in more bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simio.quant import parse
from simio.quant.ptq161 import rank_one
from simio.quant.salience import hessian_salience, highest
from simio.testing import random_activations


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(4).standard_t(4, (40, 256)).astype(np.float32)


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_binary_is_sign_times_mean_magnitude():
    q = parse("binary:channel")
    streams = q.quantize(row(1, -3, 0, 4))
    assert streams["codes"].tolist() == [0b1101]
    assert q.dequantize(streams, (1, 4)).tolist() == [[2, -2, 2, 2]]


def test_the_mean_magnitude_errs_least(weights):
    q = parse("binary:channel")
    restored = q.dequantize(q.quantize(weights), weights.shape)
    errors = [np.sum((weights - factor * restored) ** 2) for factor in (0.99, 1, 1.01)]
    assert min(errors) == errors[1]


def test_pbllm_keeps_the_largest_weights_nearly_exactly(weights):
    q = parse("pbllm:0.1")
    streams = q.quantize(weights)
    symbols = q.symbols(streams, weights.shape)
    mask = symbols["mask"].reshape(weights.shape).astype(bool)
    assert mask.sum() == round(0.1 * weights.size) == symbols["salient_codes"].size
    assert symbols["codes"].size == weights.size - mask.sum()
    assert np.abs(weights)[mask].min() >= np.abs(weights)[~mask].max()
    step = np.abs(weights).max(axis=1, keepdims=True) / 127
    wrong = np.abs(q.dequantize(streams, weights.shape) - weights)
    assert (wrong <= 0.5001 * step)[mask].all()
    rest = np.where(mask, np.nan, np.abs(weights))
    np.testing.assert_allclose(streams["scales"], np.nanmean(rest, axis=1), rtol=1e-6)


def test_pbllm_calibrated_ranks_by_the_inverse_hessian(weights):
    activations = random_activations(256)
    q = parse("pbllm:0.1").calibrated(activations)
    hessian = 2 * activations.gram.astype(np.float64)
    hessian += 0.01 * np.trace(hessian) / 256 * np.eye(256)
    salience = weights**2 / np.diag(np.linalg.inv(hessian)) ** 2
    mask = q.symbols(q.quantize(weights), weights.shape)["mask"].reshape(weights.shape).astype(bool)
    assert salience[mask].min() >= 0.999 * salience[~mask].max()


def test_pbllm_calibrated_errs_less_in_the_output(weights):
    activations = random_activations(256)

    def output_error(q):
        wrong = q.dequantize(q.quantize(weights), weights.shape) - weights
        return float(np.einsum("ij,jk,ik->", wrong, activations.gram, wrong))

    plain = parse("pbllm:0.1")
    assert output_error(plain.calibrated(activations)) < output_error(plain)


def test_inputs_that_are_all_zero_calibrate_nothing_away(weights):
    silent = replace(random_activations(256), gram=np.zeros((256, 256), np.float32))
    assert np.isfinite(hessian_salience(silent)).all()
    for name in ("pbllm:0.1", "squeezellm:4bit", "sparse:2of4:f16"):
        q = parse(name).calibrated(silent)
        assert np.isfinite(q.dequantize(q.quantize(weights), weights.shape)).all()


def test_ptq161_keeps_the_channels_with_the_largest_inputs(weights):
    activations = random_activations(256)
    q = parse("ptq161:0.2").calibrated(activations)
    mask = q.symbols(q.quantize(weights), weights.shape)["mask"].astype(bool)
    assert mask.sum() == 51
    assert activations.peak[mask].min() >= activations.peak[~mask].max()
    uncalibrated = parse("ptq161:0.2")
    means = np.abs(weights).mean(axis=0)
    mask = uncalibrated.symbols(uncalibrated.quantize(weights), weights.shape)["mask"].astype(bool)
    assert means[mask].min() >= means[~mask].max()


def test_ptq161_is_exact_for_signs_times_rows_times_columns():
    rng = np.random.default_rng(6)
    rows, columns = 2.0 ** rng.integers(-6, 0, 16), rng.choice([0.5, 1.5], 64)
    w = (rows[:, None] * columns * rng.choice([-1, 1], (16, 64))).astype(np.float32)
    q = parse("ptq161:0.25")
    streams = q.quantize(w)
    mask = q.symbols(streams, w.shape)["mask"].astype(bool)
    restored = q.dequantize(streams, w.shape)
    np.testing.assert_allclose(restored[:, ~mask], w[:, ~mask], rtol=0.002)


def test_rank_one_is_the_leading_singular_pair():
    magnitudes = np.abs(np.random.default_rng(7).standard_normal((50, 90))).astype(np.float32)
    rows, columns = rank_one(magnitudes)
    u, s, v = np.linalg.svd(magnitudes.astype(np.float64))
    np.testing.assert_allclose(np.outer(rows, columns), s[0] * np.outer(u[:, 0], v[0]), rtol=1e-3)
    assert columns.mean() == pytest.approx(1, rel=1e-5)


def test_all_channels_may_be_salient(weights):
    q = parse("ptq161:0.999")
    restored = q.dequantize(q.quantize(weights), weights.shape)
    step = np.ptp(weights, axis=1, keepdims=True) / 15
    assert (np.abs(restored - weights) <= 0.51 * step).all()


@pytest.mark.parametrize("count", [0, 1, 50, 99, 100])
def test_the_highest_are_an_exact_number_of_the_largest(count):
    scores = np.random.default_rng(count).integers(0, 10, 100).astype(np.float32)
    chosen = highest(scores, count)
    expected = np.zeros(100, bool)
    expected[np.argsort(-scores, kind="stable")[:count]] = True
    assert np.array_equal(chosen, expected)
