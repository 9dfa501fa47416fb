"""The inner loops of a sweep: one scenario after the other through the recurrence, compiled with numba.

The rules are not here: what is pinned comes from ``plan/shares.py``, the times of steps and fetches from
``service_times.py`` (as tables, see ``tables.py``), waiting and overlap from ``analytic/recurrence.py``; they are
compiled as they stand. These loops only pick from the tables what a scenario has, and sum up what came out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from simio.analytic import recurrence
from simio.errors import MissingPackageError
from simio.plan import shares

#: Columns that ``summarise`` fills.
TOKENS_PER_S, FIRST_TOKEN, LOAD, P50, P95, BYTES, LOWER, UPPER, RUN = range(9)
#: Of a decoded token, on average: time of the link, of decompression (all workers) and of compute.
READING, INFLATING, COMPUTING = range(9, 12)
N_SUMMARY = 12


@lru_cache(maxsize=1)
def compiled() -> dict[str, Any]:
    """The loops by name; compiling takes seconds, once a process. Raises ``MissingPackageError`` without numba."""
    try:
        from numba import njit
    except ModuleNotFoundError as error:
        raise MissingPackageError("a sweep needs numba", "pip install 'simio[fast]'") from error
    loops = (recurrence.max_plus, recurrence.settle, shares.share_out, shares.pin, share_rows, pin_rows,
             summarise, keep_ends, run_pinned, run_whole, count_missing, run_mixture)  # fmt: skip
    return {loop.__name__: njit(loop) for loop in loops}


def share_rows(  # type: ignore[no-untyped-def]
    share_out, free, step_bytes, prefetch, staging, pinnable, pinned_bytes, pinned_fraction, found
):
    """``share_out`` of a dense model without a weight cache for every scenario; a row of ``found`` each."""
    for j in range(len(free)):
        found[j, 0], found[j, 1], found[j, 2], found[j, 3], found[j, 4] = share_out(
            free[j], step_bytes, prefetch[j], staging[j], pinnable, pinned_bytes[j], pinned_fraction[j], -1, False
        )


def pin_rows(pin, raw, held, fraction, limit, pinned, in_ram):  # type: ignore[no-untyped-def]
    """``pin`` for every scenario; a row of ``pinned`` each."""
    for j in range(len(fraction)):
        in_ram[j] = pin(raw, held, fraction[j], limit[j], pinned[j])


def summarise(order, n_setup, n_load, ends, sums, latency_s, n_slots, n_workers, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` from the ends of a run's passes.

    ``sums``, per distinct pass: time of the link, reads, time of decompression, time of compute, bytes of the link.
    The formulas are those of ``Point``, ``TokenLatency``, ``bounds.demand`` and ``predict.energy``.
    """
    n = len(ends)
    latencies = np.empty(n - n_setup)
    total = 0.0
    n_bytes = reading = inflating = computing = 0.0
    for i in range(n_setup, n):
        latencies[i - n_setup] = ends[i] - ends[i - 1]
        total += latencies[i - n_setup]
        n_bytes += sums[order[i], 4]
        reading += sums[order[i], 0]
        inflating += sums[order[i], 2]
        computing += sums[order[i], 3]
    latencies.sort()
    link = slots = inflate = compute = 0.0
    for p in order:
        link += sums[p, 0]
        slots += sums[p, 0] + sums[p, 1] * latency_s
        inflate += sums[p, 2]
        compute += sums[p, 3]
    n_decoded = n - n_setup
    out[0] = n_decoded / total
    out[1] = ends[n_setup - 1]
    out[2] = ends[n_load - 1] if n_load else 0.0
    out[3] = latencies[int(np.ceil(0.5 * n_decoded)) - 1]
    out[4] = latencies[int(np.ceil(0.95 * n_decoded)) - 1]
    out[5] = n_bytes / n_decoded
    out[6] = max(link, slots / n_slots, inflate / n_workers, compute)
    out[7] = slots + inflate + compute
    out[8] = ends[n - 1]
    out[9] = reading / n_decoded
    out[10] = inflating / n_decoded
    out[11] = computing / n_decoded


def keep_ends(order, n_setup, n_load, ends, sums, latency_s, n_slots, n_workers, out):  # type: ignore[no-untyped-def]
    """In place of ``summarise``: the ends themselves."""
    out[:] = ends


def run_pinned(  # type: ignore[no-untyped-def]  # noqa: PLR0915
    max_plus, settle, summarise, order, n_setup, pass_step, step_slab, step_rows, step_compute, slab_request,
    request_class, class_chunks, class_staging, class_bytes, pinned, staging, prefetch, n_slots, n_workers,
    link, inflate, compute, latency, n_workspace, loads, out,
):  # fmt: skip
    """Runs of one dense model streamed, each with its own pins, staging, prefetch and times.

    Slab b is cut into requests ``slab_request[b] : slab_request[b + 1]``; step s multiplies slab ``step_slab[s]`` and
    reads, besides, the embedding rows of class ``step_rows[s]`` (-1: none). Where anything is pinned and the run
    ``loads`` it, a pass in front does. Tables have a row for each scenario: ``link[j, c]`` is the link time of fetches
    of class c.
    """
    n_steps, n_passes, n_slabs, n_requests = (
        len(step_slab),
        len(pass_step) - 1,
        len(slab_request) - 1,
        len(request_class),
    )
    most = 2 * n_requests + n_passes * (1 + n_requests)
    is_read = np.ones(most, np.bool_)
    f_link, f_inflate = np.empty(most), np.empty(most)
    f_chunks, f_staging = np.empty(most, np.int64), np.empty(most, np.int64)
    first, last = np.empty(n_steps + n_slabs, np.int64), np.empty(n_steps + n_slabs, np.int64)
    s_compute = np.zeros(n_steps + n_slabs)
    router = np.zeros(n_steps + n_slabs, np.int64)
    bounds = np.empty(n_passes + 2, np.int64)
    bounds[: n_passes + 1] = pass_step
    whole = np.empty(len(order) + 1, np.int64)
    whole[0] = n_passes
    whole[1:] = order
    ends = np.empty(len(order) + 1)
    n_run = n_slabs
    for p in order:
        n_run += pass_step[p + 1] - pass_step[p]
    step_end, step_held = np.empty(n_run), np.empty(n_run, np.int64)
    slab_first, slab_last = np.empty(n_slabs, np.int64), np.empty(n_slabs, np.int64)
    slab_sums = np.empty((n_slabs, 4))
    sums = np.empty((n_passes + 1, 5))
    chunks, held, n_bytes = class_chunks[request_class], class_staging[request_class], class_bytes[request_class]
    for j in range(len(staging)):
        is_pinned, link_of, inflate_of = pinned[j], link[j], inflate[j]
        n, m, s = 0, most - n_requests, n_steps  # read by every pass; loaded once, and the steps of that
        load_link = load_inflate = 0.0
        for b in range(n_slabs):
            slab_first[b] = n
            first[s] = m
            slab_link = slab_inflate = slab_bytes = 0.0
            for r in range(slab_request[b], slab_request[b + 1]):
                of_link, of_inflate = link_of[request_class[r]], inflate_of[request_class[r]]
                if is_pinned[r]:
                    f_link[m], f_inflate[m], f_chunks[m], f_staging[m] = of_link, of_inflate, chunks[r], 0
                    load_link += of_link
                    load_inflate += of_inflate * chunks[r]
                    m += 1
                else:
                    f_link[n], f_inflate[n], f_chunks[n], f_staging[n] = of_link, of_inflate, chunks[r], held[r]
                    slab_link += of_link
                    slab_inflate += of_inflate * chunks[r]
                    slab_bytes += n_bytes[r]
                    n += 1
            slab_last[b] = n
            slab_sums[b, 0], slab_sums[b, 1], slab_sums[b, 2] = slab_link, n - slab_first[b], slab_inflate
            slab_sums[b, 3] = slab_bytes
            last[s] = m
            s += m > first[s]
        n_load_steps = s
        sums[:] = 0.0
        for p in range(n_passes):
            for s in range(pass_step[p], pass_step[p + 1]):
                b = step_slab[s]
                first[s], last[s] = slab_first[b], slab_last[b]
                s_compute[s] = compute[j, step_compute[s]]
                sums[p, 0] += slab_sums[b, 0]
                sums[p, 1] += slab_sums[b, 1]
                sums[p, 2] += slab_sums[b, 2]
                sums[p, 3] += s_compute[s]
                sums[p, 4] += slab_sums[b, 3]
                c = step_rows[s]
                if c >= 0:
                    first[s] = n
                    f_link[n], f_inflate[n] = link[j, c], 0.0
                    f_chunks[n], f_staging[n] = 0, class_staging[c]
                    n += 1
                    for k in range(slab_first[b], slab_last[b]):
                        f_link[n], f_inflate[n], f_chunks[n], f_staging[n] = (
                            f_link[k], f_inflate[k], f_chunks[k], f_staging[k],
                        )  # fmt: skip
                        n += 1
                    last[s] = n
                    sums[p, 0] += link[j, c]
                    sums[p, 1] += 1
                    sums[p, 4] += class_bytes[c]
        sums[n_passes, 0], sums[n_passes, 1], sums[n_passes, 2] = load_link, m - (most - n_requests), load_inflate
        bounds[n_passes + 1] = n_load_steps
        n_load = int(loads and n_load_steps > n_steps)
        run = whole[1 - n_load :]
        end = ends[1 - n_load :]
        history = np.zeros(n_workspace * (3 + n_slots + n_workers + prefetch[j] + 1 + 2))
        max_plus(
            run, bounds, first, last, s_compute, router, is_read, f_link, f_inflate, f_chunks, f_staging, latency[j],
            prefetch[j], staging[j], n_slots, n_workers, step_end, step_held, end, history, settle,
        )  # fmt: skip
        summarise(run, n_setup + n_load, n_load, end, sums, latency[j], n_slots, n_workers, out[j])


def run_whole(  # type: ignore[no-untyped-def]
    max_plus, settle, summarise, order, n_setup, n_load, pass_step, first, last, step_compute, router, fetch_class,
    class_is_read, class_chunks, class_staging, class_bytes, staging, prefetch, n_slots, n_workers, link, inflate,
    compute, latency, n_workspace, out,
):  # fmt: skip
    """Runs of one and the same plan with other times: tables as of ``run_pinned``."""
    n_steps, n_passes, n_fetches = len(step_compute), len(pass_step) - 1, len(fetch_class)
    is_read = class_is_read[fetch_class]
    f_chunks, f_staging = class_chunks[fetch_class], class_staging[fetch_class]
    f_link, f_inflate, s_compute = np.empty(n_fetches), np.empty(n_fetches), np.empty(n_steps)
    n_run = 0
    for p in order:
        n_run += pass_step[p + 1] - pass_step[p]
    step_end, step_held = np.empty(n_run), np.empty(n_run, np.int64)
    ends = np.empty(len(order))
    sums = np.empty((n_passes, 5))
    for j in range(len(latency)):
        for f in range(n_fetches):
            f_link[f], f_inflate[f] = link[j, fetch_class[f]], inflate[j, fetch_class[f]]
        sums[:] = 0.0
        for p in range(n_passes):
            for s in range(pass_step[p], pass_step[p + 1]):
                s_compute[s] = compute[j, step_compute[s]]
                sums[p, 3] += s_compute[s]
                for f in range(first[s], last[s]):
                    sums[p, 0] += f_link[f]
                    sums[p, 1] += is_read[f]
                    sums[p, 2] += f_inflate[f] * f_chunks[f]
                    sums[p, 4] += class_bytes[fetch_class[f]]
        history = np.zeros(n_workspace * (3 + n_slots + n_workers + prefetch + 1 + 2))
        max_plus(
            order, pass_step, first, last, s_compute, router, is_read, f_link, f_inflate, f_chunks, f_staging,
            latency[j], prefetch, staging, n_slots, n_workers, step_end, step_held, ends, history, settle,
        )  # fmt: skip
        summarise(order, n_setup, n_load, ends, sums, latency[j], n_slots, n_workers, out[j])


def count_missing(distances, visit_first, capacity, room, missing, swapped):  # type: ignore[no-untyped-def]
    """For every scenario and visit of an expert layer: experts not in the cache, and those in it but swapped out.

    Visit v looks up references ``visit_first[v] : visit_first[v + 1]``, whose stack distances are ``distances``. A
    cache of ``capacity`` bytes holds what is at most as far (-1: there is none), and so does what RAM has of it
    (``room``; -1: all).
    """
    for j in range(len(capacity)):
        for v in range(len(visit_first) - 1):
            lost = out = 0
            for r in range(visit_first[v], visit_first[v + 1]):
                if distances[r] > capacity[j]:
                    lost += 1
                elif room[j] >= 0 and distances[r] > room[j]:
                    out += 1
            missing[j, v] = lost
            swapped[j, v] = out


def run_mixture(  # type: ignore[no-untyped-def]
    max_plus, settle, summarise, n_setup, pass_entry, entry_step, entry_kind, entry_visit, entry_place, kind_first,
    row_step, row_router, row_care, row_place, n_groups, place_first, place_last, fetch_class, class_bytes, missing,
    swap_step, swap_mib, prefetch, n_slots, n_workers, link, compute, latency, n_workspace, out,
):  # fmt: skip
    """Runs of a mixture streamed slice by slice, each with its own misses and times.

    The entries of pass i are ``pass_entry[i] : pass_entry[i + 1]``: a step that is the same in all runs, or (``kind``
    at least 0) the visit of an expert layer, which is care of the cache and ``n_groups`` steps. Kind k with m experts
    missing is row ``kind_first[k] + m`` of the tables. ``swap_step`` is a MiB through swap; the last step of pass i has
    ``swap_mib[:, i]`` of them.
    """
    n_passes, n_fetches = len(pass_entry) - 1, len(fetch_class)
    is_read = np.ones(n_fetches, np.bool_)
    nothing, no_time = np.zeros(n_fetches, np.int64), np.zeros(n_fetches)
    f_link = np.empty(n_fetches)
    total_link, total_bytes = np.zeros(n_fetches + 1), np.zeros(n_fetches + 1)
    for f in range(n_fetches):
        total_bytes[f + 1] = total_bytes[f] + class_bytes[fetch_class[f]]
    n_steps = 0
    for e in range(len(entry_kind)):
        n_steps += 1 if entry_kind[e] < 0 else 1 + n_groups
    first, last, router = np.zeros(n_steps, np.int64), np.zeros(n_steps, np.int64), np.zeros(n_steps, np.int64)
    s_compute, step_end, step_held = np.empty(n_steps), np.empty(n_steps), np.empty(n_steps, np.int64)
    order, pass_step = np.arange(n_passes), np.zeros(n_passes + 1, np.int64)
    ends, sums = np.empty(n_passes), np.empty((n_passes, 5))
    for j in range(len(latency)):
        for f in range(n_fetches):
            f_link[f] = link[j, fetch_class[f]]
            total_link[f + 1] = total_link[f] + f_link[f]
        sums[:] = 0.0
        s = 0
        for i in range(n_passes):
            for e in range(pass_entry[i], pass_entry[i + 1]):
                k = entry_kind[e]
                if k < 0:
                    s_compute[s] = compute[j, entry_step[e]]
                    router[s] = 0
                    first[s], last[s] = place_first[entry_place[e]], place_last[entry_place[e]]
                    sums[i, 3] += s_compute[s]
                    s += 1
                    continue
                row = kind_first[k] + missing[j, entry_visit[e]]
                s_compute[s] = compute[j, row_care[row]]
                first[s] = last[s] = router[s] = 0
                sums[i, 3] += s_compute[s]
                s += 1
                for g in range(n_groups):
                    s_compute[s] = compute[j, row_step[row, g]]
                    router[s] = row_router[row, g]
                    first[s], last[s] = place_first[row_place[row, g]], place_last[row_place[row, g]]
                    sums[i, 3] += s_compute[s]
                    s += 1
            pass_step[i + 1] = s
            swap = swap_mib[j, i] * compute[j, swap_step]
            s_compute[s - 1] += swap
            sums[i, 3] += swap
            for k in range(pass_step[i], s):
                sums[i, 0] += total_link[last[k]] - total_link[first[k]]
                sums[i, 1] += last[k] - first[k]
                sums[i, 4] += total_bytes[last[k]] - total_bytes[first[k]]
        history = np.zeros(n_workspace * (3 + n_slots + n_workers + prefetch + 1 + 2))
        max_plus(
            order, pass_step, first, last, s_compute, router, is_read, f_link, no_time, nothing, nothing, latency[j],
            prefetch, 0, n_slots, n_workers, step_end, step_held, ends, history, settle,
        )  # fmt: skip
        summarise(order, n_setup, 1, ends, sums, latency[j], n_slots, n_workers, out[j])
