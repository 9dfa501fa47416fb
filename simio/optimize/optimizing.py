"""The search as a whole: a grid of scenarios, programs for what lies where, exchanges, neighbours; then SimPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from simio import catalog, codecs
from simio.errors import InfeasibleError, UsageError
from simio.optimize.grid import best_of, grid
from simio.optimize.neighbours import neighbours
from simio.optimize.placing import PLANNED, Placed, best_placement, everywhere, exchanged
from simio.optimize.runtime_flags import runtime_flags
from simio.optimize.stored_choices import table_of_codecs
from simio.optimize.trying import Trials
from simio.pareto import pareto_front
from simio.predict.resolve import Resolved, resolve
from simio.records.optimum import Configuration, Goal, Optimum
from simio.records.scenario import Scenario
from simio.service_times import base_codec
from simio.study.choices import ChoiceTable

#: Codecs that are tried where none are named, as far as the device has a rate for them.
DEFAULT_CODECS = ("raw", "zstd:1", "lz4:1", "fields(zstd:1)", "byteplane(zstd:1)")
#: Less than so much saved on flash is not worth a codec.
LEAST_RATIO = 1.01
#: Settings (threads, workers, prefetch, reads in flight) in which placements are solved.
N_SETTINGS = 2
#: Shares of the RAM budget for which a plan is made, beside all of it: the front.
RAM_SHARES = (0.25, 0.5, 0.75)
#: Time for the programs of such a plan. [s]
QUICK_S = 1.0
#: Halvings of the interval in which the least RAM lies.
N_BISECTIONS = 7
#: Most points of the front that are kept.
MOST_FRONT = 20

#: Called with (steps done, in all).
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Search:
    """What is asked for, and what was found so far."""

    base: Scenario
    goal: Goal
    trials: Trials
    time_limit_s: float
    fixed: frozenset[str]  # fields that the user decided
    found: list[Configuration] = field(default_factory=list)
    bound_s: float | None = None
    notes: list[str] = field(default_factory=list)

    def best(self) -> Configuration:
        """Of what was found. Raises ``InfeasibleError`` where nothing keeps the limits."""
        if not self.found:
            raise InfeasibleError("nothing that was tried can run", "give more RAM, or a smaller model")
        best = min(self.found, key=self.goal.order)
        if not self.goal.holds(best):
            raise InfeasibleError(_closest(self.goal, self.found), "loosen a limit, or give more RAM")
        return best


def optimize(
    scenario: Scenario | None = None,
    /,
    *,
    goal: Goal | None = None,
    codec_names: Sequence[str] = (),
    choices: ChoiceTable | None = None,
    cost_budget: float = inf,
    time_limit_s: float = 20.0,
    full_check: bool = False,
    progress: Progress | None = None,
    **fields: object,
) -> Optimum:
    """The best way to run a model on a device that is found.

    What ``scenario`` (or ``fields``) says is kept, the rest is chosen: runtime, codec and place of every tensor out of
    ``codec_names``, cache, prefetch, threads, workers. With ``choices`` (of a compressibility study) quantizers are
    chosen, too, within ``cost_budget``. ``time_limit_s`` is for exchanges after the programs, and for each program.

    Raises ``InfeasibleError`` where nothing keeps the limits, ``UsageError`` for what cannot be chosen, else as
    ``predict`` does.
    """
    goal = goal or Goal()
    asked = replace(Scenario.of(scenario, **fields), draws=0)
    device = catalog.load(asked.device)
    if device.power is None and (goal.minimise == "energy" or goal.most_energy_j < inf):
        raise UsageError(f"{device.name} has no [power] table", "minimise p50, p95 or ram, or add one: docs/energy.md")
    trials = Trials(device)
    one = resolve(asked)
    base = replace(asked, ram_bytes=one.scenario.ram_bytes, codec=None) if choices is None else asked
    fixed = frozenset(name for name, value in asked.to_json().items() if value is not None)
    search = _Search(base, goal, trials, time_limit_s, fixed)
    names = _codecs(search, one, codec_names)
    plan = grid(base, one, names)
    ticks = _Ticks(progress, len(plan.studies) + N_SETTINGS + len(RAM_SHARES) + 3)
    search.found += best_of(plan, goal, trials, ticks.tick)
    baseline = _unpinned(search.found, goal)
    if one.layout.n_experts:
        for start in _starts(search):
            search.found += neighbours(start, goal, trials, fixed)
    elif fixed.isdisjoint(PLANNED) and asked.runtime in ("auto", "stream"):
        table = choices or table_of_codecs(base, names, trials)
        baseline = _solve(search, table, cost_budget, baseline, ticks)
    else:
        search.found += neighbours(search.best(), goal, trials, fixed)
    ticks.tick()
    best = search.best()
    drawn = trials.interval(best, Scenario.of(scenario, **fields).draws)
    difference = trials.confirm(best, full_check)
    front = _front(search.found)
    for other in front:
        difference = max(difference, trials.confirm(other, False))
    ticks.finish()
    return Optimum(
        model=one.profile.model.name, device=device.id, goal=goal, best=best, front=tuple(front), baseline=baseline,
        usual=trials.of(asked), bound_s=search.bound_s, n_evaluated=trials.n, sim_difference=difference, interval=drawn,
        runtime_flags=runtime_flags(best, one.profile.model), notes=tuple(search.notes),
    )  # fmt: skip


def _codecs(search: _Search, one: Resolved, names: Sequence[str]) -> list[str]:
    """The codecs worth trying: those asked for, or those that the device can and the weights let shrink."""
    if one.layout.n_experts:
        return ["raw"]  # slices of experts are read as they are stored
    asked = [codecs.parse(name).name for name in names or DEFAULT_CODECS]
    found = ["raw"] if "raw" in asked or not names else []
    for name in dict.fromkeys(asked):
        if name == "raw":
            continue
        if base_codec(name) not in one.device.cpu.decompress:
            if names:
                search.notes.append(f"{one.device.name} has no decompression rate for {name}: not tried")
            continue
        ratio = search.trials.profile(replace(search.base, codec=name))[0].ratio
        if ratio < LEAST_RATIO:
            search.notes.append(f"{name} makes these weights {ratio:.3f} times smaller: not tried")
        elif not any(abs(ratio - known) < 1e-9 for known in _ratios(search, found, name)):
            found.append(name)
    if not found:
        raise UsageError(f"no codec of {', '.join(names)} can be tried: {'; '.join(search.notes)}", "offer raw, too")
    return found


def _ratios(search: _Search, names: Sequence[str], like: str) -> Iterator[float]:
    """Ratios of the codecs ``names`` that rest on the same one as ``like``: filters may change nothing."""
    for name in names:
        if base_codec(name) == base_codec(like):
            yield search.trials.profile(replace(search.base, codec=name))[0].ratio


def _solve(
    search: _Search, table: ChoiceTable, cost_budget: float, baseline: Configuration | None, ticks: _Ticks
) -> Configuration | None:
    """Add plans to what was found; the best of ``baseline`` and of single choices read from flash comes back."""
    settings = _settings(search)
    best: tuple[Placed, float] | None = None
    for scenario in settings:
        placed, bound = _placed(search, table, scenario, cost_budget, search.time_limit_s / 4)
        if cost_budget < inf:
            singles = everywhere(table, scenario, cost_budget, search.trials)
            baseline = min((*singles, *([baseline] if baseline else [])), key=search.goal.order, default=None)
        for one_placed in placed:
            if best is None or search.goal.order(one_placed.found) < search.goal.order(best[0].found):
                best = one_placed, bound
        ticks.tick()
    budget = search.base.ram_bytes or 0
    for share in RAM_SHARES:
        _placed(search, table, replace(settings[0], ram_bytes=round(budget * share)), cost_budget, QUICK_S)
        ticks.tick()
    if best is None:
        return baseline
    if search.goal.minimise == "ram":
        best = _least_ram(search, table, settings[0], cost_budget) or best
    search.found.append(exchanged(best[0], search.goal, search.time_limit_s))
    search.found += neighbours(search.best(), search.goal, search.trials, search.fixed)
    is_latency = search.goal.minimise in ("p50", "p95")
    search.bound_s = best[1] if is_latency and search.best().plan is not None else None
    ticks.tick()
    return baseline


def _starts(search: _Search) -> list[Configuration]:
    """The best, and the best that is streamed: a mapped one is nobody's neighbour."""
    best = search.best()
    streams = [one for one in search.found if one.runtime == "stream"]
    return list(dict.fromkeys([best, *([min(streams, key=search.goal.order)] if streams else [])]))


def _settings(search: _Search) -> list[Scenario]:
    """The best streams that differ in threads, workers, prefetch or reads in flight."""
    found: dict[tuple[int | None, ...], Scenario] = {}
    for one in sorted(search.found, key=search.goal.order):
        s = one.scenario
        if one.runtime == "stream":
            found.setdefault((s.n_threads, s.n_workers, s.prefetch_depth, s.queue_depth), s)
    with_all = [replace(s, ram_bytes=search.base.ram_bytes) for s in found.values()]
    return with_all[:N_SETTINGS] or [replace(search.base, runtime="stream")]


def _placed(
    search: _Search, table: ChoiceTable, scenario: Scenario, cost_budget: float, time_limit_s: float
) -> tuple[list[Placed], float]:
    """Solutions, which are kept as found, and their bound."""
    solved, bound = best_placement(table, scenario, cost_budget, search.goal, search.trials, time_limit_s)
    search.found += [one.found for one in solved]
    return solved, bound


def _least_ram(
    search: _Search, table: ChoiceTable, scenario: Scenario, cost_budget: float
) -> tuple[Placed, float] | None:
    """The plan with the least RAM that keeps the limits: the RAM budget is halved towards it."""
    low, high = 0, search.base.ram_bytes or 0
    best: tuple[Placed, float] | None = None
    for _ in range(N_BISECTIONS):
        middle = (low + high) // 2
        placed, bound = _placed(search, table, replace(scenario, ram_bytes=middle), cost_budget, QUICK_S)
        keeping = [one for one in placed if search.goal.holds(one.found)]
        if keeping:
            best, high = (min(keeping, key=lambda one: search.goal.order(one.found)), bound), middle
        else:
            low = middle
    return best


def _unpinned(found: Sequence[Configuration], goal: Goal) -> Configuration | None:
    """The best stream with nothing pinned and nothing cached."""
    return min((one for one in found if _holds_nothing(one)), key=goal.order, default=None)


def _holds_nothing(one: Configuration) -> bool:
    return one.runtime == "stream" and (one.scenario.pinned_bytes == 0 or one.scenario.cache_policy == "none")


def _front(found: Sequence[Configuration]) -> list[Configuration]:
    """What no other beats in speed, RAM, bytes read, quality and energy, from fast to slow; evenly thinned out."""
    table = np.array(
        [
            [-one.tokens_per_s, one.ram_bytes, one.flash_bytes_per_token, one.cost, one.energy_j_per_token or 0.0]
            for one in found
        ]
    )
    alike = np.vectorize(lambda number: float(f"{number:.3g}"))(table)  # what differs by less is one point
    front = [one for one, stays in zip(found, pareto_front(alike), strict=True) if stays]
    front.sort(key=lambda one: -one.tokens_per_s)
    kept = np.unique(np.linspace(0, len(front) - 1, min(len(front), MOST_FRONT)).round().astype(int))
    return [front[i] for i in kept]


def _closest(goal: Goal, found: Sequence[Configuration]) -> str:
    fastest = max(found, key=lambda one: one.tokens_per_s)
    return (
        f"nothing that was tried keeps the limits: the fastest is {fastest.tokens_per_s:.3g} tokens/s, "
        f"95th percentile {fastest.p95_s:.3g} s"
    )


class _Ticks:
    """Steps that are done."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def tick(self) -> None:
        self._done = min(self._done + 1, self._total)
        self._show()

    def finish(self) -> None:
        self._done = self._total
        self._show()

    def _show(self) -> None:
        if self._report is not None:
            self._report(self._done, self._total)
