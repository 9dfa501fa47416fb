"""Service times of the distinct steps and fetches of a plan, for many scenarios at once: one row for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simio.records.plan import Fetch, Plan, Step
from simio.service_times import Rates, Seconds, compute_s, decompress_s, link_s

Row = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(slots=True)
class Classes:
    """Steps and fetches that cost the same are one class; classes are numbered as they come."""

    steps: dict[Step, int] = field(default_factory=dict)
    fetches: dict[Fetch, int] = field(default_factory=dict)
    _known: dict[int, int] = field(default_factory=dict)  # by identity: plans repeat few objects, hashing is slow

    def step(self, step: Step) -> int:
        """The number of what ``step`` computes."""
        bare = replace(step, layer=0, label="", router_back=0, fetches=())
        return self.steps.setdefault(bare, len(self.steps))

    def fetch(self, fetch: Fetch) -> int:
        """The number of ``fetch``, which its plan must keep alive."""
        known = self._known.get(id(fetch))
        if known is None:
            known = self._known[id(fetch)] = self.fetches.setdefault(fetch, len(self.fetches))
        return known

    def column(self, name: str) -> Numbers:
        """Field ``name`` of the fetches."""
        return np.array([getattr(f, name) for f in self.fetches], np.int64)

    def times(self, rates: Rates, n: int) -> Times:
        """What all of them take at ``rates``, whose numbers are scalars or have ``n`` entries."""
        return Times(
            link=_table((link_s(f, rates) for f in self.fetches), n, len(self.fetches)),
            inflate=_table((decompress_s(f, rates) if f.n_chunks else 0.0 for f in self.fetches), n, len(self.fetches)),
            compute=_table((compute_s(s, rates) for s in self.steps), n, len(self.steps)),
            latency=np.ascontiguousarray(np.broadcast_to(np.asarray(rates.read_latency_s, float), n)),
        )


@dataclass(frozen=True, slots=True)
class Times:
    """Scenario by class. [s]"""

    link: Row
    inflate: Row
    compute: Row
    latency: Row


def _table(columns: Iterable[Seconds], n: int, width: int) -> Row:
    table = np.empty((n, width))
    for c, column in enumerate(columns):
        table[:, c] = column
    return table


@dataclass(frozen=True, slots=True)
class Flat:
    """A plan as arrays of class numbers, in the order of its passes."""

    classes: Classes
    order: Numbers
    pass_step: Numbers
    first: Numbers
    last: Numbers
    step_class: Numbers
    router: Numbers
    fetch_class: Numbers

    @classmethod
    def of(cls, plan: Plan) -> Flat:
        """Flatten ``plan``. Steps that need the same tuple of fetches share them."""
        classes = Classes()
        pass_step, first, last, step_class, router = [0], [], [], [], []
        fetch_class: list[int] = []
        places: dict[int, tuple[int, int]] = {}
        for one_pass in plan.passes:
            for step in one_pass.steps:
                place = places.get(id(step.fetches))
                if place is None:
                    begin = len(fetch_class)
                    fetch_class.extend(map(classes.fetch, step.fetches))
                    place = places[id(step.fetches)] = begin, len(fetch_class)
                first.append(place[0])
                last.append(place[1])
                step_class.append(classes.step(step))
                router.append(step.router_back)
            pass_step.append(len(step_class))
        arrays = (_numbers(a) for a in (plan.order, pass_step, first, last, step_class, router, fetch_class))
        return cls(classes, *arrays)


def _numbers(values: Sequence[int]) -> Numbers:
    return np.array(values, np.int64)
