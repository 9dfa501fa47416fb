"""The joint choice as a mixed-integer linear program, solved to proven optimality (or a stated gap) by HiGHS.

Variables: ``x_o ∈ {0, 1}`` for every option, ``t_s ≥ 0`` for every step, buffers ``S`` and ``y ∈ {0, 1}``, whether they
are as large as steps ever need, and ``w ≥ 0``, the wait for the row of an embedding table.

    min Σ_s t_s + w
    Σ_{o of item} x_o = 1                                     each item takes one option
    t_s ≥ fixed_{s,R} + Σ_{o in s} t_{o,R} x_o                for each step and stage: the epigraph of the max in (J1)
    (1 + laps) w + Σ_s hiding_s t_s ≥ row                     where each token reads a row, the link's share with it:
    w + Σ_s t_s − Σ_o t_{o,storage} x_o ≥ link + Σ_s fixed_{s,storage}
    S + n·M·y ≥ n · Σ_{o in s} staged_o x_o,  S ≥ cap · y     (J2); M: the most any step can stage
    Σ_o held_o x_o + S ≤ RAM
    Σ_o q_o x_o ≤ Q

Reference: Huangfu & Hall, Parallelizing the dual revised simplex method, 2018 (HiGHS), through scipy.optimize.milp.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.errors import MissingPackageError, UsageError
from simio.study.problem import STAGES, Indices, Numbers, Problem

#: Relative gap at which the search stops.
GAP = 1e-6


@dataclass(frozen=True, slots=True)
class Solution:
    """The options ``chosen (m,)``; no selection is faster than ``bound_s``. [s]"""

    chosen: Indices
    latency_s: float
    bound_s: float

    @property
    def gap(self) -> float:
        """How far from proven optimal, as a share of the latency; 0 when proven."""
        return max(0.0, 1 - self.bound_s / self.latency_s) if self.latency_s > 0 else 0.0


def solve(
    problem: Problem, time_limit_s: float = 60.0, gap: float = GAP, weights: tuple[float, ...] = (0.0,) * len(STAGES)
) -> Solution | None:
    """The fastest selection within the budgets; None where nothing fits.

    With ``weights`` of the stages, what is minimised is ``Σ t_s + Σ w_R t_{o,R} x_o``: power of a busy stage ÷ power
    drawn all the time makes that the energy (E1), but for memory traffic; ``bound_s`` is then of that sum, no time.

    Raises ``UsageError`` where the time was too short to find any, ``MissingPackageError`` without scipy.
    """
    kept = np.flatnonzero(problem.undominated())
    small = problem.only(problem.undominated())
    program = _Program(small)
    found = program.minimise(program.time_objective(weights), time_limit_s, gap, with_budgets=True)
    if found is None:
        return None
    values, bound = found
    chosen = _selection(small, values)
    latency = small.latency_s(chosen)
    return Solution(kept[chosen], latency, min(latency, bound))


def least_ram(problem: Problem, time_limit_s: float = 60.0) -> float:
    """The least RAM (J2) of any selection within the quality budget, which must be attainable. [bytes]"""
    small = problem.only(problem.undominated())
    program = _Program(small)
    found = program.minimise(program.ram_objective(), time_limit_s, 1e-4, with_budgets=False)
    if found is None:
        return inf
    return small.ram(_selection(small, found[0]))


def least_cost(problem: Problem) -> float:
    """The least quality cost of any selection."""
    return float(np.minimum.reduceat(problem.cost, np.searchsorted(problem.item, range(problem.n_items))).sum())


def _selection(problem: Problem, values: Numbers) -> Indices:
    picked = np.flatnonzero(values[: len(problem.item)] > 0.5)
    if not np.array_equal(problem.item[picked], np.arange(problem.n_items)):
        raise AssertionError("the solver's selection does not give every item one option")
    return picked


class _Program:
    """The matrices of one problem, scaled so that times, bytes and costs are all about 1."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.n, self.k = len(problem.item), len(problem.fixed)
        self.time = float(max(problem.seconds.sum() / max(1, self.n), problem.fixed.max(initial=0.0), 1e-12))
        self.bytes = float(max(problem.held.max(initial=0.0), problem.staged.max(initial=0.0), 1.0))
        finite = problem.cost_budget if 0 < problem.cost_budget < inf else problem.cost.max(initial=0.0)
        self.cost = float(finite) or 1.0

    def time_objective(self, weights: tuple[float, ...]) -> Numbers:
        """Σ t_s + w + Σ w_R t_{o,R} x_o."""
        busy = self.problem.seconds @ np.array(weights) / self.time
        return np.concatenate([busy, np.ones(self.k), [0.0, 0.0, 1.0]])

    def ram_objective(self) -> Numbers:
        """Σ held + S."""
        return np.concatenate([self.problem.held / self.bytes, np.zeros(self.k), [1.0, 0.0, 0.0]])

    def minimise(
        self, objective: Numbers, time_limit_s: float, gap: float, with_budgets: bool
    ) -> tuple[Numbers, float] | None:
        """The values of all variables and the proven bound in seconds (of the time objective); None if infeasible."""
        milp, constraint, bounds = _scipy()
        n, k, p = self.n, self.k, self.problem
        size = n + k + 3
        rows = [constraint(*row) for row in self._constraints(with_budgets)]
        top = np.concatenate([np.ones(n), np.full(k + 1, inf), [1.0 if p.staging_cap < inf else 0.0, inf]])
        kinds = np.concatenate([np.ones(n), np.zeros(k + 1), [1.0, 0.0]])
        options = {"time_limit": time_limit_s, "mip_rel_gap": gap, "presolve": True}
        result: Any = milp(
            objective, integrality=kinds, bounds=bounds(np.zeros(size), top), constraints=rows, options=options
        )
        if result.status == 2:
            return None
        if result.x is None:
            raise UsageError(
                f"no plan was found in {time_limit_s:g} s ({result.message})", "give more time, or fewer choices"
            )
        bound = result.fun if result.mip_dual_bound is None else result.mip_dual_bound
        return result.x, float(bound) * self.time

    def _constraints(self, with_budgets: bool) -> list[tuple[Any, Any, Any]]:
        from scipy.sparse import csr_array, hstack

        p, n, k = self.problem, self.n, self.k
        options, step = np.arange(n), p.step[p.item]

        def rows(of: NDArray[Any], values: Numbers, n_rows: int) -> Any:
            return csr_array((values, (of, options)), shape=(n_rows, n))

        def beside(x: Any, t: Any, s: Numbers, y: Numbers) -> Any:
            n_rows = len(s)
            return hstack([x, t, csr_array(s[:, None]), csr_array(y[:, None]), csr_array((n_rows, 1))], format="csr")

        empty, none = csr_array((k, k)), np.zeros(k)
        one_each = beside(
            rows(p.item, np.ones(n), p.n_items),
            csr_array((p.n_items, k)),
            np.zeros(p.n_items),
            np.zeros(p.n_items),
        )
        table: list[tuple[Any, Any, Any]] = [(one_each, 1, 1)]
        unit = csr_array(np.eye(k))
        for stage in range(len(STAGES)):
            used = rows(step, -p.seconds[:, stage] / self.time, k)
            table.append((beside(used, unit, none, none), p.fixed[:, stage] / self.time, inf))
        staged = rows(step, -p.n_buffers * p.staged / self.bytes, k)
        most = p.n_buffers * self._most_staged() / self.bytes
        table.append((beside(staged, empty, np.ones(k), np.full(k, most)), 0, inf))
        if p.staging_cap < inf:
            cap = np.zeros(n + k + 3)
            cap[-3:-1] = 1.0, -p.staging_cap / self.bytes
            table.append((cap[None], 0, inf))
        if p.cost_budget < inf:
            row = np.concatenate([p.cost / self.cost, np.zeros(k + 3)])
            table.append((row[None], -inf, p.cost_budget / self.cost))
        if with_budgets and p.ram_bytes < inf:
            row = np.concatenate([p.held / self.bytes, np.zeros(k), [1.0, 0.0, 0.0]])
            table.append((row[None], -inf, p.ram_bytes / self.bytes))
        return [*table, *self._row()] if p.row_s > 0 else table

    def _row(self) -> list[tuple[Any, Any, Any]]:
        """What ``w`` is at least."""
        p, storage = self.problem, STAGES.index("storage")
        waits = np.concatenate([np.zeros(self.n), p.hiding, [0.0, 0.0, 1.0 + p.laps]])
        busy = np.concatenate([-p.seconds[:, storage] / self.time, np.ones(self.k), [0.0, 0.0, 1.0]])
        link = float(p.fixed[:, storage].sum()) + p.row_link_s
        return [(waits[None], p.row_s / self.time, inf), (busy[None], link / self.time, inf)]

    def _most_staged(self) -> float:
        p = self.problem
        per_item = np.maximum.reduceat(p.staged, np.searchsorted(p.item, range(p.n_items)))
        return float(np.bincount(p.step, per_item, minlength=self.k).max())


def _scipy() -> tuple[Any, Any, Any]:
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ModuleNotFoundError as error:
        raise MissingPackageError("the joint choice needs scipy", "pip install 'simio[solve]'") from error
    return milp, LinearConstraint, Bounds
