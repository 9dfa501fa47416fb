"""Tokens/s with every number of a device moved by itself, for thousands of settings at once.

Rates are arrays through one plan; the few numbers that move the plan itself (RAM, read-ahead) take three levels each,
as in the 80 % interval, and every combination of levels is planned once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simio.catalog.numbers import Path, numbers, with_numbers
from simio.errors import InfeasibleError
from simio.predict.interval import Draws, factor, latencies_at, levels, mean_latency
from simio.predict.point import Point, follow, heat, plan_of, rates_at
from simio.predict.resolve import Resolved, complete
from simio.records.device import Quantity
from simio.records.plan import Plan
from simio.records.scenario import Scenario
from simio.service_times import Factors

#: Numbers that bytes and residency depend on, and not only seconds.
MOVE_THE_PLAN: tuple[Path, ...] = (
    ("memory", "usable"), ("memory", "total"), ("memory", "reserve"), ("memory", "page_cache_share"),
    ("memory", "swap_onset"), ("memory", "swap_share"), ("storage", "read_ahead_bytes"), ("storage", "folio_bytes"),
)  # fmt: skip
#: Of the weights' profile, not of the device.
RATIO: Path = ("compression ratio",)
#: No part of a prediction of one run.
_NOT_MET = (("residual",), ("cpu", "clusters", 0, "relative_speed"))
#: Settings evaluated together: arrays that fit in a processor's cache.
_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Movable:
    """A number with bounds."""

    name: str
    path: Path
    quantity: Quantity


def movables(resolved: Resolved) -> list[Movable]:
    """Every number of the device whose bounds are apart, and the compression ratio where it is an estimate."""
    found = [
        Movable(n.name, n.path, n.quantity) for n in numbers(resolved.device)
        if n.quantity.low < n.quantity.high and n.quantity.value > 0 and n.path not in _NOT_MET
    ]  # fmt: skip
    profile = resolved.profile
    if profile.ratio_interval:
        low, high = profile.ratio_interval
        ratio = Quantity(
            profile.ratio, min(low, profile.ratio), max(high, profile.ratio), "1", "profile", profile.basis
        )
        found.append(Movable("compression ratio", RATIO, ratio))
    return found


class Moved:
    """A scenario whose numbers can be moved. Plans are kept."""

    def __init__(self, asked: Scenario, resolved: Resolved, point: Point, moving: Sequence[Movable]) -> None:
        self.moving = list(moving)
        self._resolved, self._point = resolved, point
        profile = resolved.profile
        self._asked = replace(asked, codec=profile.codec, chunk_bytes=profile.chunk_bytes)
        self._plans: dict[tuple[str, ...], tuple[Resolved, Plan] | None] = {}
        self._scale = point.tokens_per_s * float(self._latency(resolved, point.plan, 1, 1.0)[0])

    def only(self, moving: Sequence[Movable]) -> Moved:
        """The same scenario with fewer numbers moved."""
        return Moved(self._asked, self._resolved, self._point, moving)

    def tokens_per_s(self, z: Draws, progress: Callable[[int], None] | None = None) -> Draws:
        """Tokens/s of every row of ``z``: standard normal deviates, a column a number; 0 where it cannot run.

        Shape (n, numbers) → (n,). −1.28 is a number's low bound, 1.28 its high one. ``progress(rows)`` is called now
        and then.
        """
        found = np.zeros(len(z))
        settings = self._settings(z)
        for combination in dict.fromkeys(settings):
            members = np.array([s == combination for s in settings]).nonzero()[0]
            planned = self._planned(combination)
            for part in np.array_split(members, -(-len(members) // _AT_ONCE)):
                if planned is not None:
                    found[part] = self._scale / self._latency_at(*planned, z[part])
                if progress:
                    progress(len(part))
        return found

    def exactly(self, row: Draws) -> float:
        """Tokens/s of one row by the whole run, every token of it; the ratio stays what it is."""
        planned = self._planned(self._settings(row[None])[0])
        if planned is None:
            return 0.0
        variant, plan = planned
        values = {
            m.path: float(m.quantity.value * factor(m.quantity, z))
            for m, z in zip(self.moving, row, strict=True) if z and m.path not in (*MOVE_THE_PLAN, RATIO)
        }  # fmt: skip
        return follow(replace(variant, device=with_numbers(variant.device, values)), plan).tokens_per_s

    def _settings(self, z: Draws) -> list[tuple[str, ...]]:
        """Per row, the level of every number that moves the plan."""
        columns = [i for i, m in enumerate(self.moving) if m.path in MOVE_THE_PLAN]
        rows: NDArray[np.object_] = np.full((len(z), len(columns)), "value", dtype=object)
        for k, i in enumerate(columns):
            for level, members in levels(z[:, i], True):
                rows[members, k] = level
        return [tuple(row) for row in rows.tolist()]

    def _planned(self, combination: tuple[str, ...]) -> tuple[Resolved, Plan] | None:
        if combination not in self._plans:
            self._plans[combination] = self._plan(combination)
        return self._plans[combination]

    def _plan(self, combination: tuple[str, ...]) -> tuple[Resolved, Plan] | None:
        if all(level == "value" for level in combination):
            return self._resolved, self._point.plan
        movers = [m for m in self.moving if m.path in MOVE_THE_PLAN]
        levels_of = {m.path: getattr(m.quantity, level) for m, level in zip(movers, combination, strict=True)}
        try:
            device = with_numbers(self._resolved.device, levels_of)
            variant = complete(self._asked, device, self._resolved.profile, self._resolved.layout)
            return variant, plan_of(variant)
        except InfeasibleError:
            return None

    def _latency_at(self, variant: Resolved, plan: Plan, z: Draws) -> Draws:
        drawn = {
            m.path: m.quantity.value * factor(m.quantity, z[:, i])
            for i, m in enumerate(self.moving) if m.path not in MOVE_THE_PLAN and np.any(z[:, i])
        }  # fmt: skip
        ratio = drawn.pop(RATIO, None)
        better = 1.0 if ratio is None else ratio / variant.profile.ratio
        return self._latency(replace(variant, device=with_numbers(variant.device, drawn)), plan, len(z), better)

    def _latency(self, variant: Resolved, plan: Plan, n: int, ratio: float | Draws) -> Draws:
        """Mean latency of a decoded token, as hot as the device is half-way through the run. [s]"""
        cool = mean_latency(*latencies_at(plan, rates_at(variant, plan, Factors(ratio=ratio)), n))
        hot = heat(variant, self._point.first_token_s + variant.scenario.n_tokens * cool)
        if hot is None:
            return cool
        return mean_latency(*latencies_at(plan, rates_at(variant, plan, replace(hot, ratio=ratio)), n))
