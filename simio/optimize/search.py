"""What a search is asked for, and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from simio.errors import InfeasibleError
from simio.optimize.trying import Trials
from simio.pareto import pareto_front
from simio.records.optimum import Configuration, Goal
from simio.records.scenario import Scenario

#: What differs by less, as a share, is alike: no phone measurement tells it apart.
ALIKE = 1e-3
#: Most points of the front that are kept.
MOST_FRONT = 20


@dataclass(slots=True)
class Search:
    """``base`` is the scenario as asked with its RAM; ``fixed`` are the fields that the user decided."""

    base: Scenario
    goal: Goal
    trials: Trials
    time_limit_s: float
    fixed: frozenset[str]
    tick: Callable[[], None]  # a step is done
    found: list[Configuration] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def nearest(self) -> Configuration:
        """The best of what was found, whether it keeps the limits or not."""
        if not self.found:
            raise InfeasibleError("nothing that was tried can run", "give more RAM, or a smaller model")
        return min(self.found, key=self.goal.order)

    def best(self) -> Configuration:
        """The best of what was found, the simplest of those alike: no plan, few reads.

        Raises ``InfeasibleError`` where nothing keeps the limits.
        """
        best = self.nearest()
        if self.goal.holds(best):
            most = self.goal.value(best) * (1 + ALIKE)
            alike = [one for one in self.found if self.goal.holds(one) and self.goal.value(one) <= most]
            return min(alike, key=lambda one: (one.plan is not None, one.flash_bytes_per_token, *self.goal.order(one)))
        fastest = max(self.found, key=lambda one: one.tokens_per_s)
        joules = [one.energy_j_per_token for one in self.found if one.energy_j_per_token is not None]
        least = f", the least energy {min(joules):.3g} J per token" if joules else ""
        raise InfeasibleError(
            f"nothing that was tried keeps the limits: the fastest is {fastest.tokens_per_s:.3g} tokens/s, "
            f"95th percentile {fastest.p95_s:.3g} s{least}",
            "loosen a limit, or give more RAM",
        )

    def best_stream(self) -> Configuration | None:
        """The best that reads weights itself."""
        return min((one for one in self.found if one.runtime == "stream"), key=self.goal.order, default=None)


def front_of(found: Sequence[Configuration], best: Configuration) -> list[Configuration]:
    """What no other of ``found`` beats in speed, RAM, bytes read, quality and energy, from fast to slow.

    Evenly thinned out; ``best``, which is one of ``found``, stays.
    """
    table = np.array(
        [
            [-one.tokens_per_s, one.ram_bytes, one.flash_bytes_per_token, one.cost, one.energy_j_per_token or 0.0]
            for one in (best, *found)  # of equal ones the first stays
        ]
    )
    alike = np.vectorize(lambda number: float(f"{number:.3g}"))(table)  # what differs by less is one point
    front = [one for one, stays in zip(found, pareto_front(alike)[1:], strict=True) if stays and one != best]
    front.sort(key=lambda one: -one.tokens_per_s)
    kept = np.unique(np.linspace(0, len(front) - 1, min(len(front), MOST_FRONT - 1)).round().astype(int))
    return sorted([best, *(front[i] for i in kept)], key=lambda one: -one.tokens_per_s)
