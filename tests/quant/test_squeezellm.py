"""Codebooks by k-means over sorted rows, and outliers in CSR form."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simio.errors import UsageError
from simio.quant import parse
from simio.quant.scalar_kmeans import _SortedRows, levels_of_rows, nearest
from simio.testing import random_activations


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(10).standard_t(3, (24, 512)).astype(np.float32)


def objective(x: np.ndarray, counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The weighted squared distance to the nearest level, by brute force."""
    return np.sum(counts * np.min((x[:, :, None] - levels[:, None]) ** 2, axis=2), axis=1)


def counts_of(x: np.ndarray) -> np.ndarray:
    return np.random.default_rng(12).random(x.shape).astype(np.float32)


def test_no_round_errs_more_than_the_one_before(weights):
    counts = counts_of(weights)
    rows = _SortedRows(weights, counts)
    errors = [objective(weights, counts, rows.levels(8, rounds)) for rounds in range(12)]
    for before, after in pairwise(errors):
        assert (after <= before * (1 + 1e-6)).all()
    assert errors[-1].sum() < 0.95 * errors[0].sum()


def test_levels_are_the_weighted_means_of_their_clusters(weights):
    counts = counts_of(weights)
    levels = _SortedRows(weights, counts).levels(4, 500)
    codes = np.abs(weights[:, :, None] - levels[:, None]).argmin(axis=2)
    for level in range(4):
        inside = np.where(codes == level, counts, 0)
        np.testing.assert_allclose(levels[:, level], (inside * weights).sum(1) / inside.sum(1), atol=2e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_small_rows_come_near_the_best_partition(weighted):
    x = np.sort(np.random.default_rng(13).standard_normal((40, 12)).astype(np.float32), axis=1)
    counts = counts_of(x) if weighted else np.ones_like(x)
    best = np.full(len(x), np.inf)
    for i in range(1, 11):
        for j in range(i + 1, 12):  # all ways to cut a sorted row in three
            parts = [slice(0, i), slice(i, j), slice(j, 12)]
            means = [np.average(x[:, part], axis=1, weights=counts[:, part])[:, None] for part in parts]
            best = np.minimum(best, objective(x, counts, np.concatenate(means, axis=1)))
    found = objective(x, counts, levels_of_rows(x, counts, 3))
    assert (found >= best * (1 - 1e-5)).all()
    assert found.mean() <= 1.25 * best.mean()


def test_values_that_are_levels_are_met_exactly():
    x = np.random.default_rng(14).choice(np.array([-2, -0.5, 0, 3], np.float32), (6, 300))
    levels = levels_of_rows(x, np.ones_like(x), 8)
    assert objective(x, np.ones_like(x), levels).max() < 1e-9


def test_nearest_is_the_nearest(weights):
    levels = levels_of_rows(weights, np.ones_like(weights), 16)
    codes = nearest(weights, levels)
    chosen = np.take_along_axis(levels, codes.astype(int), axis=1)
    np.testing.assert_allclose(
        np.abs(weights - chosen), np.abs(weights[:, :, None] - levels[:, None]).min(axis=2), atol=1e-6
    )


def test_a_long_row_is_quantized_as_a_short_one_beside_others(weights):
    whole = levels_of_rows(weights, np.ones_like(weights), 8)
    assert np.array_equal(levels_of_rows(weights[5:6], np.ones_like(weights[5:6]), 8), whole[5:6])


def test_outliers_are_the_largest_weights_in_rows_and_columns(weights):
    q = parse("squeezellm:4bit:0.01")
    streams = q.quantize(weights)
    pointers, columns = streams["row_pointers"].astype(int), streams["columns"].astype(int)
    assert pointers[0] == 0
    assert pointers[-1] == len(columns) == len(streams["values"]) == round(0.01 * weights.size)
    apart = np.zeros(weights.shape, bool)
    for i, (start, end) in enumerate(pairwise(pointers)):
        apart[i, columns[start:end]] = True
        assert (np.diff(columns[start:end]) > 0).all()
    assert np.abs(weights)[apart].min() >= np.abs(weights)[~apart].max()
    restored = q.dequantize(streams, weights.shape)
    np.testing.assert_allclose(restored[apart], weights[apart], rtol=0.002)


def test_heavy_tails_err_less_than_with_uniform_levels(weights):
    def error(name):
        q = parse(name)
        return np.mean((q.dequantize(q.quantize(weights), weights.shape) - weights) ** 2)

    assert error("squeezellm:4bit") < 0.9 * error("squeezellm:4bit:0")
    assert error("squeezellm:4bit:0") < 0.2 * error("int4:channel")
    assert error("squeezellm:3bit") < 0.5 * error("int4:channel")


def test_calibrated_errs_less_where_inputs_are_large(weights):
    activations = random_activations(512)
    importance = np.diag(activations.gram)

    def error(q):
        return np.sum(importance * (q.dequantize(q.quantize(weights), weights.shape) - weights) ** 2)

    plain = parse("squeezellm:3bit")
    assert error(plain.calibrated(activations)) < 0.9 * error(plain)


def test_too_many_columns_for_16_bits_are_refused():
    w = np.ones((1, 65537), np.float32)
    with pytest.raises(UsageError, match="column indices of 16 bits"):
        parse("squeezellm:4bit").quantize(w)
    assert parse("squeezellm:4bit:0").quantize(w)["codes"].size == 32769
