"""The solver against trying every selection."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simio.errors import UsageError
from simio.study import exhaustive
from simio.study.milp import least_cost, least_ram, solve
from simio.study.problem import Problem


def small_problem(seed: int) -> Problem:
    """Two to four items in one to three steps with two to six options each; budgets somewhere between all and none."""
    rng = np.random.default_rng(seed)
    n_items, n_steps = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    counts = rng.integers(2, 7, n_items)
    n = int(counts.sum())
    item = np.repeat(np.arange(n_items), counts)
    seconds = rng.exponential(0.01, (n, 4)) * (rng.random((n, 4)) < 0.8)
    held = rng.integers(0, 50, n) * 1e6 * (rng.random(n) < 0.6)
    staged = rng.integers(0, 20, n) * 1e6 * (rng.random(n) < 0.8)
    cost = rng.exponential(1.0, n) * (rng.random(n) < 0.8)
    return Problem(
        item=item,
        step=rng.integers(0, n_steps, n_items),
        seconds=seconds,
        held=held,
        staged=staged,
        cost=cost,
        fixed=rng.exponential(0.002, (n_steps, 4)),
        ram_bytes=float(rng.uniform(0.2, 1.2) * 25e6 * n_items),
        cost_budget=inf if rng.random() < 0.2 else float(rng.uniform(0.1, 1.0) * n_items),
        n_buffers=int(rng.integers(1, 4)),
        staging_cap=inf if rng.random() < 0.5 else float(rng.uniform(5e6, 60e6)),
        row_s=(row_s := float(rng.exponential(0.02)) * (rng.random() < 0.6)),
        row_link_s=row_s * float(rng.random()),
    )


@pytest.mark.parametrize("seed", range(50))
def test_the_solver_finds_what_trying_every_selection_finds(seed):
    problem = small_problem(seed)
    tried, solved = exhaustive.best(problem), solve(problem)
    assert (tried is None) == (solved is None)
    if tried is not None and solved is not None:
        assert problem.fits(solved.chosen)
        assert solved.latency_s == pytest.approx(problem.latency_s(tried), rel=1e-6)
        assert solved.latency_s == pytest.approx(problem.latency_s(solved.chosen), rel=1e-12)
        assert solved.bound_s <= solved.latency_s
        assert solved.gap <= 1e-6


def test_both_outcomes_are_among_the_small_problems():
    found = [exhaustive.best(small_problem(seed)) for seed in range(50)]
    assert 5 <= sum(one is None for one in found) <= 25


@settings(max_examples=25, deadline=None)
@given(st.integers(50, 10**6), st.floats(0.3, 1.0))
def test_a_smaller_budget_is_never_faster(seed, share):
    problem = small_problem(seed)
    loose = solve(problem)
    assume(loose is not None)
    tight = solve(replace(problem, ram_bytes=problem.ram_bytes * share, cost_budget=problem.cost_budget * share))
    assert tight is None or tight.latency_s >= loose.latency_s * (1 - 1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_the_least_feasible_values_are_feasible_and_least(seed):
    problem = replace(small_problem(seed), ram_bytes=inf)
    tight = replace(problem, cost_budget=least_cost(problem))
    assert exhaustive.best(tight) is not None
    assert exhaustive.best(replace(tight, cost_budget=tight.cost_budget * 0.999 - 1e-9)) is None
    least = least_ram(tight)
    assert exhaustive.best(replace(tight, ram_bytes=least)) is not None
    assert exhaustive.best(replace(tight, ram_bytes=least * 0.999 - 1)) is None


def test_dominated_options_never_make_a_difference():
    for seed in range(20):
        problem = replace(small_problem(seed), cost_budget=inf)
        whole, pruned = exhaustive.best(problem), exhaustive.best(problem.only(problem.undominated()))
        assert (whole is None) == (pruned is None)
        if whole is not None and pruned is not None:
            small = problem.only(problem.undominated())
            assert small.latency_s(pruned) == pytest.approx(problem.latency_s(whole), rel=1e-12)


def test_too_many_selections_are_refused():
    n_items, n_options = 30, 4
    item = np.repeat(np.arange(n_items), n_options)
    ones = np.ones(len(item))
    big = Problem(item, np.zeros(n_items, int), np.ones((len(item), 4)), ones, ones, ones, np.zeros((1, 4)), 1e9, inf)
    with pytest.raises(UsageError, match="too many"):
        exhaustive.best(big)
