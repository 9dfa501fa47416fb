"""Measured runs as questions that are answered many times over: planned once, timed again for every device tried.

``time_plan`` and the recurrence stay the only sources of seconds. What makes it fast: of all steps of a plan, each
distinct one is timed once and its times are spread over the run. Where that would not give what the whole plan gives
(a record may grow), the whole plan is timed instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from simio import catalog
from simio.analytic import compiled, recurrence
from simio.analytic.bounds import demand
from simio.errors import InfeasibleError, SimioError, UsageError
from simio.predict.point import heat, plan_of, rates_at
from simio.predict.resolve import Resolved, complete, load_profile
from simio.records.codec_profile import CodecProfile
from simio.records.device import Device
from simio.records.measurement import Measurement
from simio.records.plan import Pass, Plan, Step
from simio.records.scenario import Scenario
from simio.records.timed import TimedPlan
from simio.records.validation import Skipped
from simio.service_times import Factors
from simio.timing import time_plan
from simio.validate.compare import model_named, scenario_of

Progress = Callable[[int, int], None]

#: ms of a run that cannot start with the numbers tried: so slow that no fit goes there.
NEVER_MS = 1e8
#: Relative difference up to which distinct steps stand for the whole plan.
_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class _Brief(Plan):
    """A plan of its distinct steps only, which still knows what the whole one says of itself."""

    whole_decompresses: bool = False
    whole_hit_ratio: float = 1.0
    whole_n_setup: int = 0

    @property
    def decompresses(self) -> bool:
        return self.whole_decompresses

    @property
    def hit_ratio(self) -> float:
        return self.whole_hit_ratio

    @property
    def n_setup(self) -> int:
        return self.whole_n_setup


class _Planned:
    """One plan with all that does not depend on rates: ``mean_ms`` only times and resolves."""

    def __init__(self, resolved: Resolved) -> None:
        plan = plan_of(resolved)
        self._resolved = resolved
        self._n_setup, self._n_tokens = plan.n_setup, len(plan.order) - plan.n_setup
        timed = time_plan(plan, rates_at(resolved, plan, Factors()))
        self._heat = heat(resolved, recurrence.run(timed).pass_end_s[-1]) or Factors()
        timed = time_plan(plan, rates_at(resolved, plan, self._heat))
        self.n_bytes = _decode_bytes(timed, plan)
        self._brief, self._of_step, self._of_fetch = _distinct(plan)
        self._form = _arrays(timed)
        if not _agrees(self._time(resolved.device), timed):
            self._brief, self._of_step = plan, None

    def mean_ms(self, device: Device) -> float:
        timed = self._time(device)
        if find_spec("numba") is not None:
            ends = compiled.run(timed).pass_end_s
        else:
            ends = recurrence.run(_lists(timed)).pass_end_s
        return 1e3 * (ends[-1] - ends[self._n_setup - 1]) / self._n_tokens

    def _time(self, device: Device) -> TimedPlan:
        resolved = replace(self._resolved, device=device)
        brief = time_plan(self._brief, rates_at(resolved, self._brief, self._heat))
        if self._of_step is None:
            return brief
        changed: dict[str, Any] = {}
        for name in (f.name for f in fields(brief)):
            value = getattr(brief, name)
            if name in _STRUCTURE:
                continue
            if isinstance(value, list):
                by = self._of_step if len(value) == len(brief.compute_s) and name in _OF_STEPS else self._of_fetch
                changed[name] = np.asarray(value)[by]
            else:
                changed[name] = value
        return replace(self._form, **changed)


#: Lists of a timed plan that say what follows what: the whole plan's stay.
_STRUCTURE = ("order", "pass_step", "step_fetch", "router_back")
#: Lists with an entry a step; the others have one a fetch.
_OF_STEPS = ("compute_s",)


def _distinct(plan: Plan) -> tuple[Plan, Any, Any]:
    """The plan of distinct steps, which of them each step is, and which of their fetches each fetch is."""
    number: dict[Step, int] = {}
    of_step = [number.setdefault(step, len(number)) for p in plan.passes for step in p.steps]
    starts = np.cumsum([0, *(len(step.fetches) for step in number)]).tolist()
    of_fetch = [n for s in of_step for n in range(starts[s], starts[s + 1])]
    whole = {f.name: getattr(plan, f.name) for f in fields(plan)} | {
        "passes": (Pass("decode", tuple(number)),), "order": (0,)
    }  # fmt: skip
    brief = _Brief(
        **whole,
        whole_decompresses=plan.decompresses,
        whole_hit_ratio=plan.hit_ratio,
        whole_n_setup=plan.n_setup,
    )
    return brief, np.array(of_step, np.int64), np.array(of_fetch, np.int64)


def _arrays(timed: TimedPlan) -> TimedPlan:
    lists: dict[str, Any] = {
        f.name: np.asarray(v) for f in fields(timed) if isinstance(v := getattr(timed, f.name), list)
    }
    return replace(timed, **lists)


def _lists(timed: TimedPlan) -> TimedPlan:
    arrays: dict[str, Any] = {
        f.name: v.tolist() for f in fields(timed) if isinstance(v := getattr(timed, f.name), np.ndarray)
    }
    return replace(timed, **arrays)


def _agrees(a: TimedPlan, b: TimedPlan) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(b)]
    return all(np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=_SAME, atol=0.0) for x, y in pairs)


def _decode_bytes(timed: TimedPlan, plan: Plan) -> float:
    return demand(timed, plan.n_setup).link_bytes / (len(plan.order) - plan.n_setup)


@dataclass(slots=True)
class Question:
    """What one run asks; equal for its repeats. ``n_bytes``: predicted from storage per token, else the weights'."""

    scenario: Scenario
    profile: CodecProfile
    model: str
    runtime: str
    n_bytes: float
    first: Resolved
    plans: dict[tuple[float, ...], _Planned | None] = field(default_factory=dict)

    def ms(self, device: Device, plan_key: tuple[float, ...]) -> float:
        """Mean time of a decoded token on ``device``. ``plan_key``: equal for devices that share this run's plan."""
        if plan_key not in self.plans:
            try:
                resolved = complete(self.scenario, device, self.profile, self.first.layout)
                self.plans[plan_key] = _Planned(resolved)
            except InfeasibleError:
                self.plans[plan_key] = None
        planned = self.plans[plan_key]
        return NEVER_MS if planned is None else planned.mean_ms(device)


@dataclass(frozen=True, slots=True)
class FitRun:
    """One measured run that can be predicted."""

    run_id: str
    measured_ms: float
    question: int  # index into ``Answers.questions``
    session: str
    model: str  # whatever its quantization
    repeat_of: str
    source: str


class Answers:
    """Predicted times of all runs as a function of the parameters' logarithms, remembered.

    ``runs`` could be predicted, ``skipped`` could not. Nothing here sees a measured time.
    """

    def __init__(
        self,
        device: Device,
        measured: Sequence[Measurement],
        model_of: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.device = device
        self.questions: list[Question] = []
        self.runs: list[FitRun] = []
        self.skipped: list[Skipped] = []
        self._known: dict[Scenario, int] = {}
        self._profiles: dict[tuple[Any, ...], CodecProfile] = {}
        for done, run in enumerate(measured, start=1):
            self._take(run, model_of or {})
            if progress:
                progress(done, len(measured))

    def _take(self, run: Measurement, model_of: Mapping[str, str]) -> None:
        measured_s = fmean(run.token_s) if run.token_s else run.mean_token_s
        if run.unsupported or not measured_s:
            self.skipped.append(Skipped(run.run_id, run.unsupported or "no decode rate was measured"))
            return
        try:
            model = model_named(model_of.get(run.model, run.model))
            asked = replace(scenario_of(run.known, self.device.id, model), draws=0)
            if asked not in self._known:
                self.questions.append(self._question(asked, model))
                self._known[asked] = len(self.questions) - 1
        except SimioError as error:
            self.skipped.append(Skipped(run.run_id, error.message))
            return
        session = run.run_id.rpartition("/")[0]
        self.runs.append(
            FitRun(run.run_id, 1e3 * measured_s, self._known[asked], session, _family(model), run.repeat_of, run.source)
        )

    def _question(self, asked: Scenario, model: str) -> Question:
        key = (model, asked.codec, asked.chunk_bytes, asked.top_k)
        if key not in self._profiles:
            self._profiles[key] = load_profile(asked)
        profile = self._profiles[key]
        first = complete(asked, self.device, profile)
        planned = _Planned(first)
        n_bytes = planned.n_bytes or float(profile.model.n_bytes)
        return Question(asked, profile, model, first.scenario.runtime, n_bytes, first, {(): planned})

    def log_ms(self, question: int, device: Device, plan_logs: Sequence[float] = ()) -> float:
        """Logarithm of the predicted ms of one question on ``device``. ``plan_logs``: of what moves plans."""
        key = tuple(plan_logs) if any(plan_logs) else ()
        return log(self.questions[question].ms(device, key))

    def of_runs(self, log_ms: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Per run what is given per question."""
        return np.array([log_ms[run.question] for run in self.runs])


def _family(model: str) -> str:
    """The model without its quantization: leaving out only one layout of it would leave little out."""
    return Path(model).name.partition(":")[0]


def of_device(runs: Sequence[Measurement], device: Device, path: str = "") -> tuple[list[Measurement], list[Skipped]]:
    """The runs of ``device`` and, each with the reason, those of others. Raises ``UsageError`` where none is left."""
    mine: dict[str, bool] = {}
    for name in {run.device for run in runs}:
        mine[name] = _is_same(name, device, path)
    kept = [run for run in runs if mine[run.device]]
    if not kept:
        found = ", ".join(sorted(mine)) or "none"
        raise UsageError(f"no run is of {device.id} ({device.name})", f"devices of these runs: {found}")
    return kept, [Skipped(run.run_id, f"ran on another device: {run.device}") for run in runs if not mine[run.device]]


def _is_same(name: str, device: Device, path: str) -> bool:
    own = {device.id, device.name, *device.aliases, path, Path(path).name, Path(path).stem}
    if name in own:
        return True
    try:
        other = catalog.load(name)
    except SimioError:
        return False
    return other.id == device.id or other.name == device.name
