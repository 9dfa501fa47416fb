"""The recurrence for many draws at once: every time is an array with one entry per draw, in numpy.

The same stages as ``recurrence.max_plus`` without its steady-state shortcut (draws settle at different passes), so
callers give it a short run. A test holds the two together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simio.records.timed import TimedPlan

Draws = NDArray[np.float64]


def run(timed: TimedPlan, n_draws: int) -> Draws:
    """End of every pass for every draw; shape (len(order), n_draws). [s]"""
    zero = np.zeros(n_draws)
    slot_free = [zero] * timed.queue_depth
    worker_free = np.zeros((timed.n_workers, n_draws))
    admitted = link_free = dispatched = computed = zero
    step_end: list[Draws] = []
    held_bytes: list[int] = []
    released = in_use = n_reads = 0
    ends = np.empty((len(timed.order), n_draws))
    for i, p in enumerate(timed.order):
        for s in range(timed.pass_step[p], timed.pass_step[p + 1]):
            g = len(step_end)
            fetches = range(timed.step_fetch[s], timed.step_fetch[s + 1])
            gate = g - 1 - timed.prefetch_depth
            if timed.router_back[s]:
                gate = max(gate, g - timed.router_back[s])
            if gate >= 0 and fetches:
                admitted = np.maximum(admitted, step_end[gate])
            ready = computed
            for f in fetches:
                in_use += timed.staging_bytes[f]
                while in_use > timed.capacity_bytes and released < g:
                    if held_bytes[released]:
                        admitted = np.maximum(admitted, step_end[released])
                    in_use -= held_bytes[released]
                    released += 1
                arrived = admitted
                if timed.is_read[f]:
                    slot = n_reads % timed.queue_depth
                    n_reads += 1
                    admitted = np.maximum(admitted, slot_free[slot])
                    link_free = np.maximum(link_free, admitted + timed.latency_s) + timed.link_s[f]
                    slot_free[slot] = arrived = link_free
                ready = np.maximum(ready, arrived)
                for _ in range(timed.n_chunks[f]):
                    dispatched = np.maximum(np.maximum(dispatched, arrived), worker_free[0])
                    inflated = dispatched + timed.decompress_s[f]
                    worker_free[0] = inflated
                    worker_free.sort(axis=0)
                    ready = np.maximum(ready, inflated)
            computed = ready + timed.compute_s[s]
            step_end.append(computed)
            held_bytes.append(sum(timed.staging_bytes[f] for f in fetches))
        ends[i] = computed
    return ends
