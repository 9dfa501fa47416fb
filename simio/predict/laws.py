"""Laws that every run must obey, checked on every prediction. A failed law is an error: simio's own result is wrong."""

from __future__ import annotations

from dataclasses import replace

from simio.analytic import recurrence
from simio.analytic.bounds import demand
from simio.errors import LawError
from simio.predict.point import Point
from simio.records.prediction import Check
from simio.records.scenario import Scenario
from simio.records.span import Span
from simio.records.timed import TimedPlan
from simio.sim import engine

#: Relative slack of sums of floats; the equality law has its own.
SLACK = 1e-9
#: Fetches and steps of the first decoded tokens that the SimPy cross-check covers by default.
PREFIX = 250


def check(point: Point, scenario: Scenario, full: bool) -> tuple[Check, ...]:
    """Hold ``point`` against the laws; the SimPy run covers a prefix unless ``full``. Raises ``LawError``."""
    timed = point.timed if full else prefix(point.timed, first=point.plan.n_setup, budget=PREFIX)
    simulated = engine.run(timed)
    makespan = point.pass_end_s[-1]
    bounds = demand(point.timed)
    checks = [
        _at_most("bottleneck", "lower bound ≤ T", bounds.lower_s, makespan),
        _at_most("no overlap", "T ≤ upper bound", makespan, bounds.upper_s),
        _at_most("memory", "RAM at its peak ≤ budget", point.plan.ram.peak, point.plan.ram.budget),
        *_span_laws(timed, simulated),
        _equal("equality", "T of SimPy = T of the recurrence", simulated.pass_end_s[-1], _makespan(timed)),
        _at_most("monotone", "T with twice the bandwidth ≤ T", _makespan(_faster(timed)), _makespan(timed)),
    ]
    if full:
        again = engine.run(timed).spans
        checks.append(
            _equal("repeatability", "spans that a second run repeats", _n_equal(simulated.spans, again), len(again))
        )
    for one in checks:
        if not one.ok:
            raise LawError(
                f"law '{one.law}' failed: {one.statement}: {one.left!r} against {one.right!r}",
                f"please report this with the scenario: {scenario.to_json()}",
            )
    return tuple(checks)


def _span_laws(timed: TimedPlan, simulated: engine.Simulated) -> list[Check]:
    wanted, spans = demand(timed), simulated.spans
    checks = [
        _equal("conservation", "bytes in spans = bytes planned", sum(s.n_bytes for s in spans), wanted.link_bytes)
    ]
    for resource in ("storage", "decompress", "compute"):
        own = [s for s in spans if s.resource == resource]
        busy = sum(s.end_s - s.start_s for s in own)
        checks.append(_equal("utilisation", f"busy({resource}) = Σ service times", busy, wanted.busy_s[resource]))
        checks.append(
            _equal(
                "Little",
                f"∫N dt = Σ time in system, {resource}",
                simulated.in_system_s[resource],
                sum(s.end_s - s.queued_s for s in own),
            )
        )
    return checks


def prefix(timed: TimedPlan, first: int, budget: int) -> TimedPlan:
    """The run from pass ``first`` on, cut after ``budget`` fetches and steps (in the middle of a pass, if need be)."""
    order: list[int] = []
    pass_step = list(timed.pass_step)
    for p in timed.order[first:]:
        steps = range(timed.pass_step[p], timed.pass_step[p + 1])
        sizes = [1 + timed.step_fetch[s + 1] - timed.step_fetch[s] for s in steps]
        if sum(sizes) <= budget:
            budget -= sum(sizes)
            order.append(p)
            continue
        n, used = 0, 0
        while n < len(sizes) and used + sizes[n] <= budget:
            used += sizes[n]
            n += 1
        return _with_partial(timed, order, pass_step, p, max(n, 0 if order else 1))
    return replace(timed, order=order)


def _with_partial(timed: TimedPlan, order: list[int], pass_step: list[int], p: int, n_steps: int) -> TimedPlan:
    """``order`` followed by the first ``n_steps`` of pass ``p``, appended as a pass of its own."""
    if n_steps == 0:
        return replace(timed, order=order)
    start, stop = timed.pass_step[p], timed.pass_step[p] + n_steps
    shift = len(timed.is_read) - timed.step_fetch[start]
    fetches = slice(timed.step_fetch[start], timed.step_fetch[stop])
    return replace(
        timed,
        order=[*order, len(pass_step) - 1],
        pass_step=[*pass_step, pass_step[-1] + n_steps],
        step_fetch=timed.step_fetch + [timed.step_fetch[s] + shift for s in range(start + 1, stop + 1)],
        compute_s=timed.compute_s + timed.compute_s[start:stop],
        router_back=timed.router_back + timed.router_back[start:stop],
        is_read=timed.is_read + timed.is_read[fetches],
        link_s=timed.link_s + timed.link_s[fetches],
        decompress_s=timed.decompress_s + timed.decompress_s[fetches],
        n_chunks=timed.n_chunks + timed.n_chunks[fetches],
        staging_bytes=timed.staging_bytes + timed.staging_bytes[fetches],
        link_bytes=timed.link_bytes + timed.link_bytes[fetches],
    )


def _faster(timed: TimedPlan) -> TimedPlan:
    return replace(timed, link_s=[t / 2 for t in timed.link_s])


def _makespan(timed: TimedPlan) -> float:
    return recurrence.run(timed).pass_end_s[-1]


def _n_equal(spans: list[Span], again: list[Span]) -> int:
    return sum(a == b for a, b in zip(spans, again, strict=False))


def _equal(law: str, statement: str, left: float, right: float) -> Check:
    return Check(law, statement, left, right, abs(left - right) <= SLACK * max(abs(left), abs(right)))


def _at_most(law: str, statement: str, left: float, right: float) -> Check:
    return Check(law, statement, left, right, left <= right * (1 + SLACK))
