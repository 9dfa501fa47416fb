"""The exact recurrence of the pipeline, as one plain loop: ``start = max(resource free, previous stage done, gate)``.

Stages of a fetch, in plan order: admission (gate, staging space, queue slot) → latency → link → worker → ready.
A step computes when the previous step has computed and all its fetches are ready. A gate opens when the step
``1 + prefetch_depth`` before has computed, for routed experts when their router has. Staging is returned when the
step has computed. Because latency is one constant, reads reach the link in order, so slots come free in order; the
dispatcher hands the chunks of a fetch to the earliest free workers in plan order. The SimPy engine tells the same story
in processes.

The loop uses only indexing and ``max``, so it runs on lists in CPython and, unchanged, compiled (``compiled.py``).
When a pass repeats and leaves the state of a few passes ago, relative to its end, the run has entered a cycle: what
follows is filled in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simio.records.timed import TimedPlan

#: States remembered in the search for a cycle.
N_STATES = 12


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
        timed.order, timed.pass_step, timed.step_fetch[:-1], timed.step_fetch[1:], timed.compute_s, timed.router_back,
        timed.is_read, timed.link_s, timed.decompress_s, timed.n_chunks, timed.staging_bytes, timed.latency_s,
        timed.prefetch_depth, timed.capacity_bytes, timed.queue_depth, timed.n_workers,
    )  # fmt: skip


def workspace(timed: TimedPlan) -> list[float]:
    """Zeros for ``N_STATES`` times what a pass leaves to the next: clocks, slots, workers, step ends, staging."""
    return [0.0] * workspace_size(timed.queue_depth, timed.n_workers, timed.prefetch_depth)


def workspace_size(queue_depth: int, n_workers: int, prefetch_depth: int) -> int:
    """Numbers in a workspace."""
    return N_STATES * (3 + queue_depth + n_workers + prefetch_depth + 1 + 2)


def max_plus(  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0915 - one loop, compiled as it stands
    order, pass_step, first_fetch, last_fetch, compute_s, router_back, is_read, link_s, decompress_s, n_chunks,
    staging_bytes, latency_s, prefetch_depth, capacity_bytes, n_slots, n_workers, step_end, step_held, pass_end,
    history, settle,
):  # fmt: skip
    """Fill ``pass_end``, one time per entry of ``order``; ``step_end``, ``step_held``, ``history`` are scratch.

    Fetches of step s are ``first_fetch[s] : last_fetch[s]``; steps may share them.
    """
    slot_free = history[:n_slots].copy()
    worker_free = history[:n_workers].copy()  # a ring, ascending from ``head``
    admitted = link_free = dispatched = computed = 0.0
    g = slot = head = released = in_use = run = 0
    last = -1
    i = 0
    while i < len(order):
        p = order[i]
        for s in range(pass_step[p], pass_step[p + 1]):
            gate = g - 1 - prefetch_depth
            if router_back[s] > 0:
                gate = max(gate, g - router_back[s])
            if gate >= 0 and first_fetch[s] < last_fetch[s]:
                admitted = max(admitted, step_end[gate])
            ready = computed
            held = 0
            for f in range(first_fetch[s], last_fetch[s]):
                held += staging_bytes[f]
                in_use += staging_bytes[f]
                while in_use > capacity_bytes and released < g:
                    if step_held[released] > 0:
                        admitted = max(admitted, step_end[released])
                    in_use -= step_held[released]
                    released += 1
                arrived = admitted
                if is_read[f]:
                    admitted = max(admitted, slot_free[slot])
                    link_free = max(link_free, admitted + latency_s) + link_s[f]
                    slot_free[slot] = arrived = link_free
                    slot = slot + 1 if slot + 1 < n_slots else 0
                n, d = n_chunks[f], decompress_s[f]
                if n > 0:
                    dispatched = max(dispatched, arrived)
                    tail = head - 1 if head > 0 else n_workers - 1
                    if worker_free[head] >= dispatched and worker_free[tail] <= worker_free[head] + d:
                        for _ in range(n):  # all are busy and come free in turn: the ring turns, nothing is sorted
                            dispatched = worker_free[head]
                            arrived = worker_free[head] = dispatched + d
                            head = head + 1 if head + 1 < n_workers else 0
                        n = 0
                    for _ in range(n):
                        dispatched = max(dispatched, worker_free[head])
                        arrived = dispatched + d
                        if worker_free[tail] <= arrived:  # free last
                            tail = head
                            worker_free[head] = arrived
                            head = head + 1 if head + 1 < n_workers else 0
                            continue
                        place = head
                        after = head + 1 if head + 1 < n_workers else 0
                        while worker_free[after] < arrived:
                            worker_free[place] = worker_free[after]
                            place = after
                            after = after + 1 if after + 1 < n_workers else 0
                        worker_free[place] = arrived
                ready = max(ready, arrived)
            computed = ready + compute_s[s]
            step_end[g] = computed
            step_held[g] = held
            g += 1
        pass_end[i] = computed
        i += 1
        run = run + 1 if p == last else 0
        last = p
        oldest = step_end[max(0, g - 1 - prefetch_depth)]
        lags = g - released, in_use
        clocks = admitted, link_free, dispatched
        cycle = settle(
            history, i, run, clocks, slot_free, slot, worker_free, head, n_workers, step_end, g, lags, computed, oldest
        )
        n_same = 0
        while cycle and i + n_same < len(order) and order[i + n_same] == p:
            n_same += 1
        if cycle and n_same >= cycle:
            period = computed - pass_end[i - 1 - cycle]
            n_fill = n_same // cycle * cycle
            for k in range(i, i + n_fill):
                pass_end[k] = pass_end[k - cycle] + period
            shift = n_fill // cycle * period
            i += n_fill
            run = -1  # the states of the passes filled in were not remembered
            computed += shift
            admitted += shift
            link_free += shift
            dispatched += shift
            for k in range(n_slots):
                slot_free[k] += shift
            for k in range(n_workers):
                worker_free[k] += shift
            for k in range(max(0, min(released, g - 1 - prefetch_depth)), g):
                step_end[k] += shift


def settle(  # type: ignore[no-untyped-def]
    history, n_done, run, clocks, slot_free, slot, worker_free, head, n_workers, step_end, g, lags, computed, oldest
):
    """How many passes ago every clock stood where it stands now, relative to ``computed``; 0 if it never did.

    ``history`` is a ring of the last ``N_STATES`` states; ``run`` earlier passes were the same as this one. Nothing
    earlier than ``oldest`` can delay a later fetch, so earlier times count as ``oldest``. Max-plus systems settle into
    cycles: three workers and four chunks a pass repeat after three passes, not after one.
    """
    n_slots = len(slot_free)
    width = len(history) // N_STATES
    here = n_done % N_STATES * width
    for k in range(width - 2):
        if k < 3:
            value = clocks[k]
        elif k < 3 + n_slots:
            value = slot_free[(slot + k - 3) % n_slots]
        elif k < 3 + n_slots + n_workers:
            value = worker_free[(head + k - 3 - n_slots) % n_workers]
        else:
            value = step_end[max(0, g - 1 - (k - 3 - n_slots - n_workers))]
        history[here + k] = max(value, oldest) - computed
    history[here + width - 2] = lags[0]
    history[here + width - 1] = lags[1]
    tolerance = 1e-13 * computed
    for cycle in range(1, min(run, N_STATES - 1) + 1):
        there = (n_done - cycle) % N_STATES * width
        k = 0
        while k < width and abs(history[here + k] - history[there + k]) <= tolerance:
            k += 1
        if k == width:
            return cycle
    return 0
