"""Evaluate scenarios in frames: those that share device, model, codec and every choice that shapes the plan are planned
and timed together, and only numbers differ between them.

Three kinds. A dense model streamed without a weight cache: RAM, pins, staging, prefetch depth, factors of device rates
and heat are numbers, and one template with nothing pinned serves them all. One plan for all: where only rates and heat
differ. Everything else goes through ``predict.point.evaluate``, one by one. All give what ``evaluate`` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio import catalog, codecs
from simio.analytic import recurrence
from simio.errors import InfeasibleError, MissingPackageError, SimioError
from simio.plan import build
from simio.plan.layout import Layout, lay_out
from simio.plan.memory import buffer_bytes, kv_cache_bytes, require
from simio.plan.shares import DEMANDS, NOT_ASKED
from simio.predict.energy import Token, energy_j_per_token, energy_of, walked_bytes
from simio.predict.point import evaluate, heated, plan_of, rates_at
from simio.predict.resolve import Resolved, complete, load_profile
from simio.records.codec_profile import CodecProfile
from simio.records.device import Device
from simio.records.plan import Plan
from simio.records.scenario import Scenario
from simio.service_times import Factors
from simio.sweep import device_numbers, draws, loops, mixtures
from simio.sweep.outcome import Outcome, row_of
from simio.sweep.tables import Flat, Times

Column = NDArray[Any]

#: Scenario fields that are mere numbers to a frame of each kind.
HEAT = ("entry_temperature_c", "sustained_s")
LIGHT = ("ram_bytes", "pinned_bytes", "pinned_fraction", "staging_bytes", "prefetch_depth", "cache_bytes", *HEAT)


@dataclass(frozen=True, slots=True)
class Frame:
    """``n`` scenarios: ``fixed`` fields and ``quantities`` of the device in common, ``varied`` fields and ``factors``
    of device rates one number each.
    """

    n: int
    fixed: Mapping[str, Any]
    quantities: tuple[device_numbers.Change, ...]
    varied: Mapping[str, Column]
    factors: Mapping[str, Column]

    def only(self, rows: Column) -> Frame:
        """Some of the scenarios."""
        return replace(
            self,
            n=len(rows),
            varied={name: column[rows] for name, column in self.varied.items()},
            factors={name: column[rows] for name, column in self.factors.items()},
        )

    def scenario(self, j: int) -> Scenario:
        """Scenario ``j`` as asked. Raises ``UsageError`` where its fields are at odds."""
        types = _field_types()
        varied = {name: types[name](column[j]) for name, column in self.varied.items()}
        return Scenario(**{**self.fixed, **varied})

    def factors_of(self, j: int) -> Factors:
        """The device factors of scenario ``j``."""
        return Factors(**{name: float(column[j]) for name, column in self.factors.items()})


@lru_cache(maxsize=1)
def _field_types() -> dict[str, type]:
    return {f.name: int if str(f.type).startswith("int") else float for f in fields(Scenario)}


@lru_cache(maxsize=32)
def _device(name: str, changes: tuple[device_numbers.Change, ...]) -> Device:
    device = catalog.load(name)
    for change in changes:
        device = device_numbers.changed(device, change)
    return device


@lru_cache(maxsize=8)
def _weights(
    model: str, codec: str | None, chunk_bytes: int | None, top_k: int | None, device: str
) -> tuple[CodecProfile, Layout]:
    named = None if codec is None else codecs.parse(codec).name
    profile = load_profile(Scenario(device, model, codec=named, chunk_bytes=chunk_bytes, top_k=top_k))
    return profile, lay_out(profile)


def resolved(frame: Frame, j: int = 0) -> Resolved:
    """Scenario ``j`` with everything it names; as ``predict.resolve``, on the device with its numbers changed."""
    scenario = frame.scenario(j)
    if scenario.codec is not None:
        scenario = replace(scenario, codec=codecs.parse(scenario.codec).name)
    device = _device(scenario.device, frame.quantities)
    profile, layout = _weights(scenario.model, scenario.codec, scenario.chunk_bytes, scenario.top_k, scenario.device)
    return complete(scenario, device, profile, layout)


def row_alone(frame: Frame, j: int = 0) -> Column:
    """The numbers of scenario ``j`` by itself. Raises ``SimioError``."""
    one = resolved(frame, j)
    point = evaluate(one, frame.factors_of(j))
    return row_of(point, energy_j_per_token(one, point))


def run(frame: Frame) -> Outcome:
    """All scenarios of ``frame``; those that cannot run have a reason and no numbers."""
    found = Outcome.empty(frame.n)
    try:
        first = resolved(frame)
        for rows in _alike(frame, first):
            part = frame if len(rows) == frame.n else frame.only(rows)
            one = first if rows[0] == 0 else resolved(part)
            found.put(rows, _run_alike(part, one))
    except MissingPackageError:
        raise
    except SimioError as error:
        found.reason[found.reason == None] = error.message  # noqa: E711 - elementwise
        found.numbers[:] = np.nan
    return found


def _alike(frame: Frame, first: Resolved) -> list[NDArray[np.int64]]:
    """Scenarios for which the same is chosen: ``auto`` looks at what fits, and a cache of no bytes is none."""
    kind = np.zeros(frame.n, np.int64)
    if frame.fixed.get("runtime", "auto") == "auto" and "ram_bytes" in frame.varied:
        architecture = first.profile.model.architecture
        needed = first.layout.raw_bytes + kv_cache_bytes(first.scenario, architecture)
        kind += needed + buffer_bytes(first.scenario, architecture) > frame.varied["ram_bytes"]
    if "cache_bytes" in frame.varied:
        kind += 2 * (frame.varied["cache_bytes"] == 0)
    return [np.flatnonzero(kind == one) for one in np.unique(kind)]


def _run_alike(frame: Frame, first: Resolved) -> Outcome:
    """Scenarios of one runtime."""
    scenario = first.scenario
    if is_pinned_kind(scenario, first.layout):
        found = _run_pinned(frame, first)
    elif mixtures.is_kind(scenario, first.layout):
        found = mixtures.run(frame, first)
    else:
        found = _run_by_plan(frame, first)
    found.runtime[found.reason == None] = scenario.runtime  # noqa: E711 - elementwise
    return found


def is_pinned_kind(scenario: Scenario, layout: Layout) -> bool:
    """Whether a completed ``scenario`` is a dense model streamed, without a weight cache and pinned as multiplied."""
    return (
        scenario.runtime == "stream"
        and not layout.n_experts
        and scenario.cache_policy in (None, "none")
        and not scenario.cache_bytes
        and scenario.cache_form in (None, "raw")
    )


def heat_of(frame: Frame, one: Resolved, run_s: Column) -> Factors | None:
    """What heat leaves half-way through runs of ``run_s``; None where the device does not say."""
    if one.device.thermal is None:
        return None
    entry, sustained = (frame.varied.get(name, getattr(one.scenario, name)) for name in HEAT)
    return heated(one.device.thermal, entry, 0.0 if sustained is None else sustained, run_s)


# --- a dense model streamed ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Template:
    """A dense model streamed with nothing pinned, as arrays: see ``loops.run_pinned``."""

    plan: Plan
    flat: Flat
    step_slab: Column
    step_rows: Column
    slab_request: Column
    request_class: Column
    raw_bytes: Column
    link_bytes: Column
    n_chunks: Column
    step_bytes: int  # staging of the largest step
    touched_bytes: int  # weights that a decoded token multiplies
    walked_bytes: float  # those and the KV cache, on average


_templates: dict[tuple[Any, ...], tuple[Layout, _Template]] = {}
_MOST_TEMPLATES = 16


def _template(one: Resolved) -> _Template:
    s = one.scenario
    key = (id(one.layout), s.read_bytes, s.kv_bytes_per_value, s.prompt_tokens, s.batch_tokens, s.n_tokens,
           s.context_tokens)  # fmt: skip
    if key not in _templates:
        if len(_templates) >= _MOST_TEMPLATES:
            del _templates[next(iter(_templates))]
        _templates[key] = one.layout, _make_template(one)  # the layout is kept, so that its id stays its own
    return _templates[key][1]


def _make_template(one: Resolved) -> _Template:
    residency, plan = build.unpinned(one.scenario, one.layout, one.profile.model.architecture)
    flat = Flat.of(plan)
    blocks = one.layout.blocks
    decode = plan.passes[plan.order[-1]]
    requests: list[int] = []
    slab_request = [0]
    for index, step in enumerate(decode.steps):
        n = len(residency.split(index).requests)
        requests += [flat.classes.fetch(f) for f in step.fetches[len(step.fetches) - n :]]
        slab_request.append(len(requests))
    step_slab, step_rows = [], []
    for one_pass in plan.passes:
        all_slabs = len(one_pass.steps) == len(blocks)
        slabs = [i for i, b in enumerate(blocks) if all_slabs or not getattr(b, "is_head", False)]
        for index, step in zip(slabs, one_pass.steps, strict=True):
            n = slab_request[index + 1] - slab_request[index]
            step_slab.append(index)
            step_rows.append(flat.classes.fetch(step.fetches[0]) if len(step.fetches) > n else -1)
    chosen = np.array(requests, np.int64)
    return _Template(
        plan, flat, np.array(step_slab), np.array(step_rows), np.array(slab_request), chosen,
        flat.classes.column("raw_bytes")[chosen], flat.classes.column("link_bytes")[chosen],
        flat.classes.column("n_chunks")[chosen], build.step_staging(one.layout),
        sum(n for step in decode.steps for _, n in step.weight_bytes), walked_bytes(plan),
    )  # fmt: skip


def _column(frame: Frame, one: Resolved, name: str, otherwise: float, kind: type = int) -> Column:
    """A field of every scenario: varied, or of the completed one, or ``otherwise`` where it is open."""
    if name in frame.varied:
        return np.ascontiguousarray(frame.varied[name], kind)
    value = getattr(one.scenario, name)
    return np.full(frame.n, otherwise if value is None else value, kind)


def _run_pinned(frame: Frame, one: Resolved) -> Outcome:
    found, loop, template = Outcome.empty(frame.n), loops.compiled(), _template(one)
    architecture, layout = one.profile.model.architecture, one.layout
    taken = kv_cache_bytes(one.scenario, architecture) + buffer_bytes(one.scenario, architecture)
    ram = _column(frame, one, "ram_bytes", 0)
    prefetch = _column(frame, one, "prefetch_depth", build.PREFETCH_DEPTH)
    shared = np.empty((frame.n, 5))
    loop["share_rows"](
        loop["share_out"], ram - taken, template.step_bytes, prefetch,
        _column(frame, one, "staging_bytes", NOT_ASKED), float(layout.dense_bytes),
        _column(frame, one, "pinned_bytes", NOT_ASKED), _column(frame, one, "pinned_fraction", NOT_ASKED, float),
        shared,
    )  # fmt: skip
    _explain(found, shared)
    runs = np.flatnonzero(shared[:, 0] < 0)
    if not len(runs):
        return found
    staging = shared[runs, 3].astype(np.int64)
    pinned, in_ram = np.empty((len(runs), len(template.raw_bytes)), np.bool_), np.empty(len(runs), np.int64)
    limit = (ram[runs] - taken - staging).astype(float)
    loop["pin_rows"](
        loop["pin"],
        template.raw_bytes,
        template.raw_bytes,
        np.ascontiguousarray(shared[runs, 4]),
        limit,
        pinned,
        in_ram,
    )
    decompresses = ~pinned @ (template.n_chunks > 0) > 0
    numbers, energy_j = np.empty((len(runs), loops.N_SUMMARY)), np.empty(len(runs))
    relative = np.full((len(runs), 2), np.nan)
    draws_here = bool(frame.fixed.get("draws")) and frame.scenario(0).ram_bytes is not None
    for flag in (False, True):
        rows = np.flatnonzero(decompresses == flag)
        if len(rows):
            part = frame.only(runs[rows])
            with_flag = Streamed(template, loop, pinned[rows], staging[rows], prefetch[runs[rows]], flag)
            numbers[rows], energy_j[rows] = run_hot(part, one, with_flag)
            if draws_here:
                relative[rows] = draws.of_streamed(one, with_flag, loop)
    total = int(template.raw_bytes.sum())
    some = Outcome.empty(len(runs))
    fill(some, numbers, energy_j)
    draws.put(some, relative)
    some.set("hit_ratio", 1 - (total - in_ram) / template.touched_bytes if template.touched_bytes else 1.0)
    some.set("peak_ram_bytes", in_ram + staging + taken)
    found.put(runs, some)
    return found


def _explain(found: Outcome, shared: Column) -> None:
    """The reason of every scenario whose RAM does not suffice, in the planner's words."""
    for j in np.flatnonzero(shared[:, 0] >= 0):
        try:
            require(shared[j, 1], shared[j, 2], *DEMANDS[int(shared[j, 0])])
        except InfeasibleError as error:
            found.reason[j] = error.message


def fill(found: Outcome, numbers: Column, energy_j: Column) -> None:
    """From the columns of ``loops.summarise``, and energy per token."""
    found.set("tokens_per_s", numbers[:, loops.TOKENS_PER_S])
    found.set("ttft_s", numbers[:, loops.FIRST_TOKEN] - numbers[:, loops.LOAD])
    found.set("cold_start_s", numbers[:, loops.FIRST_TOKEN])
    found.set("p50_s", numbers[:, loops.P50])
    found.set("p95_s", numbers[:, loops.P95])
    found.set("bytes_per_token", numbers[:, loops.BYTES])
    found.set("bound_lower_s", numbers[:, loops.LOWER])
    found.set("bound_upper_s", numbers[:, loops.UPPER])
    found.set("run_s", numbers[:, loops.RUN])
    found.set("energy_j_per_token", energy_j)


@dataclass(frozen=True, slots=True)
class Streamed:
    """Runs of ``loops.run_pinned`` that wait for their times. ``decompresses``: while tokens are computed."""

    template: _Template
    loop: Mapping[str, Any]
    pinned: Column
    staging: Column
    prefetch: Column
    decompresses: bool

    @property
    def flat(self) -> Flat:
        return self.template.flat

    @property
    def walked_bytes(self) -> float:
        return self.template.walked_bytes

    def plan(self, scenario: Scenario) -> Plan:
        """A plan that meets the rates these runs meet."""
        plan = replace(
            self.template.plan,
            queue_depth=scenario.queue_depth or 1,
            n_workers=scenario.n_workers or 1,
            n_threads=scenario.n_threads or 1,
        )
        return plan if self.decompresses else replace(plan, passes=(), order=())

    def __call__(self, plan: Plan, times: Times) -> Column:
        t, out = self.template, np.empty((len(self.staging), loops.N_SUMMARY))
        classes = t.flat.classes
        self.loop["run_pinned"](
            self.loop["max_plus"], self.loop["settle"], self.loop["summarise"], t.flat.order, t.plan.n_setup,
            t.flat.pass_step, t.step_slab, t.step_rows, t.flat.step_class, t.slab_request, t.request_class,
            classes.column("n_chunks"), classes.column("staging_bytes"), classes.column("link_bytes"), self.pinned,
            self.staging, self.prefetch, plan.queue_depth, plan.n_workers, times.link, times.inflate, times.compute,
            times.latency, recurrence.N_STATES, True, out,
        )  # fmt: skip
        return out


def run_hot(frame: Frame, one: Resolved, runs: Any) -> tuple[Column, Column]:
    """``runs`` at the device's rates, and again as hot as that run makes it half-way; as ``evaluate``.

    Returns the columns of ``loops.summarise`` and energy per token, NaN where the device has no powers.
    """
    plan = runs.plan(one.scenario)
    rates = rates_at(one, plan, Factors(**frame.factors))
    numbers: Column = runs(plan, runs.flat.classes.times(rates, frame.n))
    hot = heat_of(frame, one, numbers[:, loops.RUN])
    if hot is not None:
        rates = rates_at(one, plan, Factors(**frame.factors).times(hot))
        numbers = runs(plan, runs.flat.classes.times(rates, frame.n))
    energy = energy_of(one.device, one.profile.ratio, plan, rates, _token(numbers, runs.walked_bytes))
    return numbers, np.full(frame.n, np.nan) if energy is None else np.asarray(energy)


def _token(numbers: Column, walked: float) -> Token:
    """A decoded token of every scenario, from the columns of ``loops.summarise``."""
    return Token(
        run_s=1 / numbers[:, loops.TOKENS_PER_S],
        computing_s=numbers[:, loops.COMPUTING],
        inflating_s=numbers[:, loops.INFLATING],
        reading_s=numbers[:, loops.READING],
        link_bytes=numbers[:, loops.BYTES],
        walked_bytes=walked,
    )


# --- one plan for all -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Whole:
    """Runs of one plan, see ``loops.run_whole``."""

    planned: Plan
    flat: Flat
    loop: Mapping[str, Any]

    @property
    def walked_bytes(self) -> float:
        """See ``predict.energy``."""
        return walked_bytes(self.planned)

    def plan(self, scenario: Scenario) -> Plan:
        """The plan itself."""
        return self.planned

    def __call__(self, plan: Plan, times: Times) -> Column:
        out = np.empty((len(times.latency), loops.N_SUMMARY))
        flat, classes = self.flat, self.flat.classes
        n_load = sum(plan.passes[p].kind == "load" for p in plan.order)
        self.loop["run_whole"](
            self.loop["max_plus"], self.loop["settle"], self.loop["summarise"], flat.order, plan.n_setup, n_load,
            flat.pass_step, flat.first, flat.last, flat.step_class, flat.router, flat.fetch_class,
            classes.column("n_reads") > 0, classes.column("n_chunks"), classes.column("staging_bytes"),
            classes.column("link_bytes"), plan.staging_bytes, plan.prefetch_depth, plan.queue_depth, plan.n_workers,
            times.link, times.inflate, times.compute, times.latency, recurrence.N_STATES, out,
        )  # fmt: skip
        return out


def _run_by_plan(frame: Frame, first: Resolved) -> Outcome:
    """Scenarios whose plan differs are planned one by one; those that share it run together."""
    found = Outcome.empty(frame.n)
    shaping = {name: column for name, column in frame.varied.items() if name not in HEAT}
    is_resident = first.scenario.runtime == "resident"
    if is_resident and "ram_bytes" in shaping:  # everything is in RAM, or the scenario cannot run
        del shaping["ram_bytes"]
    groups = [np.arange(frame.n)]
    if shaping:
        _, inverse = np.unique(np.column_stack(list(shaping.values())), axis=0, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    for rows in groups:
        first_most = rows
        if is_resident and "ram_bytes" in frame.varied:  # the plan is that of the scenario with most RAM
            first_most = rows[np.argsort(-frame.varied["ram_bytes"][rows], kind="stable")]
        found.put(first_most, _run_together(frame.only(first_most), is_resident))
    return found


def _run_together(frame: Frame, is_resident: bool) -> Outcome:
    found = Outcome.empty(frame.n)
    try:
        if frame.n == 1:
            found.numbers[0] = row_alone(frame)
            return found
        one = resolved(frame)
        plan = plan_of(one)
    except InfeasibleError as error:
        found.reason[:] = error.message
        return found
    fill(found, *run_hot(frame, one, _Whole(plan, Flat.of(plan), loops.compiled())))
    if frame.fixed.get("draws"):
        draws.put(found, draws.of_plan(frame.scenario(0), one, plan))
    found.set("hit_ratio", plan.hit_ratio)
    found.set("peak_ram_bytes", plan.ram.peak)
    if plan.cache_hit_ratio is not None:
        found.set("cache_hit_ratio", plan.cache_hit_ratio)
    if is_resident and "ram_bytes" in frame.varied:
        for j in np.flatnonzero(frame.varied["ram_bytes"] < plan.ram.peak):
            found.put(np.array([j]), _run_together(frame.only(np.array([j])), False))
    return found
