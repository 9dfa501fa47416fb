"""Apply the service times to a plan: bytes and flop in, seconds out. Both engines start from the result."""

from __future__ import annotations

from simio.records.plan import Fetch, Plan
from simio.records.timed import TimedPlan
from simio.service_times import Rates, Seconds, compute_s, decompress_s, link_s


def time_plan(plan: Plan, rates: Rates) -> TimedPlan:
    """Every step and fetch of ``plan`` with its service time on a device. Equal fetches are timed once."""
    pass_step, step_fetch = [0], [0]
    compute: list[Seconds] = []
    router_back: list[int] = []
    fetches: list[Fetch] = []
    for one_pass in plan.passes:
        for step in one_pass.steps:
            compute.append(compute_s(step, rates))
            router_back.append(step.router_back)
            fetches.extend(step.fetches)
            step_fetch.append(len(fetches))
        pass_step.append(len(compute))
    by_value: dict[Fetch, Seconds] = {}
    links: dict[int, Seconds] = {}  # by identity: plans repeat the same few objects, and comparing them is slow
    for fetch in fetches:
        if id(fetch) not in links:
            if fetch not in by_value:
                by_value[fetch] = link_s(fetch, rates)
            links[id(fetch)] = by_value[fetch]
    return TimedPlan(
        order=list(plan.order),
        pass_step=pass_step,
        step_fetch=step_fetch,
        compute_s=compute,
        router_back=router_back,
        is_read=[f.n_reads > 0 for f in fetches],
        link_s=[links[id(f)] for f in fetches],
        decompress_s=[decompress_s(f, rates) if f.n_chunks else 0.0 for f in fetches],
        n_chunks=[f.n_chunks for f in fetches],
        staging_bytes=[f.staging_bytes for f in fetches],
        link_bytes=[f.link_bytes for f in fetches],
        latency_s=rates.read_latency_s,
        prefetch_depth=plan.prefetch_depth,
        capacity_bytes=plan.staging_bytes,
        queue_depth=plan.queue_depth,
        n_workers=plan.n_workers,
    )
