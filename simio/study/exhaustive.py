"""Every selection of a small problem, tried: what the solver is held against."""

from __future__ import annotations

from itertools import product
from math import inf, prod

import numpy as np

from simio.errors import UsageError
from simio.study.problem import Indices, Problem

#: Selections beyond which trying all of them is refused.
MOST = 2_000_000


def n_selections(problem: Problem) -> int:
    """How many ways there are to give every item one option."""
    return prod(int(n) for n in np.bincount(problem.item, minlength=problem.n_items))


def best(problem: Problem) -> Indices | None:
    """The fastest selection ``(m,)`` within both budgets; None where there is none.

    Raises ``UsageError`` beyond ``MOST`` selections.
    """
    if n_selections(problem) > MOST:
        raise UsageError(f"{n_selections(problem):.3g} selections are too many to try", "use the solver")
    found, least = None, inf
    slices = [problem.options_of(item) for item in range(problem.n_items)]
    for selection in product(*(range(s.start, s.stop) for s in slices)):
        chosen = np.array(selection, dtype=np.intp)
        latency = problem.latency_s(chosen)
        if latency < least and problem.fits(chosen):
            found, least = chosen, latency
    return found
