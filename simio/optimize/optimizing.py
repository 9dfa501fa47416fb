"""The search as a whole: a grid of scenarios, plans, neighbours; then SimPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from simio import catalog, codecs
from simio.errors import UsageError
from simio.optimize.codec_choice import worth_trying
from simio.optimize.grid import best_of, grid
from simio.optimize.neighbours import neighbours
from simio.optimize.placing import PLANNED
from simio.optimize.plans import N_TICKS, add_plans, bound_of, singles
from simio.optimize.runtime_flags import runtime_flags
from simio.optimize.search import Search, front_of
from simio.optimize.stored_choices import table_of_codecs
from simio.optimize.trying import Trials
from simio.predict.resolve import resolve
from simio.records.optimum import Configuration, Goal, Optimum
from simio.records.scenario import Scenario
from simio.study.choices import ChoiceTable

#: Called with (steps done, in all).
Progress = Callable[[int, int], None]


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
    chosen, too, within ``cost_budget``. ``time_limit_s`` is for exchanges after the programs; a program has a quarter.

    Raises ``InfeasibleError`` where nothing keeps the limits, ``UsageError`` for what cannot be chosen, else as
    ``predict`` does.
    """
    goal = goal or Goal()
    whole = Scenario.of(scenario, **fields)
    codec_names = codec_names or ([whole.codec] if whole.codec else [])
    asked = replace(whole, codec=None, draws=0)
    device = catalog.load(asked.device)
    if device.power is None and (goal.minimise == "energy" or goal.most_energy_j < inf):
        raise UsageError(f"{device.name} has no [power] table", "minimise p50, p95 or ram, or add one: docs/energy.md")
    one = resolve(replace(asked, runtime="stream") if asked.runtime == "auto" else asked)
    if one.layout.residency:
        raise UsageError(f"{asked.model} is a plan: where its tensors lie is decided", "give the model it was made of")
    trials, ticks = Trials(device), _Ticks(progress)
    search = Search(asked, goal, trials, time_limit_s, frozenset(asked.to_json()), ticks.tick)
    takes_plans = not one.layout.n_experts and one.scenario.runtime == "stream" and asked.prefetch_depth != 0
    takes_plans = takes_plans and search.fixed.isdisjoint(PLANNED)
    if choices and not takes_plans:
        raise UsageError(
            "quantizers are chosen for plans of a dense stream, which decide what is pinned, cached and read ahead",
            "leave out --pin, --cache, --hold, --prefetch 0 and --runtime",
        )
    names = ["raw"] if choices else worth_trying(search, one, codec_names)
    studies = grid(asked, one, names)
    ticks.total = len(studies) + N_TICKS + 2
    usual = trials.of(asked)
    search.found += [usual] if usual else []
    search.found += best_of(studies, goal, trials, search.tick)
    table = None
    if takes_plans:
        table = _offered(choices, codec_names) if choices else table_of_codecs(asked, names, trials)
        add_plans(search, table, cost_budget, one.scenario.ram_bytes or 0)
    else:
        for start in dict.fromkeys(filter(None, (search.nearest(), search.best_stream()))):
            search.found += neighbours(start, goal, trials, search.fixed)
    best = search.best()
    front = front_of([found for found in search.found if goal.holds(found)], best)
    search.tick()
    unpinned = [found for found in search.found if _holds_nothing(found)]
    unpinned += singles(search, table, cost_budget) if table else []
    difference = max(trials.confirm(found, full_check and found is best) for found in (best, *front))
    ticks.finish()
    return Optimum(
        model=one.profile.model.name, device=device.id, goal=goal, best=best, front=tuple(front),
        baseline=min(unpinned, key=goal.order, default=None), usual=usual,
        bound_s=bound_of(search, best, table, cost_budget) if table else None, n_evaluated=trials.n,
        sim_difference=difference, interval=trials.interval(best, whole.draws),
        runtime_flags=runtime_flags(best, one.profile.model), notes=tuple(search.notes),
    )  # fmt: skip


def _offered(choices: ChoiceTable, codec_names: Sequence[str]) -> ChoiceTable:
    """``choices`` with the codecs asked for only; all where none are."""
    if not codec_names:
        return choices
    names = {codecs.parse(name).name for name in codec_names}
    unknown = sorted(names - {codec for _, codec in choices.labels})
    if unknown:
        known = ", ".join(sorted({codec for _, codec in choices.labels}))
        raise UsageError(f"the study has no codec {unknown[0]}", f"it has {known}")
    kept = (
        replace(choice, options=tuple(option for option in choice.options if option.codec in names))
        for choice in choices.choices
    )
    return replace(choices, choices=tuple(kept))


def _holds_nothing(one: Configuration) -> bool:
    """Whether it is streamed with nothing pinned and nothing cached."""
    return one.runtime == "stream" and (
        0 in (one.scenario.pinned_bytes, one.scenario.pinned_fraction) or one.scenario.cache_policy == "none"
    )


class _Ticks:
    """Steps that are done."""

    def __init__(self, report: Progress | None) -> None:
        self._report, self._done, self.total = report, 0, 1
        self._show()

    def tick(self) -> None:
        self._done = min(self._done + 1, self.total)
        self._show()

    def finish(self) -> None:
        self._done = self.total
        self._show()

    def _show(self) -> None:
        if self._report is not None:
            self._report(self._done, self.total)
