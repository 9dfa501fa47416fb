"""Intervals of many scenarios from the same draws, as ``predict.interval`` would find them one by one.

A draw moves rates, so what it does to tokens/s relative to the device file's values is one number for each draw and
plan, whatever else multiplies the rates. Scenarios of one plan share those numbers. Dense models streamed differ in
what is pinned: their shortened runs go through the compiled recurrence, draws × scenarios.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simio.analytic import recurrence
from simio.predict.interval import deviates, drawn_factors, gang, repeat_spread, shortened, speeds, tails
from simio.predict.point import follow, rates_at
from simio.predict.resolve import Resolved
from simio.records.plan import Plan
from simio.records.scenario import Scenario
from simio.sweep.outcome import NUMBER, Outcome

if TYPE_CHECKING:
    from simio.sweep.frames import Streamed

Column = NDArray[Any]


def put(found: Outcome, relative: Column) -> None:
    """Fill the interval from ``relative``: low and high as a share of tokens/s, one row or one for each scenario."""
    speed = found.numbers[:, NUMBER["tokens_per_s"]]
    found.set("interval_low", np.minimum(speed, speed * relative[..., 0]))
    found.set("interval_high", np.maximum(speed, speed * relative[..., 1]))


def of_plan(asked: Scenario, one: Resolved, plan: Plan) -> Column:
    """Low and high of the draws of one plan, as a share of its tokens/s."""
    point = follow(one, plan)
    return np.array(tails(speeds(asked, one, point, deviates(asked.draws, asked.seed)) / point.tokens_per_s))


def of_streamed(one: Resolved, runs: Streamed, loop: Mapping[str, Any]) -> Column:
    """Low and high of the draws of every run (n, 2), as a share of its tokens/s; RAM is given, not drawn."""
    t, n = runs.template, one.scenario.draws
    z = {name: np.append(row, 0.0) for name, row in deviates(n, one.scenario.seed).items()}  # last: as the file says
    plan = runs.plan(one.scenario)
    rates = rates_at(one, plan, drawn_factors(one, replace(plan, passes=t.plan.passes), z))
    times, classes = t.flat.classes.times(rates, n + 1), t.flat.classes
    chunks = classes.column("n_chunks")
    inflate = times.inflate * gang(chunks, plan.n_workers)
    short = shortened(t.plan)
    order, weights = (np.array(column) for column in zip(*short, strict=True))
    noise = np.exp(repeat_spread(one) * z["repeat"][:n])
    found, ends = np.empty((len(runs.staging), 2)), np.empty((n + 1, len(order)))
    for j in range(len(found)):
        loop["run_pinned"](
            loop["max_plus"], loop["settle"], loop["keep_ends"], order, 1, t.flat.pass_step, t.step_slab, t.step_rows,
            t.flat.step_class, t.slab_request, t.request_class, np.minimum(chunks, 1),
            classes.column("staging_bytes"), classes.column("link_bytes"), np.repeat(runs.pinned[j : j + 1], n + 1, 0),
            np.full(n + 1, runs.staging[j]), np.full(n + 1, runs.prefetch[j]), plan.queue_depth, 1, times.link, inflate,
            times.compute, times.latency, recurrence.N_STATES, False, ends,
        )  # fmt: skip
        latency = np.diff(ends, axis=1) @ weights[1:] / weights[1:].sum()
        found[j] = tails(latency[n] / (latency[:n] * noise))
    return found
