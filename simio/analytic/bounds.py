"""Closed-form bounds on the makespan: what the busiest resource needs, and what a run without any overlap takes."""

from __future__ import annotations

from dataclasses import dataclass
from operator import mul

from simio.records.timed import TimedPlan


@dataclass(frozen=True, slots=True)
class Demand:
    """Service demanded of storage, slots, decompress and compute, over a run or some of its passes. [s]"""

    busy_s: dict[str, float]
    servers: dict[str, int]
    link_bytes: int

    @property
    def lower_s(self) -> float:
        """No schedule is faster: max over resources of demand / servers (bottleneck law)."""
        return max(self.busy_s[name] / self.servers[name] for name in self.busy_s)

    @property
    def upper_s(self) -> float:
        """No work-conserving schedule is slower: every stage after the other. Slots contain the link time."""
        return self.busy_s["slots"] + self.busy_s["decompress"] + self.busy_s["compute"]


def demand(timed: TimedPlan, first: int = 0, last: int | None = None) -> Demand:
    """Service demand of the passes ``order[first:last]``."""
    busy = dict.fromkeys(("storage", "slots", "decompress", "compute"), 0.0)
    n_bytes = 0
    counts: dict[int, int] = {}
    for p in timed.order[first:last]:
        counts[p] = counts.get(p, 0) + 1
    for p, n in counts.items():
        steps = slice(timed.pass_step[p], timed.pass_step[p + 1])
        fetches = slice(timed.step_fetch[steps.start], timed.step_fetch[steps.stop])
        link = sum(timed.link_s[fetches])
        busy["storage"] += n * link
        busy["slots"] += n * (link + sum(timed.is_read[fetches]) * timed.latency_s)
        busy["decompress"] += n * sum(map(mul, timed.decompress_s[fetches], timed.n_chunks[fetches]))
        busy["compute"] += n * sum(timed.compute_s[steps])
        n_bytes += n * sum(timed.link_bytes[fetches])
    servers = {"storage": 1, "slots": timed.queue_depth, "decompress": timed.n_workers, "compute": 1}
    return Demand(busy, servers, n_bytes)
