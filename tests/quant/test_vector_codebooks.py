"""k-means, index packing, VPTQ and JLCM."""

from __future__ import annotations

import numpy as np
import pytest

from simio.quant import kmeans
from simio.quant.index_packing import index_bits, pack_indices, unpack_indices
from simio.quant.jlcm import Jlcm
from simio.quant.uniform import Uniform
from simio.quant.vptq import Vptq


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    return (0.02 * np.random.default_rng(3).standard_normal((256, 512))).astype(np.float32)


def relative_rmse(quantizer, w: np.ndarray) -> float:
    back = quantizer.dequantize(quantizer.quantize(w), w.shape)
    return float(np.sqrt(np.mean(np.square(back - w))) / w.std())


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("n", [1, 7, 8, 1001])
def test_packed_indices_come_back(bits, n):
    indices = np.random.default_rng(bits).integers(0, 1 << bits, n).astype(np.uint16)
    packed = pack_indices(indices, bits)
    assert packed.nbytes == (n * bits + 7) // 8
    assert np.array_equal(unpack_indices(packed, bits, n), indices)


def test_an_index_has_at_least_one_bit():
    assert [index_bits(n) for n in (1, 2, 3, 256, 257)] == [1, 1, 2, 8, 9]


def test_nearest_agrees_with_all_distances():
    rng = np.random.default_rng(5)
    x, book = rng.standard_normal((3000, 3)).astype(np.float32), rng.standard_normal((200, 3)).astype(np.float32)
    distances = np.linalg.norm(x[:, None].astype(np.float64) - book, axis=2)
    chosen = distances[np.arange(len(x)), kmeans.nearest(x, book)]
    assert np.allclose(chosen, distances.min(axis=1), atol=1e-5)


def test_kmeans_finds_clusters_that_lie_apart():
    rng = np.random.default_rng(6)
    centres = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    x = np.repeat(centres, 500, axis=0) + 0.1 * rng.standard_normal((1500, 2)).astype(np.float32)
    book = kmeans.train(x, np.ones(len(x), np.float32), 3, seed=1)
    assert np.abs(book[:, None] - centres).sum(axis=2).min(axis=0).max() < 0.1


def test_scalar_codebook_reaches_the_lloyd_max_error():
    """Four levels for a Gaussian: mean squared error 0.1175 (Max 1960, Table I)."""
    x = np.random.default_rng(8).standard_normal((200_000, 1)).astype(np.float32)
    book = kmeans.train(x, np.ones(len(x), np.float32), 4)
    assert np.mean(np.square(book[kmeans.nearest(x, book)] - x)) == pytest.approx(0.1175, rel=0.02)


def test_training_on_a_sample_is_repeatable():
    x = np.random.default_rng(9).standard_normal((kmeans.N_TRAINING + 5000, 2)).astype(np.float32)
    counts = np.ones(len(x), np.float32)
    assert np.array_equal(kmeans.train(x, counts, 16), kmeans.train(x.copy(), counts, 16))


@pytest.mark.parametrize(
    ("layout", "bits"),
    [(Vptq(4, 256), 2.0), (Vptq(8, 256, 256), 2.0), (Vptq(8, 4096, 256), 2.5), (Vptq(8, 65536, 256), 3.0)],
)
def test_vptq_indices_cost_log_k_over_length(layout, bits):
    shape = (4096, 4096)
    books = 16 * layout.length * (layout.n_entries + layout.n_residual)
    assert layout.bits_per_weight(shape) == pytest.approx(bits + books / (shape[0] * shape[1]), rel=1e-12)


@pytest.mark.parametrize("layout", [Vptq(4, 256), Vptq(8, 256, 256)])
def test_vptq_at_two_bits_beats_int2_groups_on_gaussian_weights(layout, gaussian):
    assert layout.bits_per_weight(gaussian.shape) < 2.6
    for rule in ("sym", "affine", "zero"):
        assert relative_rmse(layout, gaussian) < 0.8 * relative_rmse(Uniform(2, 64, rule), gaussian)


def test_the_residual_codebook_lowers_the_error(gaussian):
    assert relative_rmse(Vptq(8, 256, 256), gaussian) < 0.8 * relative_rmse(Vptq(8, 256), gaussian)


def test_vptq_vectors_run_down_the_columns():
    """Rows 0-3 of a column are one vector: columns of two kinds need two entries only."""
    w = np.zeros((8, 32), np.float32)
    w[:, ::2] = np.arange(8, dtype=np.float32)[:, None]
    layout = Vptq(4, 3)
    assert np.array_equal(layout.dequantize(layout.quantize(w), w.shape), w)
    assert len(set(layout.symbols(layout.quantize(w), w.shape)["indices"][:32:2])) == 1


def test_a_codebook_has_no_more_entries_than_there_are_vectors(gaussian):
    w = gaussian[:8, :64]
    layout = Vptq(8, 4096)
    streams = layout.quantize(w)
    assert streams["codebook"].size == 64 * 8
    assert np.array_equal(layout.dequantize(streams, w.shape), w.astype(np.float16).astype(np.float32))


def test_outlier_columns_are_the_large_ones_and_keep_more_of_their_weights(gaussian):
    w = gaussian.copy()
    w[:, [3, 100, 200, 300, 400]] *= 30
    layout = Vptq(8, 256, 0, 1)
    streams = layout.quantize(w)
    assert streams["outlier_columns"].tolist() == [3, 100, 200, 300, 400]
    assert relative_rmse(layout, w) < 0.5 * relative_rmse(Vptq(8, 256), w)


def test_jlcm_gives_rows_of_different_size_their_own_levels(gaussian):
    w = gaussian * np.exp2(np.arange(256) % 8)[:, None].astype(np.float32)
    one, many = Jlcm(2, 1), Jlcm(2, 8)
    assert many.bits_per_weight(w.shape) - one.bits_per_weight(w.shape) == 7 * 4 * 16 / w.size

    def error(layout):
        left = np.square(layout.dequantize(layout.quantize(w), w.shape) - w).mean(axis=1)
        return float(np.mean(left / np.square(w).mean(axis=1)))

    assert error(many) < 0.13  # Lloyd-Max in every group: 0.1175
    assert error(many) < 0.3 * error(one)


def test_jlcm_stores_rows_in_order_of_their_size(gaussian):
    w = gaussian * np.linspace(2, 1, 256, dtype=np.float32)[:, None] ** 4
    rows = Jlcm(2, 8).quantize(w)["rows"]
    sizes = np.square(w[rows]).mean(axis=1)
    assert sorted(rows) == list(range(256))
    assert (np.diff(sizes) >= 0).all()
