"""Entropy against distributions whose entropy is known, and against published entropies of quantized weights."""

import numpy as np
import pytest

from simio.codecs.entropy import byte_entropy, entropy_bits, streams_entropy, symbol_entropy


def test_equal_bytes_hold_no_information():
    assert byte_entropy(b"a" * 1000) == 0.0
    assert byte_entropy(b"") == 0.0


def test_all_bytes_equally_often_hold_eight_bits():
    assert byte_entropy(bytes(range(256)) * 3) == pytest.approx(8, abs=1e-12)


def test_a_biased_coin_has_its_textbook_entropy():
    assert entropy_bits(np.array([25, 75])) == pytest.approx(0.8112781244591328, abs=1e-12)


def test_streams_are_averaged_over_their_bytes():
    assert streams_entropy([bytes(3000), bytes(range(256)) * 4]) == pytest.approx(8 * 1024 / 4024)
    assert streams_entropy([]) == 0.0


def test_the_sample_correction_removes_the_bias_of_a_small_histogram():
    sample = np.random.default_rng(0).bytes(4096)
    assert 8 - streams_entropy([sample]) > 0.03
    assert streams_entropy([sample], sampled=True) == pytest.approx(8, abs=0.005)


def gaussian(shape):
    return np.random.default_rng(0).standard_normal(shape)


def symmetric(weights, n_max):
    return np.rint(weights / np.abs(weights).max(axis=1, keepdims=True) * n_max)


def affine(weights, n_max):
    low = weights.min(axis=1, keepdims=True)
    return np.rint((weights - low) / (weights.max(axis=1, keepdims=True) - low) * n_max)


@pytest.mark.parametrize(
    ("codes", "bits"),
    [
        (lambda: symmetric(gaussian((1024, 4096)), 127), 7.12),  # INT8 per channel
        (lambda: symmetric(gaussian((32768, 128)), 127), 7.53),  # INT8, groups of 128
        (lambda: symmetric(gaussian((131072, 32)), 127), 7.69),  # Q8_0
        (lambda: symmetric(gaussian((1024, 4096)), 7), 2.96),  # INT4 per channel
        (lambda: symmetric(gaussian((32768, 128)), 7), 3.38),
        (lambda: symmetric(gaussian((131072, 32)), 7), 3.62),
        (lambda: affine(gaussian((32768, 128)), 15), 3.63),
        (lambda: affine(gaussian((65536, 64)), 15), 3.75),
        (lambda: affine(gaussian((131072, 32)), 15), 3.87),
    ],
)
def test_entropy_of_gaussian_codes_by_granularity(codes, bits):
    """The finer the scale, the less is left for a lossless coder (own calculation over 4096 × 4096 samples)."""
    assert symbol_entropy(codes().astype(np.int16)) == pytest.approx(bits, abs=0.03)


def test_entropy_of_bf16_exponents_of_gaussian_weights():
    weights = (gaussian(1 << 22) * 0.02).astype(np.float32)
    assert symbol_entropy(weights.view(np.uint32) >> 23 & 0xFF) == pytest.approx(2.55, abs=0.03)
