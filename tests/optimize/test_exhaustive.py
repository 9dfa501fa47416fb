"""On small random cases the optimiser finds what predicting every selection finds."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest
from studied import LAYOUTS, MB, choices, decoder, setting, slow_disk

from simio.optimize.placing import exchanged, placements, space
from simio.optimize.trying import Trials
from simio.records.optimum import Goal

N_CASES = 50


def case(seed):
    """A decoder of one or two layers, a disk, a codec and budgets at random."""
    rng = np.random.default_rng(seed)
    device = slow_disk(bandwidth=10 ** rng.uniform(7.7, 9), decompress=10 ** rng.uniform(8.3, 9.5))
    layouts = tuple(LAYOUTS[i] for i in rng.choice(len(LAYOUTS), rng.integers(1, 3), replace=False))
    offered = choices(decoder(1 + seed % 2, head=int(rng.integers(0, 2))), layouts=layouts)
    made = setting(round(rng.uniform(1.5, 9) * MB), float(rng.choice([1e-4, 2e-3, 1e-2, 1.0])), device)
    return offered, made, Goal(str(rng.choice(["p50", "p95"])))


def tried(offered, made, goal, trials):
    """The best of all selections, each as predicted."""
    here = space(offered, made.scenario, made.cost_budget, trials, decompresses=True)
    slices = [here.problem.options_of(item) for item in range(here.problem.n_items)]
    best = inf
    for selection in product(*(range(s.start, s.stop) for s in slices)):
        options = np.array(selection)
        if here.problem.quality(options) <= made.cost_budget:
            found = here.predicted(options)
            best = min(best, inf if found is None else goal.value(found))
    return best


@pytest.mark.parametrize("seed", range(N_CASES))
def test_no_selection_is_predicted_better(seed):
    offered, made, goal = case(seed)
    trials = Trials(made.device)
    placed = placements(offered, made.scenario, made.cost_budget, goal, trials, 10.0)
    best = tried(offered, made, goal, trials)
    if not placed:
        assert best == inf
        return
    start = min(placed, key=lambda one: goal.order(one.found))
    found = exchanged(start, goal, 60.0)
    assert found.cost <= made.cost_budget * (1 + 1e-9)
    assert goal.value(found) == pytest.approx(best, rel=1e-9)
