"""One deterministic evaluation: plan, time, resolve. Predictions, intervals, suggestions and sweeps all stand on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from simio.analytic import recurrence
from simio.plan.build import build
from simio.predict.resolve import Resolved
from simio.records.plan import Plan
from simio.records.timed import TimedPlan
from simio.service_times import Factors, Rates, rates_of
from simio.timing import time_plan


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


def evaluate(resolved: Resolved) -> Point:
    """Evaluate at the device file's values. Raises ``InfeasibleError`` when the scenario cannot run."""
    plan = plan_of(resolved)
    rates = rates_of(resolved.device, plan, resolved.profile.codec, Factors(), resolved.relative_rate)
    timed = time_plan(plan, rates)
    return Point(plan, rates, timed, recurrence.run(timed).pass_end_s)


def plan_of(resolved: Resolved, read_ahead_bytes: float | None = None) -> Plan:
    """Plan a resolved scenario; the window of one page-fault read is the device file's unless given."""
    window = round(read_ahead_bytes or resolved.device.storage.read_ahead_bytes.value)
    return build(resolved.scenario, resolved.layout, resolved.profile.model.architecture, window)
