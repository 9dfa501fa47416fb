"""Quantizer, codec and residency of every tensor chosen together, against the best single choice.

The choice is made in the linear model of ``problem.py`` and confirmed by predictions: the recurrence says how long a
token takes, SimPy that it is right. See docs/joint.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from simio.errors import SimioError, UsageError
from simio.predict import laws
from simio.predict.point import Point, evaluate
from simio.predict.resolve import complete
from simio.records.joint import JointPlan, JointRow, Outcome, SingleChoice
from simio.study.candidates import AS_STORED, Candidates, Setting, candidates, rated
from simio.study.choices import ChoiceTable
from simio.study.milp import least_cost, least_ram, solve
from simio.study.mixed_profile import Chosen, mixed_profile
from simio.study.problem import Indices, Problem
from simio.units import MIB, format_bytes

#: Predictions that differ by less, as a share, are alike.
ALIKE = 1e-3
#: Relative gap at which the joint programs stop: a tenth of what any phone measurement resolves.
JOINT_GAP = 1e-3

#: Called with (programs solved, in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Found:
    chosen: list[Chosen]
    cost: float
    model_s: float
    bound_s: float


def joint(
    table: ChoiceTable,
    setting: Setting,
    *,
    time_limit_s: float = 30.0,
    gap: float = JOINT_GAP,
    full_check: bool = False,
    progress: Progress | None = None,
) -> JointPlan:
    """The fastest choice within the budgets of ``setting``.

    ``time_limit_s`` is for each of the two programs of the joint choice, ``gap`` where they stop. ``full_check`` lets
    SimPy play the whole run. Raises ``UsageError`` where a budget cannot be kept, with the least that can; and as
    ``predict``.
    """
    if not isfinite(setting.cost_budget) or setting.cost_budget < 0:
        raise UsageError(f"a quality budget of {setting.cost_budget}", "give a number of at least 0")
    regimes = [candidates(table, setting, decompresses) for decompresses in (False, True)]
    labels = [one for one in dict.fromkeys(regimes[1].labels) if setting.may_keep or one != AS_STORED]
    done = _Ticks(progress, len(labels) + 1)
    found = _solved(regimes, None, setting.may_keep, time_limit_s, gap)
    if not found:
        raise _infeasible(regimes, setting)
    outcomes = [_outcome(one, table, setting, "joint") for one in found]
    done.tick()
    singles = []
    for label in labels:
        of_label = _solved(regimes, label, setting.may_keep, time_limit_s / 10, gap)
        if of_label:
            singles.append(_single(label, of_label, table, setting))
        done.tick()
    singles.sort(key=lambda single: single.best_s)
    notes = [*table.notes, *rated(table, setting.device)]
    best = min(outcomes, key=lambda one: one.predicted_s)
    placed = min((single.outcome for single in singles), key=lambda one: one.predicted_s, default=best)
    if placed.predicted_s < best.predicted_s * (1 - ALIKE):
        notes.append("no mixture found is predicted faster than the best single choice, which is taken")
        best = replace(placed, bound_s=min(best.bound_s, placed.model_s))
    checked = complete(setting.scenario, setting.device, best.profile)
    laws.check(evaluate(checked), checked.scenario, full_check)
    return JointPlan(
        model=table.model.name,
        device=setting.device.id,
        measure=table.measure,
        cost_budget=setting.cost_budget,
        ram_budget=checked.scenario.ram_bytes or 0,
        outcome=best,
        singles=tuple(singles),
        notes=tuple(notes),
    )


@dataclass(slots=True)
class _Ticks:
    report: Progress | None
    total: int
    done: int = 0

    def tick(self) -> None:
        self.done += 1
        if self.report is not None:
            self.report(self.done, self.total)


def _solved(
    regimes: list[Candidates], label: tuple[str, str] | None, may_keep: bool, time_limit_s: float, gap: float
) -> list[_Found]:
    """What is best in each regime; with a ``label``, of its options only. The bound is that of both together."""
    found = []
    for regime in regimes:
        problem, numbers = _restricted(regime, label, may_keep)
        solution = solve(problem, time_limit_s, gap)
        if solution is not None:
            options: Indices = numbers[solution.chosen]
            cost = regime.problem.quality(options)
            found.append(_Found(regime.chosen(options), cost, solution.latency_s, solution.bound_s))
    bound = min((one.bound_s for one in found), default=inf)
    return [replace(one, bound_s=bound) for one in found]


def _restricted(regime: Candidates, label: tuple[str, str] | None, may_keep: bool) -> tuple[Problem, Indices]:
    """The options of ``label``, or of all labels; as stored where an item has none of them."""
    keep = _allowed(regime, label, may_keep)
    keep |= regime.where_lacking(keep)
    return regime.problem.only(keep), np.flatnonzero(keep)


def _allowed(regime: Candidates, label: tuple[str, str] | None, may_keep: bool) -> NDArray[np.bool_]:
    if label is not None:
        return regime.with_label(label)
    return np.ones(len(regime.labels), dtype=bool) if may_keep else ~regime.with_label(AS_STORED)


def _infeasible(regimes: list[Candidates], setting: Setting) -> UsageError:
    """Which budget cannot be kept, and what it would have to be."""
    problems = [_restricted(regime, None, setting.may_keep)[0] for regime in regimes]
    least = least_cost(problems[1])
    if least > setting.cost_budget:
        return UsageError(
            f"no choice keeps the quality budget of {setting.cost_budget:.4g}: the least is {least:.4g}",
            f"allow at least {least:.4g}, or offer finer quantizers",
        )
    needed = min(least_ram(problem) - problem.ram_bytes for problem in problems)
    ram = setting.scenario.ram_bytes or round(setting.device.memory.usable.value)
    return UsageError(
        f"no choice within the quality budget of {setting.cost_budget:.4g} keeps the RAM budget of "
        f"{format_bytes(ram)}: the least is {format_bytes(ram + needed)}",
        f"give at least {-(-(ram + needed) // MIB):.0f}MiB of RAM, a shorter context, or a looser quality budget",
    )


def _outcome(found: _Found, table: ChoiceTable, setting: Setting, name: str) -> Outcome:
    """A selection as predicted."""
    chunk_bytes = setting.scenario.chunk_bytes or MIB
    profile = mixed_profile(table.model, found.chosen, setting.device, chunk_bytes, name)
    point = evaluate(complete(setting.scenario, setting.device, profile))
    rows = tuple(
        JointRow(
            tensor=one.tensor.name,
            layer=one.tensor.layer,
            role=one.tensor.role,
            quant=one.option.quant,
            codec=one.option.codec,
            residency=one.residency,
            n_weights=one.tensor.n_weights,
            raw_bytes=one.option.raw_bytes,
            stored_bytes=one.option.stored_bytes,
            cost=one.option.cost,
        )
        for one in found.chosen
    )
    return Outcome(rows, found.cost, found.model_s, found.bound_s, _token_s(point), point.plan.ram.peak, profile)


def _token_s(point: Point) -> float:
    """The mean decoded token. [s]"""
    latencies = point.token_latencies_s
    return sum(latencies) / len(latencies)


def _single(label: tuple[str, str], found: list[_Found], table: ChoiceTable, setting: Setting) -> SingleChoice:
    outcomes = [_outcome(one, table, setting, f"{label[0]}, {label[1]}") for one in found]
    outcome = min(outcomes, key=lambda one: one.predicted_s)
    spread: float | None = None
    try:
        evenly = replace(outcome.profile, plan=())
        spread = _token_s(evaluate(complete(replace(setting.scenario, runtime="stream"), setting.device, evenly)))
    except SimioError:
        spread = None  # as `predict` would pin, it does not fit
    return SingleChoice(*label, outcome, spread)
