"""A streamed mixture of three layers, four experts of 1 MB each, one taken per token, worked out on paper."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from tiny import MB, device, model, number, profile, run, scenario

from simio.errors import InfeasibleError, UsageError
from simio.plan.expert_streaming import Need
from simio.plan.layout import ALIGN_BYTES, lay_out
from simio.plan.memory import System
from simio.plan.routing import draw_routing
from simio.predict.interval import latencies_at, mean_latency
from simio.predict.point import Point, evaluate, plan_of, rates_at
from simio.predict.resolve import complete, resolve
from simio.records.device import Device, Thermal
from simio.records.scenario import Scenario
from simio.service_times import (
    Factors,
    derated,
    heat_state,
    link_s,
    rates_of,
    read_bandwidth,
    read_latency_s,
)

MIXTURE = profile(model(n_experts=4, top_k=1))
SLICE = (MB + ALIGN_BYTES) / 2e9  # on the 2 GB/s link
DENSE = EXPERT = 1e-4  # 1 MB at 10 GB/s
WAKING = 5e-5
SYSTEM = System(swap_onset_bytes=10 * MB, swap_share=0.5)


def caring(**more: object) -> Device:
    """A device that says what a weight cache costs: 1 ms a MB, 1 µs a page, 50 µs a wait."""
    plain = device(latency_s=1e-9, **more)  # type: ignore[arg-type]
    memory = replace(plain.memory, commit_bandwidth=number(1e9, "bytes_per_s"), swap_fault=number(1e-6, "s"))
    return replace(plain, memory=memory, cpu=replace(plain.cpu, handover=number(WAKING, "s")))


def test_serial_without_a_cache_reads_one_expert_a_layer_and_then_multiplies():
    point = run(MIXTURE, device(latency_s=1e-9), dense_weights="anon", cache_policy="none", expert_overlap=False)
    assert point.token_latencies_s == pytest.approx([3 * (DENSE + SLICE + EXPERT)] * 4, rel=1e-3)
    assert point.plan.cache_hit_ratio is None


def test_a_miss_costs_the_cache_its_care():
    point = run(MIXTURE, caring(), dense_weights="anon", cache_bytes=2 * MB, expert_overlap=False)
    missed = 3 * (DENSE + 1e-3 + SLICE + WAKING + EXPERT)  # below one token cycle nothing is hit
    assert point.plan.cache_hit_ratio == 0.0
    assert point.token_latencies_s == pytest.approx([missed] * 4, rel=1e-3)
    assert "below one token cycle" in " ".join(point.plan.notes)


def test_with_overlap_lanes_read_while_the_cache_makes_room():
    point = run(MIXTURE, caring(), dense_weights="anon", cache_bytes=2 * MB, expert_overlap=True)
    overlapped = 3 * (DENSE + max(1e-3, SLICE) + EXPERT)
    assert point.token_latencies_s == pytest.approx([overlapped] * 4, rel=1e-3)


def test_each_slice_after_two_lane_loads_is_a_wait():
    two = {"dense_weights": "anon", "cache_policy": "none", "expert_overlap": True}
    mixture = profile(model(n_experts=4, top_k=3))

    def latency(lanes: int) -> float:
        return run(mixture, caring(), queue_depth=lanes, **two).token_latencies_s[0]

    # what arrives together with the last slice is multiplied after it; of three slices two lanes bring one last
    for lanes, after, waits in ((1, 1, 1), (2, 1, 0), (3, 3, 0)):
        expected = 3 * (DENSE + 3 * SLICE + after * EXPERT + waits * WAKING)
        assert latency(lanes) == pytest.approx(expected, rel=1e-3)


def test_experts_before_the_first_of_a_last_lane_load_need_not_wait():
    assert Need(4, 0, 0, 0).ahead(0, 4) == 0.0
    assert Need(4, 4, 0, 0).ahead(0, 1) == pytest.approx(3 / 4)
    places = list(permutations(range(5), 3))  # three of five are missing
    for lanes, first_awaited in ((1, 2), (2, 2), (3, 0), (8, 0)):
        before = [sorted(missing)[first_awaited] / 5 for missing in places]
        assert Need(5, 3, 0, 0).ahead(0, lanes) == pytest.approx(sum(before) / len(before))
    # four lanes take one slice of the second projection with those of the first, and two come after
    before = [sorted(missing)[1] / 5 for missing in places]
    assert Need(5, 3, 0, 0).ahead(1, 4) == pytest.approx(sum(before) / len(before))


def test_a_burst_waits_once_for_a_lane_to_fill_fresh_pages():
    filling = caring()
    filling = replace(filling, memory=replace(filling.memory, fresh_page=number(2e-6, "s")))
    mixture = profile(model(n_experts=4, top_k=3))

    def latency(on: Device, policy: str) -> float:
        cache = {"cache_policy": policy, "cache_bytes": 3 * MB if policy == "lru" else None}
        point = run(mixture, on, dense_weights="anon", expert_overlap=False, queue_depth=4, **cache)
        return point.token_latencies_s[0]

    once = 3 * MB / 4096 * 2e-6  # a layer each, whatever the number of slices
    assert latency(filling, "lru") == pytest.approx(latency(caring(), "lru") + once, rel=1e-6)
    assert latency(filling, "none") == latency(caring(), "none")  # buffers are used again


def test_a_burst_of_several_reads_waits_less_than_a_lone_one():
    slow = device(latency_s=1e-3)
    storage, size = slow.storage, MB / 2

    def waited(n_together: int) -> float:
        return float(read_latency_s(storage, size, 4, sequential=False, n_together=n_together))

    alone = size / read_bandwidth(storage, size, 1) - size / read_bandwidth(storage, size, 4)
    pair = 2 * size / read_bandwidth(storage, size, 2) - 2 * size / read_bandwidth(storage, size, 4)
    assert waited(1) == pytest.approx(alone)
    assert waited(2) == pytest.approx(pair)
    assert waited(1) > waited(2) > waited(4) == waited(9) == 0.0


def test_a_lane_that_fills_pages_reads_nothing_meanwhile():
    def token(on: Device, lanes: int, page_s: float, top_k: int) -> float:
        on = replace(on, memory=replace(on.memory, fresh_page=number(page_s, "s")))
        mixture = profile(model(n_experts=8, top_k=top_k))
        cache = {"cache_policy": "lru", "cache_bytes": top_k * MB}
        point = run(mixture, on, dense_weights="anon", expert_overlap=False, queue_depth=lanes, **cache)
        return point.token_latencies_s[0]

    # three slices a layer: one after the other, two and one (which reads while nobody else does), all at once
    fill = MB / 4096 * 20e-6
    assert fill > 9 * SLICE
    for lanes, more in ((1, 3 * fill), (2, 2 * fill - SLICE), (4, fill)):
        found = token(caring(), lanes, 20e-6, 3) - token(caring(), lanes, 0.0, 3)
        assert found == pytest.approx(3 * more, rel=0.02)


def test_two_lanes_keep_up_with_the_flash_unless_they_have_pages_to_fill():
    # a lone read takes twice its share of the link, and a missing expert is three reads at once
    on = replace(caring(), storage=device(latency_s=SLICE).storage)
    plan = plan_of(complete(scenario(dense_weights="anon", queue_depth=2), on, MIXTURE))
    assert (plan.n_together, plan.in_order) == (1, False)  # its experts are of one slice
    read = next(f for p in plan.passes[1:] for step in p.steps for f in step.fetches)

    def link(page_s: float) -> float:
        filling = replace(on, memory=replace(on.memory, fresh_page=number(page_s, "s")))
        return float(link_s(read, rates_of(filling, replace(plan, n_together=3), "raw", Factors())))

    fill = MB / 4096 * 1e-6
    assert link(1e-9) == pytest.approx(SLICE, rel=0.01)
    assert link(1e-6) == pytest.approx((2 * SLICE + fill) / 2, rel=0.01)
    # beyond that a read holds its slot longer than the link, which counts the rest
    assert link(20e-6) == pytest.approx(2 * SLICE, rel=0.03)


def test_a_missing_expert_is_as_many_reads_as_it_has_slices():
    def together(contiguous: bool) -> int:
        asked = {"dense_weights": "anon", "n_tokens": 2, "contiguous_experts": contiguous}
        return plan_of(resolve(Scenario(device="oneplus15r", model="qwen3-30b-a3b:q4_k_m", **asked))).n_together

    assert (together(False), together(True)) == (3, 1)


def test_with_all_experts_cached_only_products_are_left():
    on = caring(usable=1e9)
    point = run(MIXTURE, on, dense_weights="anon", cache_bytes=12 * MB, prompt_tokens=200, n_tokens=20)
    assert point.token_latencies_s[-1] == pytest.approx(3 * (DENSE + EXPERT))
    assert point.plan.cache_hit_ratio == pytest.approx(1.0)


def test_a_cache_past_the_ram_pays_for_hits_with_pages_from_swap():
    def mean(ram_bytes: int) -> float:
        tight = {"dense_weights": "anon", "cache_bytes": 12 * MB, "prompt_tokens": 200, "n_tokens": 20}
        point = run(MIXTURE, caring(), ram_bytes=ram_bytes, **tight)
        assert point.plan.cache_hit_ratio == pytest.approx(1.0)
        latencies = point.token_latencies_s
        return sum(latencies) / len(latencies)

    roomy, tight, tighter = mean(100 * MB), mean(9 * MB), mean(6 * MB)
    assert roomy < tight < tighter
    # at most every expert of a token comes back, page by page, and as many pages go out
    assert tighter <= roomy + 2 * 3 * MB / 4096 * 1e-6 * 1.01


def swapping(onset_bytes: float, share: float) -> Device:
    """The same device, whose system swaps out ``share`` of what it lacks to ``onset_bytes``."""
    on = caring()
    return replace(
        on,
        memory=replace(on.memory, swap_onset=number(onset_bytes, "bytes"), swap_share=number(share, "1")),
    )


def test_with_little_left_the_system_swaps_out_its_share_of_what_is_missing():
    def point(on: Device, **choices: object) -> Point:
        cached = {"cache_bytes": 12 * MB, "prompt_tokens": 60, "n_tokens": 20, "ram_bytes": 40 * MB}
        return run(MIXTURE, on, **cached | choices)

    assert SYSTEM.swapped_bytes(4 * MB) == 3 * MB
    never = point(caring(), dense_weights="anon")
    left = 40 * MB - 12 * MB - 3 * MB - never.plan.ram.kv_cache - never.plan.ram.buffers
    at_ease = point(swapping(left, 0.5), dense_weights="anon")
    assert at_ease.token_latencies_s == never.token_latencies_s
    pressed = point(swapping(left + 12 * MB, 0.5), dense_weights="anon")
    assert "6 MB of the cache; times are uncertain" in " ".join(pressed.plan.notes)
    # half of the cache is out; every expert hit there comes back and sends another out
    extra = [a - b for a, b in zip(pressed.token_latencies_s, never.token_latencies_s, strict=True)]
    per_expert = 2 * MB / 4096 * 1e-6
    assert all(round(t / per_expert, 6) in (0.0, 1.0, 2.0, 3.0) for t in extra)
    assert sum(extra) > 0
    # mapped weights are not the app's own memory: as much more is left
    mapped = point(swapping(left + 3 * MB, 0.5), dense_weights="mmap")
    assert mapped.token_latencies_s == point(caring(), dense_weights="mmap").token_latencies_s


@pytest.mark.parametrize("choice", [{}, {"speculative_gate": True}, {"drop_cold": 0.5}, {"expert_prefetch": 1}])
def test_no_read_hides_what_comes_back_from_swap(choice):
    def total(on: Device) -> float:
        asked = {"cache_bytes": 4 * MB, "prompt_tokens": 60, "n_tokens": 200, "ram_bytes": 40 * MB} | choice
        at_once = replace(on, memory=replace(on.memory, commit_bandwidth=number(1e15, "bytes_per_s")))  # hides nothing
        return sum(run(MIXTURE, at_once, dense_weights="anon", expert_overlap=True, **asked).token_latencies_s)

    n_experts = (total(swapping(60 * MB, 0.03)) - total(caring())) / (2 * MB / 4096 * 1e-6)
    assert n_experts == pytest.approx(round(n_experts), abs=1e-3)
    assert n_experts >= 1


def test_an_interval_draws_what_all_tokens_bring_from_swap():
    on = swapping(60 * MB, 0.03)
    asked = {"cache_bytes": 4 * MB, "prompt_tokens": 60, "n_tokens": 200, "ram_bytes": 40 * MB, "dense_weights": "anon"}
    one = complete(scenario(codec=MIXTURE.codec, **asked), on, MIXTURE)
    plan = plan_of(one)
    swap_s = sum(plan.passes[i].last_swap_bytes for i in plan.order[plan.n_setup :]) / 4096 * 1e-6 / 199
    once, twice = mean_latency(*latencies_at(plan, rates_at(one, plan, Factors(swap=np.array([1.0, 2.0]))), 2))
    assert twice - once == pytest.approx(swap_s, rel=1e-3)


def test_a_cache_of_no_stated_size_leaves_the_system_what_it_wants():
    def cache_bytes(on: Device) -> int:
        ram = run(MIXTURE, on, dense_weights="anon", ram_bytes=20 * MB).plan.ram
        return ram.weights - 3 * MB

    free = cache_bytes(caring())
    assert free == 12 * MB  # all experts
    spare = 20 * MB - run(MIXTURE, caring(), dense_weights="anon", ram_bytes=20 * MB).plan.ram.peak
    assert cache_bytes(swapping(spare + 5 * MB, 0.5)) == 7 * MB
    assert cache_bytes(swapping(1e9, 0.5)) == 0


def test_a_prompt_that_overflows_layer_shares_past_the_ram_is_paid_back_once():
    def latencies(ram_bytes: int) -> list[float]:
        prompted = {"cache_policy": "layer_lfu", "cache_bytes": 3 * MB, "prompt_tokens": 60, "n_tokens": 8}
        point = run(MIXTURE, caring(), ram_bytes=ram_bytes, dense_weights="anon", expert_overlap=False, **prompted)
        return list(point.token_latencies_s)

    tight, roomy = latencies(8 * MB), latencies(100 * MB)
    # none of the prompt's 9 experts is trimmed yet: all three asked for are hit, and come from swap as dense weights do
    assert tight[0] == pytest.approx(3 * (DENSE + EXPERT) + 6 * MB / 4096 * 1e-6, rel=1e-3)
    assert tight[1:] == pytest.approx(roomy[1:])


def test_a_prompt_overflows_only_shares_of_layers():
    def notes(policy: str) -> str:
        tight = {"cache_bytes": 3 * MB, "prompt_tokens": 60, "ram_bytes": 8 * MB, "dense_weights": "anon"}
        return " ".join(run(MIXTURE, caring(), cache_policy=policy, **tight).plan.notes)

    assert "overflow" in notes("layer_lfu")
    assert "overflow" in notes("layer_lru")
    assert "overflow" not in notes("lfu")


def test_dense_weights_without_room_come_back_for_every_token():
    point = run(MIXTURE, caring(), dense_weights="mmap", cache_policy="none", ram_bytes=2 * MB, expert_overlap=False)
    kv_and_buffers = point.plan.ram.kv_cache + point.plan.ram.buffers
    lost = 1 * MB + kv_and_buffers
    expected = 3 * (DENSE + SLICE + WAKING + EXPERT) + lost / 4096 * 1e-6
    assert point.token_latencies_s == pytest.approx([expected] * 4, rel=1e-2)
    assert "not even the dense weights fit" in " ".join(point.plan.notes)


def test_an_app_larger_than_the_memory_is_killed():
    with pytest.raises(InfeasibleError, match="killed"):
        run(MIXTURE, device(usable=4e6), dense_weights="anon", cache_bytes=12 * MB)


def test_experts_read_on_a_guess_cost_bytes_and_raise_hits():
    cached = {"dense_weights": "anon", "cache_bytes": 6 * MB, "n_tokens": 60}
    plain = run(MIXTURE, device(), **cached)
    guessed = run(MIXTURE, device(), speculative_gate=True, **cached)
    assert guessed.plan.cache_hit_ratio > plain.plan.cache_hit_ratio
    assert sum(guessed.timed.link_bytes) > sum(plain.timed.link_bytes)


def test_heat_is_one_thermal_mass():
    thermal = Thermal(
        number(100.0, "s"), number(0.6, "1"), number(0.5, "1"), number(40.0, "degc"), number(90.0, "degc")
    )
    assert heat_state(thermal, None, 0.0) == 0.0
    assert heat_state(thermal, 90.0, 0.0) == 1.0
    assert heat_state(thermal, 40.0, 100.0) == pytest.approx(0.6321, abs=1e-4)
    assert derated(thermal.cpu_share, 1.0) == pytest.approx(0.6)
    hot = replace(device(latency_s=1e-9), thermal=thermal)
    resolved = complete(scenario(dense_weights="anon", cache_policy="none", sustained_s=1e6), hot, MIXTURE)
    cool = complete(scenario(dense_weights="anon", cache_policy="none"), replace(hot, thermal=None), MIXTURE)
    ratio = evaluate(resolved).tokens_per_s / evaluate(cool).tokens_per_s
    assert 0.5 < ratio < 0.6  # the link at half its rate, the cores at 0.6


@pytest.mark.parametrize("choice", ["dense_weights", "expert_overlap", "speculative_gate", "routing"])
def test_a_dense_model_has_no_experts_to_stream(choice):
    value: object = {"dense_weights": "anon", "routing": "x.csv"}.get(choice, True)
    with pytest.raises(UsageError, match="no routed experts"):
        run(profile(model()), device(), **{choice: value})


def test_heat_of_a_device_that_does_not_say_is_refused():
    with pytest.raises(UsageError, match="when hot is not known"):
        run(profile(model()), device(), sustained_s=60.0)


def test_drawn_routing_is_local_and_swings_from_token_to_token():
    routing = draw_routing(48, 128, 8, 0, 200, 0)
    assert routing == draw_routing(48, 128, 8, 0, 200, 0)
    assert all(len(set(layer)) == 8 for token in routing[:5] for layer in token)
    shared = [sum(len({*a} & {*b}) for a, b in zip(x, y, strict=True)) / 48 for x, y in pairwise(routing)]
    mean = sum(shared) / len(shared)
    assert mean > 2 * 8 * 8 / 128  # independent uniform draws would share half an expert
    assert max(shared) - min(shared) > 2


def test_prompts_are_more_varied_than_what_is_written():
    def used(tokens: list[list[tuple[int, ...]]]) -> float:
        return sum(len({e for token in tokens for e in token[layer]}) for layer in range(48)) / 48

    for seed in range(3):
        routing = draw_routing(48, 128, 6, 32, 32, seed)
        assert used(routing[:32]) > 1.1 * used(routing[32:])


def test_more_tokens_leave_what_is_drawn_as_it_is():
    longer = draw_routing(4, 16, 2, 33, 70, 3)
    assert draw_routing(4, 16, 2, 33, 31, 3) == longer[: 33 + 31]
    assert draw_routing(4, 16, 2, 33, 32, 3) == longer[: 33 + 32]


def test_layout_of_the_mixture():
    assert lay_out(MIXTURE).n_experts == 4


def test_a_limit_and_what_was_found_free_are_not_given_together():
    with pytest.raises(UsageError, match="both ram_bytes and available_bytes"):
        run(MIXTURE, device(), dense_weights="anon", ram_bytes=10 * MB, available_bytes=10 * MB)


def test_experts_of_little_weight_are_left_out_unless_they_are_in_ram():
    two = profile(model(n_experts=4, top_k=2))
    all_read = run(two, device(), dense_weights="anon", cache_policy="none", expert_overlap=False)
    dropped = run(two, device(), dense_weights="anon", cache_policy="none", expert_overlap=False, drop_cold=0.5)
    assert sum(dropped.timed.link_bytes) < sum(all_read.timed.link_bytes)
    assert dropped.token_latencies_s[0] == pytest.approx(all_read.token_latencies_s[0] / 2, rel=0.35)


@pytest.mark.parametrize("lanes", [1, 3, 4, 8])
def test_how_products_are_dealt_to_steps_changes_neither_weights_nor_reads(lanes):
    def totals(**choices: object) -> tuple[int, int]:
        resolved = resolve(
            Scenario(
                device="oneplus15r", model="qwen3-30b-a3b:q4_k_m", runtime="stream", n_tokens=6, prompt_tokens=20,
                cache_bytes=2000 * MB, draws=0, **choices,  # type: ignore[arg-type]
            )
        )  # fmt: skip
        plan = plan_of(resolved)
        steps = [s for p in plan.order[plan.n_setup :] for s in plan.passes[p].steps]
        assert all(n >= 0 for s in steps for _, n in s.weight_bytes)
        return sum(n for s in steps for _, n in s.weight_bytes), sum(f.raw_bytes for s in steps for f in s.fetches)

    assert totals(expert_overlap=True, queue_depth=lanes) == totals(expert_overlap=False)
