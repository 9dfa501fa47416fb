"""The Pareto front against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simio import pareto
from simio.pareto import pareto_front


def by_definition(values):
    mask = []
    for i, row in enumerate(values):
        others = [(j, other) for j, other in enumerate(values) if j != i]
        beaten = any(
            np.all(other <= row) and (np.any(other < row) or (np.array_equal(other, row) and j < i))
            for j, other in others
        )
        mask.append(not np.isnan(row).any() and not beaten)
    return mask


few = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.5, np.inf, -np.inf, np.nan])


@given(st.integers(1, 4).flatmap(lambda k: arrays(np.float64, st.tuples(st.integers(0, 30), st.just(k)), elements=few)))
def test_the_front_is_that_of_the_definition(values):
    assert pareto_front(values).tolist() == by_definition(values)


@pytest.mark.parametrize("k", [3, 5])
def test_blocks_change_nothing(k, monkeypatch):
    values = np.random.default_rng(0).integers(0, 12, (700, k)).astype(float)
    whole = pareto_front(values)
    monkeypatch.setattr(pareto, "_BLOCK", 7)
    monkeypatch.setattr(pareto, "_FRONT", 5)
    assert pareto_front(values).tolist() == whole.tolist() == by_definition(values)


def test_a_million_rows_of_two_columns_have_the_front_of_a_circle():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 10**6)
    values = np.column_stack([np.cos(angle), np.sin(angle)])
    assert pareto_front(values).sum() == ((values < 0).all(axis=1)).sum()
