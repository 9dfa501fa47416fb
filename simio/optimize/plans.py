"""Plans of where every tensor of a dense model lies, in the best settings that the grid found."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from simio.optimize.neighbours import neighbours
from simio.optimize.placing import Placed, everywhere, exchanged, least_token_s, placements
from simio.optimize.search import Search
from simio.records.optimum import Configuration
from simio.records.scenario import Scenario
from simio.study.choices import ChoiceTable

#: Settings (threads, workers, prefetch, reads in flight) in which placements are solved.
N_SETTINGS = 2
#: Shares of the RAM budget for which a plan is made, beside all of it: the front.
RAM_SHARES = (0.25, 0.5, 0.75)
#: Time for the programs of such a plan. [s]
QUICK_S = 1.0
#: Halvings of the interval in which the least RAM lies.
N_BISECTIONS = 7
#: Calls of ``search.tick``.
N_TICKS = N_SETTINGS + len(RAM_SHARES) + 1


def add_plans(search: Search, table: ChoiceTable, cost_budget: float, budget: int) -> None:
    """Add solutions, what exchanges make of the best of them, and its neighbours to ``search.found``.

    ``budget``: what a stream has of RAM. [bytes]
    """
    settings = _settings(search)
    placed = []
    for scenario in settings:
        placed += _placed(search, table, scenario, cost_budget, search.time_limit_s / 4)
        search.tick()
    for share in RAM_SHARES:
        less = replace(settings[0], ram_bytes=round(budget * share), available_bytes=None)
        _placed(search, table, less, cost_budget, QUICK_S)
        search.tick()
    if search.goal.minimise == "ram":
        placed += _least_ram(search, table, settings[0], cost_budget, budget)
    if placed:
        start = min(placed, key=lambda one: search.goal.order(one.found))
        search.found.append(exchanged(start, search.goal, search.time_limit_s))
    search.found += neighbours(search.nearest(), search.goal, search.trials, search.fixed)
    search.tick()


def singles(search: Search, table: ChoiceTable, cost_budget: float) -> list[Configuration]:
    """One quantizer and codec for all tensors within the quality budget, all read for every token."""
    if cost_budget == inf:
        return []
    return [one for s in _settings(search) for one in everywhere(table, s, cost_budget, search.trials)]


def bound_of(search: Search, best: Configuration, table: ChoiceTable, cost_budget: float) -> float | None:
    """What no placement in the settings of ``best`` can be below; None where no latency was minimised by a plan."""
    if best.plan is None or search.goal.minimise not in ("p50", "p95"):
        return None
    return least_token_s(table, best.scenario, cost_budget, search.trials, search.time_limit_s)


def _settings(search: Search) -> list[Scenario]:
    """The best streams that differ in threads, workers, prefetch or reads in flight."""
    found: dict[tuple[int | None, ...], Scenario] = {}
    for one in sorted(search.found, key=search.goal.order):
        s = one.scenario
        if one.runtime == "stream" and one.plan is None:
            found.setdefault((s.n_threads, s.n_workers, s.prefetch_depth, s.queue_depth), s)
    ram, available = search.base.ram_bytes, search.base.available_bytes
    with_all = [replace(s, ram_bytes=ram, available_bytes=available) for s in found.values()]
    return with_all[:N_SETTINGS] or [replace(search.base, runtime="stream")]


def _placed(
    search: Search, table: ChoiceTable, scenario: Scenario, cost_budget: float, time_limit_s: float
) -> list[Placed]:
    """Solutions, which are kept as found."""
    solved = placements(table, scenario, cost_budget, search.goal, search.trials, time_limit_s)
    search.found += [one.found for one in solved]
    return solved


def _least_ram(search: Search, table: ChoiceTable, scenario: Scenario, cost_budget: float, budget: int) -> list[Placed]:
    """Plans that keep the limits with less and less RAM: the budget is halved towards the least."""
    low, high = 0, budget
    found = []
    for _ in range(N_BISECTIONS):
        middle = (low + high) // 2
        placed = _placed(search, table, replace(scenario, ram_bytes=middle, available_bytes=None), cost_budget, QUICK_S)
        keeping = [one for one in placed if search.goal.holds(one.found)]
        found += keeping
        low, high = (low, middle) if keeping else (middle, high)
    return found
