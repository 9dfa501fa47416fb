"""Mixed groups and two-level scales."""

from __future__ import annotations

import numpy as np
import pytest

from simio.quant.dual_grained import DualGrained
from simio.quant.mixed_groups import MixedGroups
from simio.quant.uniform import Uniform
from simio.testing import random_activations


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return (0.02 * np.random.default_rng(4).standard_t(5, (64, 1024))).astype(np.float32)


def relative_rmse(quantizer, w: np.ndarray) -> float:
    back = quantizer.dequantize(quantizer.quantize(w), w.shape)
    return float(np.sqrt(np.mean(np.square(back - w))) / w.std())


def test_mixed_groups_take_the_bits_of_the_paper():
    """arXiv 2311.16442: 2.85 bits a weight on average."""
    assert MixedGroups().bits_per_weight((4096, 4096)) == pytest.approx(2.85, abs=0.02)


@pytest.mark.parametrize("percent", [0, 10, 25, 100])
def test_bits_of_mixed_groups_follow_the_share(percent):
    n_wide = (percent * 64 + 50) // 100
    expected = 2 + 2 * n_wide / 64 + (1 + 2 + 2 * n_wide / 64 + 4 + 1) / 16
    assert MixedGroups(16, percent).bits_per_weight((64, 1024)) == expected


def test_every_row_has_as_many_wide_groups_and_they_have_the_largest_range(weights):
    layout = MixedGroups(16, 25)
    tags = layout.symbols(layout.quantize(weights), weights.shape)["tags"].reshape(64, 64).astype(bool)
    assert set(tags.sum(axis=1)) == {16}
    groups = weights.reshape(64, 64, 16)
    ranges = np.maximum(groups.max(axis=2), 0) - np.minimum(groups.min(axis=2), 0)
    narrow, wide = np.where(tags, 0, ranges), np.where(tags, ranges, np.inf)
    assert (narrow.max(axis=1) <= wide.min(axis=1)).all()


def test_calibrated_wide_groups_are_those_with_large_inputs(weights):
    activations = random_activations(1024)
    layout = MixedGroups(16, 25)
    per_group = np.diag(activations.gram).reshape(64, 16).mean(axis=1)

    def mean_input(quantizer):
        tags = quantizer.symbols(quantizer.quantize(weights), weights.shape)["tags"].reshape(64, 64)
        return float((tags * per_group).sum() / tags.sum())

    assert mean_input(layout.calibrated(activations)) > 1.5 * mean_input(layout)


def test_more_wide_groups_mean_less_error(weights):
    errors = [relative_rmse(MixedGroups(16, percent), weights) for percent in (0, 10, 20, 40, 70, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


def test_the_sensitive_groups_earn_their_bits(weights):
    """16 % of the groups at 4 bits remove more than 16 % of the 2-bit error."""
    squares = [relative_rmse(MixedGroups(16, percent), weights) ** 2 for percent in (0, 16, 100)]
    assert squares[0] - squares[1] > 1.5 * 0.16 * (squares[0] - squares[2])


def test_dgq_is_an_int8_matrix_with_one_scale_a_row(weights):
    layout = DualGrained(128)
    streams = layout.quantize(weights)
    found = layout.symbols(streams, weights.shape)
    centred = found["codes"].reshape(-1, 128).astype(int) - found["zeros"].astype(int)[:, None]
    whole = (centred * streams["group_scales"].astype(int)[:, None]).reshape(weights.shape)
    assert np.abs(whole).max() <= 127
    assert streams["group_scales"].min() >= 1
    assert np.array_equal(layout.coarse(streams, weights.shape), whole)
    assert np.array_equal(
        layout.dequantize(streams, weights.shape), whole.astype(np.float32) * streams["scales"][:, None]
    )


def test_dgq_loses_little_to_float_scales(weights):
    """Searched integer scales against FP16 ones by the range."""
    assert relative_rmse(DualGrained(128), weights) < 1.02 * relative_rmse(Uniform(4, 128, "zero"), weights)


def test_dgq_bits():
    assert DualGrained(128).bits_per_weight((64, 1024)) == 4 + (4 + 8) / 128 + 32 / 1024
