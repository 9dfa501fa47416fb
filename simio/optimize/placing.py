"""Codec, quantizer and place of every tensor of a dense model: the linear programs of ``simio study joint``.

Two programs for each setting: steps as the planner's slabs (J1), which fits a pipeline that reads one step ahead, and
all steps as one, which fits deep prefetch and is the bottleneck law (Denning & Buzen 1978): no schedule is faster.
What is minimised there is a token's time, whatever the goal; the goal then judges what is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from simio.errors import UsageError
from simio.optimize.trying import Trials
from simio.records.optimum import Configuration
from simio.records.scenario import Scenario
from simio.study.candidates import AS_STORED, Candidates, Setting, candidates
from simio.study.choices import ChoiceTable
from simio.study.milp import Solution, solve
from simio.study.mixed_profile import mixed_profile
from simio.study.problem import Indices, Problem
from simio.units import MIB

#: Relative gap at which a program stops: a tenth of what any phone measurement resolves.
GAP = 1e-3
#: Fields of a scenario that a plan decides.
PLANNED = ("pinned_bytes", "pinned_fraction", "cache_policy", "cache_bytes", "cache_form", "codec")


@dataclass(frozen=True, slots=True)
class Space:
    """All placements in one setting: the options of every tensor, and how they are predicted."""

    table: ChoiceTable
    setting: Setting
    regime: Candidates
    trials: Trials

    @property
    def problem(self) -> Problem:
        """The numbers."""
        return self.regime.problem

    def predicted(self, options: Indices) -> Configuration | None:
        """The selection ``options (m,)`` as predicted; None where it does not fit."""
        scenario = self.setting.scenario
        chosen = self.regime.chosen(options)
        plan = mixed_profile(self.table.model, chosen, self.setting.device, scenario.chunk_bytes or MIB, "optimized")
        return self.trials.of_plan(scenario, plan, self.problem.quality(options))


def space(table: ChoiceTable, scenario: Scenario, cost_budget: float, trials: Trials, decompresses: bool) -> Space:
    """The placements of ``scenario``, of which only what a plan leaves open is kept."""
    open_ = replace(scenario, runtime="stream", **dict.fromkeys(PLANNED))  # type: ignore[arg-type]
    if scenario.prefetch_depth == 0:
        open_ = replace(open_, prefetch_depth=1)
    setting = Setting(trials.device, open_, cost_budget)
    return Space(table, setting, candidates(table, setting, decompresses), trials)


@dataclass(frozen=True, slots=True)
class Placed:
    """One solution: the options, where they are numbered, and what is predicted of them."""

    space: Space
    options: Indices
    found: Configuration


def place(here: Space, time_limit_s: float) -> tuple[list[Placed], float]:
    """The solutions of both programs as predicted, and the least seconds a token can take in the linear program."""
    problem = here.problem
    relaxed = solve(_as_one_step(problem, staging_bytes=0.0), time_limit_s, GAP)
    if relaxed is None:
        return [], inf
    at_once = _as_one_step(problem, problem.staging_bytes(relaxed.chosen))
    solved = []
    for program in (problem, at_once):
        solution = _in_time(program, time_limit_s)
        found = None if solution is None else here.predicted(solution.chosen)
        if solution is not None and found is not None:
            solved.append(Placed(here, solution.chosen, found))
    return solved, relaxed.bound_s


def _in_time(problem: Problem, time_limit_s: float) -> Solution | None:
    """The solution, or what is best when time is up; None where that is nothing."""
    try:
        return solve(problem, time_limit_s, GAP)
    except UsageError:
        return None


def _as_one_step(problem: Problem, staging_bytes: float) -> Problem:
    """``problem`` with all reads, decompressions and products free to overlap, and ``staging_bytes`` for buffers."""
    return replace(
        problem,
        step=np.zeros_like(problem.step),
        fixed=problem.fixed.sum(axis=0, keepdims=True),
        staged=np.zeros_like(problem.staged),
        ram_bytes=problem.ram_bytes - staging_bytes,
    )


def everywhere(here: Space) -> Iterator[Configuration]:
    """Every quantizer and codec for all tensors within the quality budget, all read from flash for every token."""
    labels, places = np.array([f"{q}\0{c}" for q, c in here.regime.labels]), np.array(here.regime.residency)
    for label in dict.fromkeys(here.regime.labels):
        keep = (labels == "\0".join(label)) & (places == "flash")
        keep |= here.regime.where_lacking(keep) & (places == "flash")
        options = np.flatnonzero(keep)
        if label != AS_STORED and here.problem.quality(options) > here.setting.cost_budget:
            continue
        found = here.predicted(options)
        if found is not None:
            yield found
