"""Codec, quantizer and place of every tensor of a dense model: the linear programs of ``simio study joint``.

Three programs for each setting: steps as the planner's slabs with the buffers that reading ahead takes (J1, J2), the
same with buffers for one step, which a plan can do with, and all steps as one, which fits deep prefetch. That with no
buffers at all is the bottleneck law (Denning & Buzen 1978): no schedule is faster.
What is minimised there is a token's time, or its energy (E1) but for memory traffic; the goal judges what is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from simio.errors import UsageError
from simio.optimize.refining import refine
from simio.optimize.trying import Trials
from simio.records.optimum import Configuration, Goal
from simio.records.scenario import Scenario
from simio.service_times import default_workers
from simio.study.candidates import AS_STORED, Candidates, Setting, candidates
from simio.study.choices import ChoiceTable
from simio.study.milp import Solution, solve
from simio.study.mixed_profile import mixed_profile
from simio.study.problem import STAGES, Indices, Problem
from simio.units import MIB

#: Of the stages: what a second of each counts beside a second of the token.
Weights = tuple[float, ...]
NO_WEIGHTS: Weights = (0.0,) * len(STAGES)

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
    setting = Setting(trials.device, open_, cost_budget)
    regime = candidates(table, setting, decompresses)
    return Space(table, setting, regime.only(_useful(regime)), trials)


def _useful(regime: Candidates) -> NDArray[np.bool_]:
    """All options but those that compress what lies in RAM as it is multiplied, where it can be stored raw there."""
    raw = {
        (item, regime.items[item][0].tensor.dtype.lower() if label == AS_STORED else label[0])
        for item, label in zip(regime.problem.item, regime.labels, strict=True)
        if label[1] == "raw"
    }
    return np.array([
        place != "ram" or label[1] == "raw" or (item, label[0]) not in raw
        for item, label, place in zip(regime.problem.item, regime.labels, regime.residency, strict=True)
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placed:
    """One solution: the options, where they are numbered, and what is predicted of them."""

    space: Space
    options: Indices
    found: Configuration


def place(here: Space, weights: Weights, time_limit_s: float) -> list[Placed]:
    """The solutions of the programs as predicted."""
    problem = here.problem
    relaxed = _in_time(_as_one_step(problem, staging_bytes=0.0), NO_WEIGHTS, time_limit_s)
    if relaxed is None:
        return []
    at_once = _as_one_step(problem, problem.staging_bytes(relaxed.chosen))
    solved = []
    for program in (problem, replace(problem, n_buffers=1), at_once):
        solution = _in_time(program, weights, time_limit_s)
        found = None if solution is None else here.predicted(solution.chosen)
        if solution is not None and found is not None:
            solved.append(Placed(here, solution.chosen, found))
    return solved


def _in_time(problem: Problem, weights: Weights, time_limit_s: float) -> Solution | None:
    """The solution, or what is best when time is up; None where that is nothing."""
    try:
        return solve(problem, time_limit_s, GAP, weights)
    except UsageError:
        return None


def _as_one_step(problem: Problem, staging_bytes: float) -> Problem:
    """``problem`` with all reads, decompressions and products free to overlap, and ``staging_bytes`` for buffers."""
    return replace(
        problem,
        step=np.zeros_like(problem.step),
        fixed=problem.fixed.sum(axis=0, keepdims=True),
        staged=np.zeros_like(problem.staged),
        row_s=problem.row_link_s,
        ram_bytes=problem.ram_bytes - staging_bytes,
    )


def placements(
    table: ChoiceTable, scenario: Scenario, cost_budget: float, goal: Goal, trials: Trials, time_limit_s: float
) -> list[Placed]:
    """The solutions with and without decompression."""
    weights = _weights(goal, scenario, trials)
    spaces = (space(table, scenario, cost_budget, trials, decompresses) for decompresses in (False, True))
    return [one for here in spaces for one in place(here, weights, time_limit_s)]


def least_token_s(
    table: ChoiceTable, scenario: Scenario, cost_budget: float, trials: Trials, time_limit_s: float
) -> float | None:
    """Seconds that no placement in the settings of ``scenario`` can be below in either linear program, if known."""
    problems = [space(table, scenario, cost_budget, trials, decompresses).problem for decompresses in (False, True)]
    solved = [_in_time(_as_one_step(problem, 0.0), NO_WEIGHTS, time_limit_s) for problem in problems]
    return min((one.bound_s for one in solved if one is not None), default=None)


def _weights(goal: Goal, scenario: Scenario, trials: Trials) -> Weights:
    """Power of each busy stage ÷ the baseline's, where energy is minimised: link, all workers, threads (by traffic)."""
    drain = trials.drain(scenario) if goal.minimise == "energy" else None
    if drain is None:
        return NO_WEIGHTS
    n_workers = scenario.n_workers or default_workers(trials.device.cpu, scenario.n_threads or 1)
    powers = (drain.storage_w, n_workers * drain.worker_w, drain.threads_w, 0.0)
    return tuple(float(watts / drain.baseline_w) for watts in powers)


def exchanged(start: Placed, goal: Goal, time_limit_s: float) -> Configuration:
    """The best selection near a solution, as the prediction sees it: exchanges of all options there are."""
    old, setting = start.space, start.space.setting
    here = space(old.table, setting.scenario, setting.cost_budget, old.trials, decompresses=True)
    options = _same(old.regime, start.options, here.regime)
    best = start.found

    def judged(selection: Indices) -> tuple[float, ...] | None:
        nonlocal best
        found = here.predicted(selection)
        if found is None:
            return None
        best = min(best, found, key=goal.order)
        return goal.order(found)

    refine(options, here.problem, judged, monotonic() + time_limit_s)
    return best


def _same(regime: Candidates, options: Indices, other: Candidates) -> Indices:
    """The same selection as numbered in another regime that has all of its options."""
    number = {key: i for i, key in enumerate(zip(other.problem.item, other.labels, other.residency, strict=True))}
    return np.array(
        [number[regime.problem.item[o], regime.labels[o], regime.residency[o]] for o in options], dtype=np.intp
    )


def everywhere(table: ChoiceTable, scenario: Scenario, cost_budget: float, trials: Trials) -> Iterator[Configuration]:
    """Every quantizer and codec for all tensors within the quality budget, all read from flash for every token."""
    here = space(table, scenario, cost_budget, trials, decompresses=True)
    on_flash = np.array(here.regime.residency) == "flash"
    for label in dict.fromkeys(here.regime.labels):
        keep = here.regime.with_label(label) & on_flash
        keep |= here.regime.where_lacking(keep) & on_flash
        options = np.flatnonzero(keep)
        if here.problem.quality(options) <= cost_budget:
            found = here.predicted(options)
            if found is not None:
                yield found
