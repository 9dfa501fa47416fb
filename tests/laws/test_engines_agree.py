"""The laws of design on random plans: SimPy, the recurrence, its compiled and its batched form tell one story."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_plans import random_plan

from simio.analytic import batch, bounds, compiled, recurrence
from simio.predict.laws import prefix
from simio.sim import engine

plans = st.integers(0, 10**9).map(random_plan)


@settings(max_examples=600, deadline=None)
@example(random_plan(123536))  # after a cycle was filled in, older states were taken for the latest
@given(plans)
def test_simulation_and_recurrence_end_every_pass_at_the_same_time(timed):
    assert engine.run(timed).pass_end_s == pytest.approx(recurrence.run(timed).pass_end_s, rel=1e-9, abs=1e-15)


@settings(max_examples=500, deadline=None)
@given(plans)
def test_no_run_beats_its_busiest_resource_or_loses_to_no_overlap_at_all(timed):
    demand, makespan = bounds.demand(timed), recurrence.run(timed).pass_end_s[-1]
    assert demand.lower_s <= makespan * (1 + 1e-9)
    assert makespan <= demand.upper_s * (1 + 1e-9)


@settings(max_examples=500, deadline=None)
@given(plans, st.sampled_from(["bandwidth", "latency", "depth", "workers", "staging", "cores"]))
def test_more_of_any_resource_is_never_slower(timed, resource):
    better = {
        "bandwidth": replace(timed, link_s=[t / 1.7 for t in timed.link_s]),
        "latency": replace(timed, latency_s=timed.latency_s / 2),
        "depth": replace(timed, queue_depth=timed.queue_depth + 1),
        "workers": replace(timed, n_workers=timed.n_workers + 1),
        "staging": replace(timed, capacity_bytes=2 * timed.capacity_bytes + 1),
        "cores": replace(timed, compute_s=[t / 1.7 for t in timed.compute_s]),
    }[resource]
    slower, faster = recurrence.run(timed).pass_end_s, recurrence.run(better).pass_end_s
    assert all(b <= a * (1 + 1e-9) for a, b in zip(slower, faster, strict=True))


@settings(max_examples=500, deadline=None)
@given(plans)
def test_spans_conserve_bytes_busy_time_and_littles_law(timed):
    simulated, demand = engine.run(timed), bounds.demand(timed)
    spans = simulated.spans
    assert sum(s.n_bytes for s in spans) == demand.link_bytes
    for resource in ("storage", "decompress", "compute"):
        own = [s for s in spans if s.resource == resource]
        assert all(s.queued_s <= s.start_s <= s.end_s for s in own)
        assert sum(s.end_s - s.start_s for s in own) == pytest.approx(demand.busy_s[resource], rel=1e-9, abs=1e-15)
        in_system_s = sum(s.end_s - s.queued_s for s in own)
        assert simulated.in_system_s[resource] == pytest.approx(in_system_s, rel=1e-9, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(plans)
def test_no_resource_serves_more_than_its_servers_at_once(timed):
    spans = engine.run(timed).spans
    for resource, servers in (("storage", 1), ("decompress", timed.n_workers), ("compute", 1)):
        events = [(s.start_s, 1) for s in spans if s.resource == resource]
        events += [(s.end_s, -1) for s in spans if s.resource == resource]
        n = 0
        for _, change in sorted(events):
            n += change
            assert n <= servers


@settings(max_examples=100, deadline=None)
@given(plans)
def test_a_second_run_repeats_every_span(timed):
    assert engine.run(timed).spans == engine.run(timed).spans


@settings(max_examples=200, deadline=None)
@given(plans)
def test_filling_in_a_steady_state_changes_nothing(timed):
    ends = [0.0] * len(timed.order)
    n = timed.n_steps()
    never = [*recurrence.arguments(timed), [0.0] * n, [0] * n, ends, recurrence.workspace(timed), lambda *_: 0]
    recurrence.max_plus(*never)
    assert recurrence.run(timed).pass_end_s == pytest.approx(ends, rel=1e-10, abs=1e-15)


def test_a_repeating_pass_is_filled_in_and_not_walked():
    timed = replace(random_plan(1), order=[0] * 10_000)
    calls = []

    def counting(*state):
        calls.append(1)
        return recurrence.settle(*state)

    ends = [0.0] * 10_000
    n = timed.n_steps()
    recurrence.max_plus(*recurrence.arguments(timed), [0.0] * n, [0] * n, ends, recurrence.workspace(timed), counting)
    assert len(calls) < 100
    assert ends[-1] - ends[-2] == pytest.approx(ends[50] - ends[49], rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(plans)
def test_the_compiled_loop_gives_the_same_times(timed):
    pytest.importorskip("numba")
    assert compiled.run(timed).pass_end_s == pytest.approx(recurrence.run(timed).pass_end_s, rel=1e-12, abs=1e-15)


@settings(max_examples=200, deadline=None)
@given(plans)
def test_the_batch_of_draws_gives_the_same_times(timed):
    scale = np.array([1.0, 0.5, 3.0])
    drawn = replace(timed, link_s=[t * scale for t in timed.link_s])
    for column, factor in enumerate(scale):
        one = replace(timed, link_s=[t * factor for t in timed.link_s])
        assert batch.run(drawn, 3)[:, column] == pytest.approx(recurrence.run(one).pass_end_s, rel=1e-9, abs=1e-15)


@settings(max_examples=200, deadline=None)
@given(plans, st.integers(1, 60))
def test_a_prefix_is_the_beginning_of_the_run(timed, budget):
    cut = prefix(timed, first=0, budget=budget)
    whole_passes = [i for i, p in enumerate(cut.order) if p < len(timed.pass_step) - 1]
    ends, all_ends = recurrence.run(cut).pass_end_s, recurrence.run(timed).pass_end_s
    assert [ends[i] for i in whole_passes] == pytest.approx([all_ends[i] for i in whole_passes], rel=1e-9, abs=1e-15)
    assert ends[-1] <= all_ends[len(cut.order) - 1] * (1 + 1e-9)
