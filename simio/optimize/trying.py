"""From a scenario, with a plan or without, to a ``Configuration``: predicted like any other, remembered, counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from simio.analytic.bounds import demand
from simio.errors import SimioError
from simio.plan.layout import Layout, lay_out
from simio.predict import laws
from simio.predict.energy import energy_j_per_token
from simio.predict.interval import interval
from simio.predict.point import evaluate
from simio.predict.resolve import Resolved, complete, load_profile
from simio.records.codec_profile import CodecProfile
from simio.records.device import Device
from simio.records.optimum import Configuration
from simio.records.prediction import Interval, TokenLatency
from simio.records.scenario import Scenario
from simio.service_times import Drain, drain_of
from simio.sim import engine


@dataclass(slots=True)
class Trials:
    """Predictions of one model on one device. Profiles of codecs are loaded once."""

    device: Device
    n: int = 0
    _profiles: dict[tuple[str | None, int | None], tuple[CodecProfile, Layout]] = field(default_factory=dict)
    _known: dict[Scenario, Configuration | None] = field(default_factory=dict)

    def profile(self, scenario: Scenario) -> tuple[CodecProfile, Layout]:
        """The weights under the codec of ``scenario``, and how they lie. Raises as ``simio.predict`` does."""
        key = scenario.codec, scenario.chunk_bytes
        if key not in self._profiles:
            profile = load_profile(scenario)
            self._profiles[key] = profile, lay_out(profile)
        return self._profiles[key]

    def of(self, scenario: Scenario) -> Configuration | None:
        """``scenario`` as predicted; None where it cannot run."""
        if scenario not in self._known:
            try:
                self._known[scenario] = self._configuration(scenario, None, 0.0)
            except SimioError:
                self._known[scenario] = None
        return self._known[scenario]

    def of_plan(self, scenario: Scenario, plan: CodecProfile, cost: float) -> Configuration | None:
        """A plan as predicted in ``scenario``; None where it does not fit."""
        try:
            return self._configuration(scenario, plan, cost)
        except SimioError:
            return None

    def confirm(self, found: Configuration, full: bool) -> float:
        """Hold ``found`` against the laws, and say how far SimPy is from it, relative; see ``laws.check``.

        Raises ``LawError`` where one fails.
        """
        point = evaluate(self._resolved(found.scenario, found.plan))
        laws.check(point, found.scenario, full)
        n = len(point.plan.order) if full else min(len(point.plan.order), point.plan.n_setup + 2)
        played, claimed = engine.run(point.timed, n).pass_end_s, point.pass_end_s[:n]
        return max(abs(a - b) / b for a, b in zip(played, claimed, strict=True))

    def interval(self, found: Configuration, draws: int) -> Interval:
        """The 80 % interval of its tokens/s."""
        scenario = replace(found.scenario, draws=draws)
        resolved = self._resolved(scenario, found.plan)
        return interval(scenario, resolved, evaluate(resolved)).interval

    def drain(self, scenario: Scenario) -> Drain | None:
        """The powers that a stream of ``scenario`` meets; None where the device file has no ``[power]``."""
        power = self.device.power
        return (
            None if power is None else drain_of(power, self.device.cpu, evaluate(self._resolved(scenario, None)).plan)
        )

    def _resolved(self, scenario: Scenario, plan: CodecProfile | None) -> Resolved:
        profile, layout = (plan, None) if plan is not None else self.profile(scenario)
        return complete(scenario, self.device, profile, layout)

    def _configuration(self, scenario: Scenario, plan: CodecProfile | None, cost: float) -> Configuration:
        self.n += 1
        resolved = self._resolved(scenario, plan)
        point = evaluate(resolved)
        latency = TokenLatency.of(point.token_latencies_s)
        decode = demand(point.timed, point.plan.n_setup)
        return Configuration(
            scenario=scenario,
            plan=plan,
            runtime=point.plan.runtime,
            tokens_per_s=point.tokens_per_s,
            p50_s=latency.p50,
            p95_s=latency.p95,
            ram_bytes=point.plan.ram.peak,
            flash_bytes_per_token=decode.link_bytes / len(point.token_latencies_s),
            stored_bytes=resolved.profile.stored_bytes,
            cost=cost,
            energy_j_per_token=energy_j_per_token(resolved, point),
        )
