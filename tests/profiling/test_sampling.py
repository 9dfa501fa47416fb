"""The sample: what is drawn, and whether its interval holds what it promises."""

import numpy as np
import pytest

from simio.profiling.sampling import MIN_HALF_WIDTH, MIN_PER_STRATUM, draw, extrapolate, t_quantile

STRATA = {"attention": list(range(0, 300)), "mlp": list(range(300, 900)), "norm": [900, 901]}


@pytest.mark.parametrize(("freedom", "value"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e6, 1.960)])
def test_quantiles_of_students_t_agree_with_the_table(freedom, value):
    assert t_quantile(0.975, freedom) == pytest.approx(value, rel=2e-3)


def test_each_stratum_gives_its_share_and_small_ones_all():
    drawn = draw(STRATA, 0.1, seed=0)
    assert [sum(i in members for i in drawn) for members in STRATA.values()] == [30, 60, 2]
    assert drawn == sorted(set(drawn))


def test_a_tiny_share_still_gives_some_of_each_stratum():
    assert len(draw(STRATA, 1e-9, seed=0)) == 2 * MIN_PER_STRATUM + 2


def test_the_draw_repeats_with_its_seed():
    assert draw(STRATA, 0.1, seed=5) == draw(STRATA, 0.1, seed=5) != draw(STRATA, 0.1, seed=6)


def test_measured_chunks_keep_their_size_and_the_rest_takes_the_ratio_of_its_stratum():
    estimate = extrapolate({"a": [0, 1, 2], "b": [3]}, [100, 100, 50, 10], {0: 60, 1: 40, 3: 10})
    assert estimate.stored_bytes == [60, 40, 25, 10]


def test_a_stratum_measured_whole_adds_no_uncertainty_beyond_the_floor():
    estimate = extrapolate({"a": [0, 1], "b": [2, 3]}, [100] * 4, {0: 60, 1: 40, 2: 50})
    assert estimate.half_width_bytes == pytest.approx(MIN_HALF_WIDTH * 200)
    assert extrapolate({"a": [0, 1]}, [100, 100], {0: 60, 1: 40}).half_width_bytes == 0


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """500 draws of a tenth from strata with spreads of 3 to 10 %; the 95 % interval must hold 92 to 98 % of them."""
    rng = np.random.default_rng(0)
    raw = np.r_[np.full(880, 1_000_000), rng.integers(1, 1_000_000, 22)]
    ratio = np.r_[rng.normal(0.6, 0.06, 300), rng.normal(0.8, 0.03, 600), 0.5, 0.5]
    stored = (raw * ratio).astype(int)
    hits = 0
    for seed in range(500):
        estimate = extrapolate(STRATA, list(raw), {i: int(stored[i]) for i in draw(STRATA, 0.1, seed)})
        hits += abs(sum(estimate.stored_bytes) - stored.sum()) <= estimate.half_width_bytes
    assert 460 <= hits <= 490
