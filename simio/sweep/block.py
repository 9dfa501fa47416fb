"""A block of a study: what one worker evaluates at a time. The same function runs in a pool, on a cluster and here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.errors import InfeasibleError, SimioError
from simio.predict.energy import energy_j_per_token
from simio.predict.interval import interval
from simio.predict.point import Point, evaluate
from simio.predict.resolve import Resolved
from simio.sim import engine
from simio.sweep import frames
from simio.sweep.frames import Frame
from simio.sweep.outcome import NUMBER, Outcome, row_of
from simio.sweep.study import Study

#: Decoded tokens that SimPy plays of a scenario it checks, after the prompt.
CHECKED_TOKENS = 3
#: So few scenarios are done one by one before the loops are compiled.
FEW = 200
#: Of those with an interval, which takes ten times as long.
FEW_DRAWN = 20


@dataclass(frozen=True, slots=True)
class Block:
    """Results of the scenarios ``numbers`` of a study."""

    numbers: NDArray[np.int64]
    digests: NDArray[np.uint64]
    values: dict[str, NDArray[Any]]
    outcome: Outcome


def evaluate_block(study: Study, numbers: NDArray[np.int64], checked: frozenset[int]) -> Block:
    """Evaluate scenarios ``numbers``; those in ``checked`` are played by SimPy, too."""
    found = Outcome.empty(len(numbers))
    for rows, frame in study.frames(numbers):
        n_draws = frame.fixed.get("draws", 0)
        if study.engine == "sim":
            found.put(rows, _one_by_one(frame, simulated=True, n_draws=n_draws))
        elif study.n <= (FEW_DRAWN if n_draws else FEW):
            found.put(rows, _one_by_one(frame, simulated=False, n_draws=n_draws))
        else:
            together = frames.run(frame)
            if n_draws:
                _draw_the_others(together, frame)
            found.put(rows, together)
        for j, row in enumerate(rows):
            if int(numbers[row]) in checked and found.reason[row] is None and study.engine != "sim":
                found.numbers[row, NUMBER["sim_difference"]] = difference(frame, j, found.numbers[row])
    return Block(numbers, study.digests(numbers), study.values(numbers), found)


def _one_by_one(frame: Frame, simulated: bool, n_draws: int) -> Outcome:
    """Scenarios that are played by SimPy, or whose interval is drawn."""
    found = Outcome.empty(frame.n)
    for j in range(frame.n):
        try:
            resolved = frames.resolved(frame, j)
            point = evaluate(resolved, frame.factors_of(j))
        except SimioError as error:
            found.reason[j] = error.message
            continue
        found.runtime[j] = resolved.scenario.runtime
        if simulated:
            point = Point(point.plan, point.rates, point.timed, engine.run(point.timed).pass_end_s)
        found.numbers[j] = row_of(point, energy_j_per_token(resolved, point))
        if n_draws:
            _draw(found, j, frame, resolved, point)
    return found


def _draw_the_others(found: Outcome, frame: Frame) -> None:
    """Intervals that frames leave open: of mixtures, and where RAM is drawn, too."""
    open_ = np.isnan(found.numbers[:, NUMBER["interval_low"]]) & ~np.isnan(found.numbers[:, NUMBER["tokens_per_s"]])
    for j in np.flatnonzero(open_).tolist():
        one = frames.resolved(frame, j)
        _draw(found, j, frame, one, evaluate(one, frame.factors_of(j)))


def _draw(found: Outcome, j: int, frame: Frame, resolved: Resolved, point: Point) -> None:
    """The interval, where the device file's rates stand as they are or are all multiplied alike."""
    drawn = interval(frame.scenario(j), resolved, point).interval
    found.numbers[j, NUMBER["interval_low"]], found.numbers[j, NUMBER["interval_high"]] = drawn.low, drawn.high


def difference(frame: Frame, j: int, row: NDArray[np.float64]) -> float:
    """Largest relative difference between what the sweep says of scenario ``j`` and SimPy.

    SimPy plays the load, the prompt and ``CHECKED_TOKENS`` tokens; the row's tokens/s and times are held against the
    same scenario evaluated by itself.
    """
    try:
        resolved = frames.resolved(frame, j)
        point = evaluate(resolved, frame.factors_of(j))
    except InfeasibleError:
        return float("inf")
    n = min(len(point.plan.order), point.plan.n_setup + CHECKED_TOKENS)
    played = np.array(engine.run(point.timed, n).pass_end_s)
    by_itself = np.array(point.pass_end_s[:n])
    single = row_of(point, energy_j_per_token(resolved, point))
    known = ~np.isnan(single)
    apart = np.abs(row - single)[known] / np.maximum(1e-300, np.abs(single[known]))
    return float(max(np.max(np.abs(by_itself - played) / played), np.max(apart, initial=0.0)))
