"""One choice of a scenario changed at a time, as long as that helps: what the grid did not reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from simio.optimize.trying import Trials
from simio.records.optimum import Configuration, Goal
from simio.records.scenario import Scenario
from simio.service_times import n_cores
from simio.units import MIB

#: Rounds over all choices.
MOST_ROUNDS = 4


def neighbours(
    start: Configuration, goal: Goal, trials: Trials, fixed: frozenset[str] = frozenset()
) -> list[Configuration]:
    """Every configuration met on the way from ``start`` to one that no single change makes better.

    Coordinate descent over the choices that ``start``'s runtime has; those in ``fixed`` stay.
    """
    best, met = start, [start]
    for _ in range(MOST_ROUNDS):
        before = best
        for name in _choices(best):
            if name in fixed:
                continue
            for value in _values(best, name, trials):
                one = _again(best, replace(best.scenario, **{name: value}), trials)
                if one is not None:
                    met.append(one)
                    best = min(best, one, key=goal.order)
        if best is before:
            break
    return met


def _again(one: Configuration, scenario: Scenario, trials: Trials) -> Configuration | None:
    return trials.of(scenario) if one.plan is None else trials.of_plan(scenario, one.plan, one.cost)


def _choices(one: Configuration) -> tuple[str, ...]:
    if one.runtime in ("resident", "mmap"):
        return ("n_threads",)
    if one.scenario.cache_bytes is not None:
        return (
            "cache_bytes",
            "cache_policy",
            "queue_depth",
            "expert_overlap",
            "expert_prefetch",
            "dense_weights",
            "n_threads",
        )
    planned = () if one.plan else ("cache_form",)
    return ("prefetch_depth", "queue_depth", "read_bytes", "n_threads", "n_workers", *planned)


def _values(one: Configuration, name: str, trials: Trials) -> Iterator[Any]:
    """Values near the one that ``one`` has."""
    device, s = trials.device, one.scenario
    now = getattr(s, name)
    if name in ("n_threads", "n_workers"):
        start = now or device.cpu.default_threads
        yield from (n for n in (start - 1, start + 1) if 1 <= n <= n_cores(device.cpu))
    elif name == "queue_depth":
        start = now or device.storage.best_queue_depth
        yield from (n for n in (start // 2, 2 * start) if n >= 1)
    elif name == "prefetch_depth":
        yield from (n for n in ((now or 1) - 1, (now or 1) + 1, 2 * (now or 1)) if n >= 1)
    elif name == "read_bytes":
        yield from (n * MIB for n in (1, 2, 4, 8) if n * MIB != now)
    elif name == "cache_bytes":
        yield from (round(now * share) for share in (0.85, 0.95, 1.05, 1.15) if now)
    elif name == "cache_policy":
        yield from (policy for policy in ("lru", "lfu", "layer_lru", "layer_lfu") if s.cache_bytes and policy != now)
    elif name == "cache_form":
        yield from (form for form in ("raw", "compressed") if s.codec not in (None, "raw") and form != now)
    elif name == "expert_overlap":
        yield not now
    elif name == "expert_prefetch":
        yield from (n for n in (0, 2, 4, 8) if n != now)
    elif name == "dense_weights":
        yield from (place for place in ("anon", "mmap") if place != now)
