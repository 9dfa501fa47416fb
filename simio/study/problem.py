"""The joint choice as numbers: which options there are, what a selection costs, and whether it fits. No names, no I/O.

Every item (a tensor, or a layer) takes exactly one option. With ``x`` the selection, ``s`` the steps of a token
(layers) and ``R`` what overlaps inside a step (storage, decompression, and of computing DRAM traffic and arithmetic):

    T(x) = Σ_s t_s + w,  t_s = max_R ( fixed_{s,R} + Σ_{i in s} t_{i,R}(x_i) )                             (J1)
    RAM(x) = Σ_i held_i(x_i) + n · max_s Σ_{i in s} staged_i(x_i), the second term at most ``staging_cap``  (J2)
    Q(x) = Σ_i q_i(x_i)                                                                                    (J3)

(J1) is the pipeline that reads one step ahead of compute; with a single step it is the bottleneck law (Denning & Buzen
1978), below which no schedule comes. ``w`` is what the first step waits for the row of an embedding table, which every
token reads wherever the matrices lie: the read hides behind the ``n - 1`` steps before, and holds the link,

    w = max(0, (row − what those steps take)/(1 + laps), Σ_s t_{s,storage} + link − Σ_s t_s)

with ``laps`` the whole tokens among those steps: these waited for a row, too. (J3) is the additive proxy of layer-wise
integer programming: Hubara et al. 2020, arXiv 2006.10518; HAWQ-V3, arXiv 2011.10680: each matrix perturbs the output
for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Indices = NDArray[np.intp]

#: The stages of (J1), in the order of the columns of ``Problem.seconds``.
STAGES = ("storage", "decompression", "traffic", "arithmetic")
#: Slack of budgets against rounding, relative.
SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Options as columns, sorted by item; ``n`` options, ``m`` items, ``k`` steps."""

    item: Indices  # (n,) the item that each option belongs to, 0 … m-1, ascending
    step: Indices  # (m,) the step of each item, 0 … k-1
    seconds: Numbers  # (n, 4) of each stage [s]
    held: Numbers  # (n,) RAM taken all the time [bytes]
    staged: Numbers  # (n,) buffers taken while the step is read and computed [bytes]
    cost: Numbers  # (n,) quality
    fixed: Numbers  # (k, 4) what a step takes whatever is chosen [s]
    ram_bytes: float
    cost_budget: float  # infinite: any quality will do
    n_buffers: int = 2  # steps in flight: the one computed and those read ahead
    staging_cap: float = float("inf")  # steps are cut so that buffers never exceed it [bytes]
    row_s: float = 0.0  # a row of an embedding table, from the moment its read may start [s]
    row_link_s: float = 0.0  # of which it holds the link [s]

    @property
    def n_items(self) -> int:
        """Items, each of which takes one option."""
        return len(self.step)

    def options_of(self, item: int) -> slice:
        """The columns of ``item``."""
        first, last = np.searchsorted(self.item, (item, item + 1))
        return slice(int(first), int(last))

    def loads(self, chosen: Indices) -> Numbers:
        """Seconds of each step and stage ``(k, 3)`` under the options ``chosen (m,)``."""
        total = self.fixed.copy()
        np.add.at(total, self.step, self.seconds[chosen])
        return total

    def latency_s(self, chosen: Indices) -> float:
        """(J1) [s]"""
        loads = self.loads(chosen)
        steps = loads.max(axis=1)
        waits = (self.row_s - steps @ self.hiding) / (1 + self.laps)
        busy = float(loads[:, 0].sum()) + self.row_link_s - steps.sum()
        return float(steps.sum() + max(0.0, waits, busy))

    @property
    def laps(self) -> int:
        """Whole tokens that a row is read ahead."""
        return (self.n_buffers - 1) // len(self.fixed)

    @property
    def hiding(self) -> Numbers:
        """``(k,)``: how often each step runs while a row is read: the last ``n_buffers - 1`` before a token begins."""
        k = len(self.fixed)
        return self.laps + (np.arange(k) >= k - (self.n_buffers - 1) % k).astype(np.float64)

    def staging_bytes(self, chosen: Indices) -> float:
        """The buffers of (J2)."""
        per_step = np.bincount(self.step, self.staged[chosen], minlength=len(self.fixed))
        return min(self.staging_cap, self.n_buffers * float(per_step.max(initial=0.0)))

    def ram(self, chosen: Indices) -> float:
        """(J2) [bytes]"""
        return float(self.held[chosen].sum()) + self.staging_bytes(chosen)

    def quality(self, chosen: Indices) -> float:
        """(J3)"""
        return float(self.cost[chosen].sum())

    def fits(self, chosen: Indices) -> bool:
        """Whether both budgets are kept."""
        return (
            self.ram(chosen) <= self.ram_bytes * (1 + SLACK) + 0.5
            and self.quality(chosen) <= self.cost_budget * (1 + SLACK) + 1e-15
        )

    def only(self, keep: NDArray[np.bool_]) -> Problem:
        """The same items with the options ``keep (n,)`` only."""
        return replace(
            self,
            item=self.item[keep],
            seconds=self.seconds[keep],
            held=self.held[keep],
            staged=self.staged[keep],
            cost=self.cost[keep],
        )

    def undominated(self) -> NDArray[np.bool_]:
        """``(n,)``: options that no other of the same item beats, or equals, in everything."""
        keep = np.ones(len(self.item), dtype=bool)
        columns = np.column_stack([self.seconds, self.held, self.staged, self.cost])
        for item in range(self.n_items):
            own = columns[self.options_of(item)]
            no_worse = (own[:, None, :] <= own[None, :, :]).all(axis=2)
            strictly = (own[:, None, :] < own[None, :, :]).any(axis=2)
            earlier = np.arange(len(own))[:, None] < np.arange(len(own))[None, :]
            keep[self.options_of(item)] = ~(no_worse & (strictly | earlier)).any(axis=0)
        return keep
