"""One deterministic evaluation: plan, time, resolve. Predictions, intervals, suggestions and sweeps all stand on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from simio.analytic import recurrence
from simio.cache.mapped_pages import PAGE_BYTES
from simio.plan.build import Surroundings, build
from simio.plan.memory import System
from simio.predict.resolve import Resolved
from simio.records.device import Thermal
from simio.records.plan import Plan
from simio.records.timed import TimedPlan
from simio.service_times import (
    Factors,
    Rates,
    Seconds,
    derated,
    fault_bandwidth,
    heat_state,
    rates_of,
    read_bandwidth,
)
from simio.timing import time_plan

#: The device file's values as they are.
NO_CHANGE = Factors()


@dataclass(frozen=True, slots=True)
class Point:
    """A plan on a device with the time of every pass."""

    plan: Plan
    rates: Rates
    timed: TimedPlan
    pass_end_s: list[float]

    @property
    def load_s(self) -> float:
        """Time of loading, before the prompt is looked at."""
        loads = [e for e, p in zip(self.pass_end_s, self.plan.order, strict=True) if self.plan.passes[p].kind == "load"]
        return loads[-1] if loads else 0.0

    @property
    def first_token_s(self) -> float:
        """End of the prefill, from a cold start."""
        return self.pass_end_s[self.plan.n_setup - 1]

    @property
    def token_latencies_s(self) -> list[float]:
        """Time of every decoded token."""
        ends = self.pass_end_s[self.plan.n_setup - 1 :]
        return [b - a for a, b in pairwise(ends)]

    @property
    def tokens_per_s(self) -> float:
        """Decoded tokens per second."""
        latencies = self.token_latencies_s
        return len(latencies) / sum(latencies)


def evaluate(resolved: Resolved, factors: Factors = NO_CHANGE) -> Point:
    """Evaluate at the device file's values times ``factors``, as hot as the device is half-way through the run.

    Raises ``InfeasibleError`` when the scenario cannot run.
    """
    return follow(resolved, plan_of(resolved), factors)


def follow(resolved: Resolved, plan: Plan, factors: Factors = NO_CHANGE) -> Point:
    """``evaluate`` with a plan that is already made: its bytes at the rates of ``resolved``, times ``factors``."""
    cool = _timed(resolved, plan, factors)
    hot = heat(resolved, cool.pass_end_s[-1])
    return cool if hot is None else _timed(resolved, plan, factors.times(hot))


def heat(resolved: Resolved, run_s: Seconds) -> Factors | None:
    """What heat leaves of the rates half-way through a run of ``run_s``; None where the device does not say."""
    thermal, scenario = resolved.device.thermal, resolved.scenario
    if thermal is None:
        return None
    return heated(thermal, scenario.entry_temperature_c, scenario.sustained_s or 0.0, run_s)


def heated(thermal: Thermal, entry_temperature_c: Seconds | None, sustained_s: Seconds, run_s: Seconds) -> Factors:
    """What heat leaves half-way through a run of ``run_s`` that starts at ``entry_temperature_c`` after a load."""
    state = heat_state(thermal, entry_temperature_c, sustained_s + run_s / 2)
    cpu, storage = derated(thermal.cpu_share, state), derated(thermal.storage_share, state)
    return Factors(storage=storage, gemv=cpu, prefill=cpu, decompress=cpu)


def _timed(resolved: Resolved, plan: Plan, factors: Factors) -> Point:
    rates = rates_at(resolved, plan, factors)
    timed = time_plan(plan, rates)
    return Point(plan, rates, timed, recurrence.run(timed).pass_end_s)


def rates_at(resolved: Resolved, plan: Plan, factors: Factors) -> Rates:
    """The rates that ``plan`` meets in a resolved scenario, each times its factor."""
    limit = resolved.scenario.read_limit_bytes_per_s
    return rates_of(resolved.device, plan, resolved.profile.codec, factors, resolved.relative_rate, limit)


#: A memory cgroup's statistics are brought up to date this often (mm/memcontrol.c, FLUSH_TIME). [s]
FLUSH_S = 2.0


def plan_of(resolved: Resolved, read_ahead: str = "value", rank: float | None = None) -> Plan:
    """Plan a resolved scenario.

    ``read_ahead``: ``low``, ``value`` or ``high`` of the device file, where the scenario does not state it; ``rank``:
    see ``plan.build.Surroundings``.
    """
    scenario, storage = resolved.scenario, resolved.device.storage
    window = scenario.read_ahead_bytes or round(getattr(storage.read_ahead_bytes, read_ahead))
    folio = round(storage.folio_bytes.value) if storage.folio_bytes else PAGE_BYTES
    rate = min(read_bandwidth(storage, window, 1, sequential=True), fault_bandwidth(storage))
    rate = min(rate, scenario.read_limit_bytes_per_s or rate)
    system = System.of(resolved.device)
    around = Surroundings(window, folio, round(FLUSH_S * rate), rank, system, resolved.trace)
    return build(scenario, resolved.layout, resolved.profile.model.architecture, around)
