"""The exact recurrence of the pipeline, as one plain loop: ``start = max(resource free, previous stage done, gate)``.

Stages of a fetch, in plan order: admission (gate, staging space, queue slot) → latency → link → worker → ready.
A step computes when the previous step has computed and all its fetches are ready. A gate opens when the step
``1 + prefetch_depth`` before has computed, for routed experts when their router has. Staging is returned when the
step has computed. Because latency is one constant, reads reach the link in order, so slots come free in order; the
dispatcher hands fetches to the earliest free worker in plan order. The SimPy engine tells the same story in processes.

The loop uses only indexing and ``max``, so it runs on lists in CPython and, unchanged, compiled (``compiled.py``).
When a pass repeats with the same relative state, all its further repetitions take the same time: they are filled in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simio.records.timed import TimedPlan


@dataclass(frozen=True, slots=True)
class Finish:
    """When each pass of the run ended. [s]"""

    pass_end_s: list[float]


def run(timed: TimedPlan) -> Finish:
    """Resolve ``timed`` in CPython."""
    ends = [0.0] * len(timed.order)
    n = timed.n_steps()
    loop: Callable[..., None] = max_plus
    loop(*arguments(timed), [0.0] * n, [0] * n, ends, workspace(timed), settle)
    return Finish(ends)


def arguments(timed: TimedPlan) -> tuple[Any, ...]:
    """The first arguments of ``max_plus``, in order."""
    return (
        timed.order, timed.pass_step, timed.step_fetch, timed.compute_s, timed.router_back, timed.is_read,
        timed.link_s, timed.decompress_s, timed.staging_bytes, timed.latency_s, timed.prefetch_depth,
        timed.capacity_bytes, timed.queue_depth, timed.n_workers,
    )  # fmt: skip


def workspace(timed: TimedPlan) -> list[float]:
    """Zeros for everything that a pass leaves to the next: three clocks, slots, workers, recent step ends."""
    return [0.0] * (3 + timed.queue_depth + timed.n_workers + timed.prefetch_depth + 1)


def max_plus(  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0915 - one loop, compiled as it stands
    order, pass_step, step_fetch, compute_s, router_back, is_read, link_s, decompress_s, staging_bytes,
    latency_s, prefetch_depth, capacity_bytes, n_slots, n_workers, step_end, step_held, pass_end, before, settle,
):  # fmt: skip
    """Fill ``pass_end``, one time per entry of ``order``; ``step_end``, ``step_held``, ``before`` are scratch."""
    slot_free = before[:n_slots].copy()
    worker_free = before[:n_workers].copy()  # kept sorted, earliest first
    clock = before[:3].copy()  # admission, link, dispatcher
    g = n_reads = released = in_use = lag = left = 0
    computed = length = 0.0
    last = -1
    i = 0
    while i < len(order):
        p = order[i]
        started = computed
        for s in range(pass_step[p], pass_step[p + 1]):
            gate = g - 1 - prefetch_depth
            if router_back[s] > 0:
                gate = max(gate, g - router_back[s])
            if gate >= 0 and step_fetch[s] < step_fetch[s + 1]:
                clock[0] = max(clock[0], step_end[gate])
            ready = computed
            held = 0
            for f in range(step_fetch[s], step_fetch[s + 1]):
                held += staging_bytes[f]
                in_use += staging_bytes[f]
                while in_use > capacity_bytes and released < g:
                    if step_held[released] > 0:
                        clock[0] = max(clock[0], step_end[released])
                    in_use -= step_held[released]
                    released += 1
                arrived = clock[0]
                if is_read[f]:
                    slot = n_reads % n_slots
                    n_reads += 1
                    clock[0] = max(clock[0], slot_free[slot])
                    clock[1] = max(clock[1], clock[0] + latency_s) + link_s[f]
                    slot_free[slot] = arrived = clock[1]
                if decompress_s[f] > 0.0:
                    clock[2] = max(clock[2], arrived, worker_free[0])
                    arrived = clock[2] + decompress_s[f]
                    w = 1
                    while w < n_workers and worker_free[w] < arrived:
                        worker_free[w - 1] = worker_free[w]
                        w += 1
                    worker_free[w - 1] = arrived
                ready = max(ready, arrived)
            computed = ready + compute_s[s]
            step_end[g] = computed
            step_held[g] = held
            g += 1
        pass_end[i] = computed
        i += 1
        # The same pass twice, equally long, leaving the same state behind: so will every further repetition.
        repeats = p == last and lag == g - released and left == in_use
        repeats = repeats and abs(computed - started - length) <= 1e-12 * length
        last, lag, left, length = p, g - released, in_use, computed - started
        oldest = step_end[max(0, g - 1 - prefetch_depth)]
        steady = settle(before, clock, slot_free, n_reads, worker_free, step_end, g, computed, oldest, length)
        if repeats and steady:
            shift = 0.0
            while i < len(order) and order[i] == p:
                shift += length
                pass_end[i] = computed + shift
                i += 1
            computed += shift
            for k in range(3):
                clock[k] += shift
            for k in range(n_slots):
                slot_free[k] += shift
            for k in range(n_workers):
                worker_free[k] += shift
            for k in range(min(released, g - 1 - prefetch_depth) if g > prefetch_depth else 0, g):
                step_end[k] += shift


def settle(  # type: ignore[no-untyped-def]
    before, clock, slot_free, n_reads, worker_free, step_end, g, computed, oldest, length
):
    """Whether every clock stands where it stood one pass ago, relative to ``computed``; remembers it in ``before``.

    Nothing earlier than ``oldest`` can delay a later fetch, so earlier times count as ``oldest``.
    """
    n_slots, n_workers = len(slot_free), len(worker_free)
    same = True
    for k in range(len(before)):
        if k < 3:
            value = clock[k]
        elif k < 3 + n_slots:
            value = slot_free[(n_reads + k - 3) % n_slots]
        elif k < 3 + n_slots + n_workers:
            value = worker_free[k - 3 - n_slots]
        else:
            value = step_end[max(0, g - 1 - (k - 3 - n_slots - n_workers))]
        value = max(value, oldest) - computed
        if abs(value - before[k]) > 1e-12 * length:
            same = False
        before[k] = value
    return same
