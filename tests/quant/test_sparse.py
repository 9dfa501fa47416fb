"""N:M sparsity over inner layouts."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from simio.quant import parse
from simio.testing import random_activations


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(15).standard_normal((16, 256)).astype(np.float32)


def back(name: str, w: np.ndarray) -> np.ndarray:
    q = parse(name)
    return q.dequantize(q.quantize(w), w.shape)


def test_a_row_by_hand():
    q = parse("sparse:2of4:f32")
    w = np.array([[1, -4, 3, 2, 0, 0, -5, 0]], np.float32)
    streams = q.quantize(w)
    assert streams["data"].view(np.float32).tolist() == [-4, 3, 0, -5]  # of equal weights the first is kept
    assert streams["places"].tolist() == [1 | 2 << 2 | 0 << 4 | 2 << 6]
    assert q.symbols(streams, w.shape)["places"].tolist() == [0b1001, 0b1000]
    assert q.dequantize(streams, w.shape).tolist() == [[0, -4, 3, 0, 0, 0, -5, 0]]


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 4), (2, 4), (3, 4), (4, 8), (1, 8), (8, 16)])
def test_the_largest_n_of_each_m_are_kept(n, m, weights):
    restored = back(f"sparse:{n}of{m}:f32", weights).reshape(-1, m)
    groups = weights.reshape(-1, m)
    kept = restored != 0
    assert (kept.sum(axis=1) == n).all()
    assert np.array_equal(restored[kept], groups[kept])
    smallest_kept = np.where(kept, np.abs(groups), np.inf).min(axis=1)
    largest_dropped = np.where(kept, 0, np.abs(groups)).max(axis=1)
    assert (smallest_kept >= largest_dropped).all()


def test_kept_weights_are_a_matrix_of_the_inner_layout(weights):
    q, inner = parse("sparse:2of4:int4:group32"), parse("int4:group32")
    streams = q.quantize(weights)
    dense = back("sparse:2of4:f32", weights)
    expected = inner.quantize(dense[dense != 0].reshape(16, 128))
    for key, stream in expected.items():
        assert np.array_equal(streams[key], stream)


def test_calibrated_weighs_magnitudes_by_the_norm_of_the_inputs(weights):
    activations = random_activations(256)
    q = parse("sparse:2of4:f32").calibrated(activations)
    kept = q.dequantize(q.quantize(weights), weights.shape).reshape(-1, 4) != 0
    scores = (np.abs(weights) * np.sqrt(np.diag(activations.gram))).reshape(-1, 4)
    smallest_kept = np.where(kept, scores, np.inf).min(axis=1)
    assert (smallest_kept >= np.where(kept, 0, scores).max(axis=1)).all()


def test_patterns_tell_all_there_is_to_places(weights):
    q = parse("sparse:4of8:f16")
    patterns = q.symbols(q.quantize(weights), weights.shape)["places"]
    assert patterns.dtype == np.uint16
    places = patterns[:, None] >> np.arange(0, 12, 3, dtype=np.uint16) & 7
    assert {tuple(p) for p in places.tolist()} <= set(combinations(range(8), 4))


def test_rows_are_apart_where_the_inner_layout_needs_no_figure_of_the_whole():
    assert parse("sparse:2of4:int4:group32").rows_apart
    assert parse("sparse:2of4:int8:channel").rows_apart
    assert not parse("sparse:2of4:int8:tensor").rows_apart
    assert not parse("sparse:2of4:squeezellm:4bit").rows_apart
