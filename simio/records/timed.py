"""A Plan with its seconds: what the engines resolve into waiting and overlap. In lists, which one loop reads fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TimedPlan:
    """Flat lists over the distinct passes. Times are floats, or arrays with one entry per draw. [s]

    Steps of pass p are ``pass_step[p] : pass_step[p + 1]``, fetches of step i ``step_fetch[i] : step_fetch[i + 1]``.
    """

    order: list[int]  # passes in time
    pass_step: list[int]
    step_fetch: list[int]
    compute_s: list[Any]
    router_back: list[int]
    is_read: list[bool]  # fetch uses a queue slot and the link
    link_s: list[Any]
    decompress_s: list[Any]  # of one chunk
    n_chunks: list[int]  # chunks of a fetch that are decompressed independently
    staging_bytes: list[int]
    link_bytes: list[int]
    latency_s: Any
    prefetch_depth: int
    capacity_bytes: int
    queue_depth: int
    n_workers: int

    def n_steps(self) -> int:
        """Steps over the whole run, repeated passes counted each time."""
        return sum(self.pass_step[p + 1] - self.pass_step[p] for p in self.order)
