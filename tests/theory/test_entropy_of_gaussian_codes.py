"""Order-0 entropy of the codes of Gaussian weights by granularity: the finer the scale, the less is left to compress.

The expected numbers are an independent calculation on 4096 × 4096 standard normal samples (numpy, seed 0). For a smooth
density and a step Δ the entropy is ``h(X) - log2 Δ``; with absmax scales ``Δ = max|x| / (2^(b-1) - 1)``, so each
doubling of the crest factor costs one bit.
"""

from __future__ import annotations

import numpy as np
import pytest

from simio.quant.ggml import Ggml
from simio.quant.packing import unpack
from simio.quant.uniform import Uniform

SIDE = 4096
TOLERANCE_BITS = 0.03


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)


def entropy_bits(codes: np.ndarray) -> float:
    """Order-0 entropy, written out here so that the test stands alone."""
    counts = np.bincount(codes.reshape(-1))
    shares = counts[counts > 0] / codes.size
    return float(-(shares * np.log2(shares)).sum())


@pytest.mark.parametrize(
    ("bits", "group", "rule", "expected"),
    [
        (8, "tensor", "sym", 6.62),
        (8, "channel", "sym", 7.12),
        (8, 128, "sym", 7.53),
        (8, 32, "sym", 7.69),
        (4, "tensor", "sym", 2.47),
        (4, "channel", "sym", 2.96),
        (4, 128, "sym", 3.38),
        (4, 32, "sym", 3.62),
        (4, 128, "affine", 3.63),
        (4, 64, "affine", 3.75),
        (4, 32, "affine", 3.87),
        (3, 128, "affine", 2.56),
        (2, 128, "affine", 1.48),
        (2, 64, "affine", 1.60),
        (2, 32, "affine", 1.73),
    ],
)
def test_entropy_of_uniform_codes_of_gaussian_weights(gaussian, bits, group, rule, expected):
    streams = Uniform(bits, group, rule).quantize(gaussian)
    codes = unpack(streams["codes"], bits, gaussian.size)
    assert entropy_bits(codes) == pytest.approx(expected, abs=TOLERANCE_BITS)


def test_entropy_of_q4_0_codes_of_gaussian_weights(gaussian):
    blocks = Ggml("Q4_0").quantize(gaussian)["data"].reshape(-1, 18)
    assert entropy_bits(unpack(blocks[:, 2:].reshape(-1), 4, gaussian.size)) == pytest.approx(3.77, abs=TOLERANCE_BITS)


def test_entropy_of_q8_0_codes_equals_that_of_int8_in_groups_of_32(gaussian):
    codes = Ggml("Q8_0").quantize(gaussian)["data"].reshape(-1, 34)[:, 2:]
    assert entropy_bits(codes) == pytest.approx(7.69, abs=TOLERANCE_BITS)
