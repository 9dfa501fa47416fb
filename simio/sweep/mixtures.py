"""Mixtures streamed slice by slice (``plan/expert_streaming.py``), for many sizes of RAM and cache at once.

What a run with another cache does differently is which experts it misses, and that follows from the stack distance of
every lookup, which one pass over the routing gives for all sizes (``cache/stack_distance.py``). Steps are those of the
planner, one table row for each number of experts missing; the rest is ``loops.run_mixture``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simio.analytic import recurrence
from simio.cache.none import NoCache
from simio.cache.stack_distance import distances
from simio.errors import InfeasibleError, SimioError
from simio.plan import expert_streaming
from simio.plan.build import routing_of
from simio.plan.expert_store import IN_AND_OUT, Store
from simio.plan.expert_streaming import Need, Shares, Walker, divide, references
from simio.plan.layout import ExpertLayer, Layout, Slab
from simio.plan.memory import System
from simio.plan.passes import Passes
from simio.plan.routing import union
from simio.predict.resolve import Resolved
from simio.records.plan import Care, Fetch, Plan, RamUse, Step
from simio.records.scenario import Scenario
from simio.sweep import loops
from simio.sweep.outcome import Outcome
from simio.sweep.tables import Classes, Times
from simio.units import MIB

if TYPE_CHECKING:
    from simio.sweep.frames import Frame

Column = NDArray[Any]


def is_kind(scenario: Scenario, layout: Layout) -> bool:
    """Whether a completed ``scenario`` streams slices through an LRU cache or none, and reads nothing on a guess."""
    s = scenario
    return (
        s.runtime == "stream"
        and s.dense_weights is not None
        and s.cache_policy in ("lru", "none")
        and not (s.drop_cold or s.expert_prefetch or s.speculative_gate)
    )


@dataclass(slots=True)
class _Pool:
    """Ranges of fetches that steps share: n equal fetches are the first n of a long run of them."""

    classes: Classes
    _places: dict[tuple[int, ...], int] = field(default_factory=dict)
    _wanted: list[tuple[int, ...]] = field(default_factory=list)

    def place(self, fetches: tuple[Fetch, ...]) -> int:
        """The number of the range that ``fetches`` will have."""
        key = tuple(self.classes.fetch(f) for f in fetches)
        if key not in self._places:
            self._places[key] = len(self._wanted)
            self._wanted.append(key)
        return self._places[key]

    def laid_out(self) -> tuple[Column, Column, Column]:
        """First and last fetch of every range, and the classes of all fetches."""
        longest: dict[int, int] = {}
        for key in self._wanted:
            if len(set(key)) == 1:
                longest[key[0]] = max(longest.get(key[0], 0), len(key))
        pool: list[int] = []
        begin = {}
        for c, n in longest.items():
            begin[c] = len(pool)
            pool += [c] * n
        first, last = [], []
        for key in self._wanted:
            if len(set(key)) <= 1:
                start = begin[key[0]] if key else 0
            else:
                start = len(pool)
                pool += key
            first.append(start)
            last.append(start + len(key))
        return np.array(first), np.array(last), np.array(pool)


@dataclass(frozen=True, slots=True)
class _Template:
    """The passes of a run as entries, and the tables of its expert layers: see ``loops.run_mixture``."""

    classes: Classes
    n_setup: int
    pass_entry: Column
    entry_step: Column
    entry_kind: Column
    entry_visit: Column
    entry_place: Column
    kind_first: Column
    row_step: Column
    row_router: Column
    row_care: Column
    row_place: Column
    place_first: Column
    place_last: Column
    fetch_class: Column
    distances: Column
    visit_first: Column
    visit_bytes: Column  # of one expert of the layer visited
    n_layers: int  # visits of each pass after loading
    swap_step: int  # class of a MiB through swap
    first_decoded: int  # visit
    touched_bytes: int  # weights that decoded tokens multiply
    walked_bytes: float  # those and the KV cache, of a decoded token on average
    largest: int  # bytes of one expert


_templates: dict[tuple[Any, ...], tuple[Resolved, _Template]] = {}
_MOST_TEMPLATES = 4


def _template(one: Resolved) -> _Template:
    open_ = replace(one.scenario, device="", ram_bytes=None, cache_bytes=None, entry_temperature_c=None,
                    sustained_s=None, n_workers=None, n_threads=None, available_bytes=None)  # fmt: skip
    key = (id(one.layout), id(one.trace), open_)
    if key not in _templates:
        if len(_templates) >= _MOST_TEMPLATES:
            del _templates[next(iter(_templates))]
        _templates[key] = one, _Maker(one).template()  # what the key names is kept, so that ids stay their own
    return _templates[key][1]


#: The class of the step before the reads; of each step its class, router and place.
_Row = tuple[int, list[tuple[int, int, int]]]


class _Maker:
    """Walks once through a run and notes what differs between caches."""

    def __init__(self, one: Resolved) -> None:
        s = one.scenario
        self.one, self.scenario, self.layout = one, s, one.layout
        self.classes = Classes()
        self.pool = _Pool(self.classes)
        passes = Passes(one.layout, one.profile.model.architecture, s.kv_bytes_per_value, s.top_k or 0)
        self.routing = routing_of(s, one.layout, one.trace)
        self.walker = Walker(
            s, one.layout, passes, Store(NoCache(), None), 0.0, bool(s.expert_overlap), self.routing, one.trace
        )
        self.entries: list[tuple[int, int, int, int]] = []  # step class, kind, visit, place
        self.pass_entry = [0]
        self.visit_first, self.visit_bytes = [0], list[int]()
        self.kinds: dict[tuple[Any, ...], tuple[int, int, int]] = {}
        self.kind_first: list[int] = []
        self.rows: list[_Row] = []
        self.touched, self.kv_bytes = 0, 0.0

    def template(self) -> _Template:
        """All of it."""
        s = self.scenario
        dense = self.layout.dense_bytes + self.layout.looked_up_bytes
        load = Step(0, "load", (), 0.0, (), 0, 0, (expert_streaming.load_of(s, dense),))
        self._fixed(load)
        self.pass_entry.append(len(self.entries))
        for first in range(0, s.prompt_tokens, s.batch_tokens):
            n = min(s.batch_tokens, s.prompt_tokens - first)
            self._walk("prefill", first, n, union(self.routing[first : first + n]), first + n == s.prompt_tokens)
        n_setup, first_decoded, self.touched, self.kv_bytes = len(self.pass_entry) - 1, len(self.visit_bytes), 0, 0.0
        for position in range(s.prompt_tokens, s.prompt_tokens + s.n_tokens - 1):
            self._walk("decode", position, 1, self.routing[position], True)
        looked_up = list(references(s, self.layout, self.routing))
        number: dict[tuple[int, int], int] = {}
        keys = np.array([number.setdefault(key, len(number)) for key, _ in looked_up], np.int64)
        sizes = np.array([n for _, n in looked_up], np.int64)
        place_first, place_last, fetch_class = self.pool.laid_out()
        step, kind, visit, place = (np.array(column, np.int64) for column in zip(*self.entries, strict=True))
        groups = np.array([groups for _, groups in self.rows], np.int64)
        n_layers = len(self.visit_bytes) // (len(self.pass_entry) - 2)  # all passes but loading visit all layers
        swap = Step(0, "", (), 0.0, (), 0, 0, (), Care(swap_bytes=MIB))
        walked = (self.touched + self.kv_bytes) / (len(self.pass_entry) - 1 - n_setup)
        return _Template(
            self.classes, n_setup, np.array(self.pass_entry), step, kind, visit, place, np.array(self.kind_first),
            np.ascontiguousarray(groups[:, :, 0]), np.ascontiguousarray(groups[:, :, 1]),
            np.array([care for care, _ in self.rows]), np.ascontiguousarray(groups[:, :, 2]), place_first, place_last,
            fetch_class, distances(keys, sizes), np.array(self.visit_first), np.array(self.visit_bytes), n_layers,
            self.classes.step(swap), first_decoded, self.touched, walked, int(sizes.max()),
        )  # fmt: skip

    def _fixed(self, step: Step) -> None:
        self.entries.append((self.classes.step(step), -1, 0, self.pool.place(step.fetches)))
        self.touched += sum(n for _, n in step.weight_bytes)
        self.kv_bytes += step.kv_bytes

    def _walk(self, kind: str, position: int, n_tokens: int, routing: list[tuple[int, ...]], wants: bool) -> None:
        dense = self.walker.passes.dense_steps(kind, position, n_tokens, wants)
        chosen = iter(routing)
        n_before = 0
        for index, block in enumerate(self.layout.blocks):
            if isinstance(block, Slab):
                if index in dense:
                    self._fixed(dense[index])
                    n_before += 1
                continue
            n_experts = len(next(chosen))
            number, n_steps, touched = self._kind(block, n_experts, n_tokens if kind == "prefill" else 0, n_before)
            self.entries.append((0, number, len(self.visit_bytes), 0))
            self.visit_first.append(self.visit_first[-1] + n_experts)
            self.visit_bytes.append(block.raw_bytes)
            self.touched += touched
            n_before += n_steps
        self.pass_entry.append(len(self.entries))

    def _kind(self, layer: ExpertLayer, n_experts: int, n_tokens: int, n_before: int) -> tuple[int, int, int]:
        """The tables of a visit, by how many of ``n_experts`` are missing: (number, steps, weight bytes)."""
        key = (layer.chunks, layer.weight_bytes, layer.weights, tuple(expert_streaming.projections(layer)), n_experts,
               n_tokens, n_before > 0)  # fmt: skip
        if key not in self.kinds:
            first, caches = len(self.rows), self.scenario.cache_policy != "none"
            for m in range(n_experts + 1):
                need = Need(n_experts, m, m * layer.raw_bytes if caches else 0)
                steps = self.walker.expert_steps(layer, need, n_tokens, n_before)
                self.rows.append(self._row(steps))
            touched = sum(n for step in steps for _, n in step.weight_bytes)
            self.kinds[key] = len(self.kind_first), len(steps), touched
            self.kind_first.append(first)
        return self.kinds[key]

    def _row(self, steps: tuple[Step, ...]) -> _Row:
        """Of a visit with some number of experts missing: its ``steps``."""
        care, *groups = steps
        of_groups = [(self.classes.step(g), g.router_back, self.pool.place(g.fetches)) for g in groups]
        return self.classes.step(care), of_groups


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Runs of ``loops.run_mixture`` that wait for their times."""

    template: _Template
    layout: Layout
    loop: Mapping[str, Any]
    missing: Column
    swap_mib: Column  # run by pass

    @property
    def flat(self) -> _Template:
        """What has the classes to be timed."""
        return self.template

    @property
    def walked_bytes(self) -> float:
        """See ``predict.energy``."""
        return self.template.walked_bytes

    def plan(self, scenario: Scenario) -> Plan:
        """A plan that meets the rates these runs meet."""
        return Plan(
            "stream", (), (), expert_streaming.prefetch_depth(self.layout), 0, scenario.queue_depth or 1,
            scenario.n_workers or 1, scenario.n_threads or 1,
            expert_streaming.request_bytes(scenario, self.layout), RamUse(0, 0, 0, 0, 0),
            in_order=False,
            n_together=expert_streaming.n_together(scenario, self.layout),
            fresh_bytes=expert_streaming.fresh_bytes(scenario, self.layout),
        )  # fmt: skip

    def __call__(self, plan: Plan, times: Times) -> Column:
        t, out = self.template, np.empty((len(times.latency), loops.N_SUMMARY))
        self.loop["run_mixture"](
            self.loop["max_plus"], self.loop["settle"], self.loop["summarise"], t.n_setup, t.pass_entry, t.entry_step,
            t.entry_kind, t.entry_visit, t.entry_place, t.kind_first, t.row_step, t.row_router, t.row_care,
            t.row_place, t.row_step.shape[1], t.place_first, t.place_last, t.fetch_class,
            t.classes.column("link_bytes"), self.missing, t.swap_step, self.swap_mib, plan.prefetch_depth,
            plan.queue_depth, plan.n_workers, times.link, times.compute, times.latency, recurrence.N_STATES, out,
        )  # fmt: skip
        return out


def run(frame: Frame, one: Resolved) -> Outcome:
    """All scenarios of ``frame``. Those in which not even the dense weights fit are evaluated one by one."""
    from simio.sweep import frames

    found, loop, template = Outcome.empty(frame.n), loops.compiled(), _template(one)
    shares = _shares(frame, one, found)
    has_cache = one.scenario.cache_policy != "none"
    easy = np.array([s is not None and _is_easy(s, template.largest) for s in shares])
    for j in np.flatnonzero([s is not None for s in shares] & ~easy).tolist():
        try:
            found.numbers[j] = frames.row_alone(frame, j)
        except SimioError as error:
            found.reason[j] = error.message
    runs = np.flatnonzero(easy)
    if not len(runs):
        return found
    chosen = [s for s, is_easy in zip(shares, easy, strict=True) if s is not None and is_easy]
    capacity = np.array([s.cache if has_cache else -1 for s in chosen], np.int64)
    room = np.array([s.in_ram if s.in_ram < s.cache else -1 for s in chosen], np.int64)
    n_visits = len(template.visit_bytes)
    missing, swapped = np.empty((len(runs), n_visits), np.int16), np.empty((len(runs), n_visits), np.int16)
    loop["count_missing"](template.distances, template.visit_first, capacity, room, missing, swapped)
    runner = _Mixture(template, one.layout, loop, missing, _swap_mib(template, swapped))
    some = Outcome.empty(len(runs))
    frames.fill(some, *frames.run_hot(frame.only(runs), one, runner))
    decoded = slice(template.first_decoded, None)
    missed = missing[:, decoded] @ template.visit_bytes[decoded]
    n_lookups = template.visit_first[-1] - template.visit_first[template.first_decoded]
    hits = n_lookups - missing[:, decoded].sum(axis=1, dtype=np.int64)
    some.set("hit_ratio", 1 - missed / template.touched_bytes)
    some.set("cache_hit_ratio", np.where(capacity > 0, hits / n_lookups, np.nan))
    some.set("peak_ram_bytes", np.array([_peak(s, j) for s, j in zip(chosen, _budgets(frame, one)[runs], strict=True)]))
    found.put(runs, some)
    return found


def _swap_mib(template: _Template, swapped: Column) -> Column:
    """MiB that go through swap, run by pass, from the numbers of experts swapped, run by visit."""
    by_pass = swapped.reshape(len(swapped), -1, template.n_layers)
    expert_mib = template.visit_bytes.reshape(-1, template.n_layers) * (IN_AND_OUT / MIB)
    loading = np.zeros((len(swapped), 1))
    return np.hstack([loading, np.einsum("jpl,pl->jp", by_pass, expert_mib)])


def _budgets(frame: Frame, one: Resolved) -> Column:
    return np.broadcast_to(np.asarray(frame.varied.get("ram_bytes", one.scenario.ram_bytes)), frame.n)


def _shares(frame: Frame, one: Resolved, found: Outcome) -> list[Shares | None]:
    """How each scenario divides its RAM; a reason where it cannot."""
    system = System.of(one.device)
    names = [n for n in ("ram_bytes", "cache_bytes") if n in frame.varied]
    columns = [frame.varied[n].tolist() for n in names]
    shares: list[Shares | None] = []
    for j in range(frame.n):
        fields: dict[str, Any] = {n: int(c[j]) for n, c in zip(names, columns, strict=True)}
        scenario = replace(one.scenario, **fields)
        try:
            shares.append(divide(scenario, one.layout, one.profile.model.architecture, system))
        except InfeasibleError as error:
            found.reason[j] = error.message
            shares.append(None)
    return shares


def _is_easy(shares: Shares, largest: int) -> bool:
    """Dense weights fit, and caches hold nothing or at least one expert of any layer: else ``Lru`` is not its curve."""
    sizes = [shares.cache, shares.in_ram]
    return shares.room >= 0 and all(size == 0 or size >= largest for size in sizes)


def _peak(shares: Shares, budget: int) -> float:
    held = min(shares.dense + shares.cache, budget - shares.kv_cache - shares.buffers)
    return float(held + shares.kv_cache + shares.buffers)
