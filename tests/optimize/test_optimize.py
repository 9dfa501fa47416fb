"""simio optimize as a whole: limits are kept, what is claimed repeats, and what it writes is what others read."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import pytest
from command_line import simio as run
from studied import choices, decoder

import simio
from simio.errors import InfeasibleError, UsageError
from simio.optimize import Goal
from simio.optimize.runtime_flags import runtime_flags
from simio.optimize.trying import Trials
from simio.records.optimum import Optimum
from simio.records.scenario import Scenario

MODEL = "llama-3.2-1b:q8_0"
MB = 10**6
TIGHT = Scenario("galaxy-s22", MODEL, ram_bytes=700 * MB, prompt_tokens=16, n_tokens=8, draws=20)


@lru_cache(maxsize=1)
def tight() -> Optimum:
    return simio.optimize(TIGHT, codec_names=("raw", "zstd:1"), time_limit_s=2.0)


def test_the_best_beats_one_codec_with_nothing_pinned_and_what_predict_chooses():
    found = tight()
    assert found.factor > 1.2
    assert found.best.tokens_per_s > found.usual.tokens_per_s
    assert found.best.ram_bytes <= 700 * MB
    assert found.baseline.ram_bytes <= 700 * MB


def test_what_is_claimed_is_what_a_prediction_says_and_simpy_finds():
    found = tight()
    assert found.sim_difference <= 1e-9
    for one in (found.best, *found.front[:3]):
        again = Trials(simio.catalog.load("galaxy-s22"))
        repeated = again.of(one.scenario) if one.plan is None else again.of_plan(one.scenario, one.plan, one.cost)
        assert repeated == one
    assert found.interval.low < found.best.tokens_per_s < found.interval.high


def test_the_bound_lies_below_everything_found_in_those_settings():
    found = tight()
    assert 0 <= found.gap < 0.3
    assert found.bound_s <= 1 / found.best.tokens_per_s


def test_nothing_on_the_front_is_beaten_in_everything():
    front = tight().front
    assert front == tuple(sorted(front, key=lambda one: -one.tokens_per_s))
    numbers = [(-c.tokens_per_s, c.ram_bytes, c.flash_bytes_per_token) for c in front]
    for i, a in enumerate(numbers):
        assert not any(all(x <= y for x, y in zip(b, a, strict=True)) for j, b in enumerate(numbers) if i != j)


def test_the_least_ram_that_keeps_a_speed():
    found = simio.optimize(
        replace(TIGHT, ram_bytes=None), goal=Goal("ram", least_tokens_per_s=3.0), codec_names=("raw",), time_limit_s=1.0
    )
    assert found.best.tokens_per_s >= 3.0
    fixed = replace(TIGHT, ram_bytes=found.best.ram_bytes * 9 // 10)
    assert simio.optimize(fixed, codec_names=("raw",), time_limit_s=1.0).best.tokens_per_s < 3.0


def test_the_least_energy_costs_no_more_than_the_fastest():
    phone = replace(TIGHT, device="pixel8")
    fast, frugal = (
        simio.optimize(phone, goal=Goal(what), codec_names=("raw", "zstd:1"), time_limit_s=1.0).best
        for what in ("p50", "energy")
    )
    assert frugal.energy_j_per_token <= fast.energy_j_per_token * 1.02
    with pytest.raises(UsageError, match=r"no \[power\] table"):
        simio.optimize(TIGHT, goal=Goal("energy"))


def test_what_is_said_is_kept():
    found = simio.optimize(TIGHT, n_threads=2, prefetch_depth=1, codec_names=("raw",), time_limit_s=1.0)
    assert (found.best.scenario.n_threads, found.best.scenario.prefetch_depth) == (2, 1)
    pinned = simio.optimize(TIGHT, runtime="stream", pinned_bytes=0, codec_names=("raw",), time_limit_s=1.0)
    assert pinned.best.plan is None
    assert pinned.best.scenario.pinned_bytes == 0
    mapped = simio.optimize(TIGHT, runtime="mmap", time_limit_s=1.0)
    assert (mapped.best.runtime, mapped.gap) == ("mmap", None)


def test_all_in_ram_where_it_fits():
    found = simio.optimize(TIGHT, ram_bytes=4000 * MB, codec_names=("raw",), time_limit_s=1.0)
    assert found.best.flash_bytes_per_token < 0.01 * found.best.stored_bytes


def test_a_mixture_gets_a_cache_of_experts():
    found = simio.optimize(
        device="oneplus15r", model="qwen3-30b-a3b:q4_k_m", runtime="stream", ram_bytes=6 * 10**9, prompt_tokens=8,
        n_tokens=8, draws=0, time_limit_s=1.0,
    )  # fmt: skip
    assert found.best.plan is None
    assert found.best.scenario.cache_policy != "none"
    assert found.best.flash_bytes_per_token < 0.5 * 1100 * MB  # what a token takes where none is cached
    assert found.factor > 1.5  # against no cache


def test_limits_that_nothing_keeps_are_an_error_that_says_how_far_it_is():
    with pytest.raises(InfeasibleError, match="the fastest is"):
        simio.optimize(TIGHT, goal=Goal(least_tokens_per_s=1e4), codec_names=("raw",), time_limit_s=1.0)


def test_the_command_writes_what_predict_reads(tmp_path):
    folder = tmp_path / "best"
    words = ["--device", "galaxy-s22", "--model", MODEL, "--ram", "700MB", "--tokens", "8", "--prompt", "16"]
    options = ["--time-limit", "1", "--codec", "raw,zstd:1", "--draws", "20", "-o", str(folder)]
    made = run("optimize", *words, *options, "--json", "--report", str(tmp_path / "page.html"))
    assert made.code == 0
    table = json.loads(made.out)
    again = run("predict", str(folder / "scenario.toml"), "--json")
    assert again.code == 0
    assert json.loads(again.out)["tokens_per_s"] == pytest.approx(table["best"]["tokens_per_s"], rel=1e-12)
    plan = json.loads((folder / "plan.json").read_text())["tensor_plan"]
    assert set(plan) == set(table["best"]["tensor_plan"])
    page = (tmp_path / "page.html").read_text()
    assert "one codec, nothing pinned" in page
    assert "http-equiv" not in page


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--device", "pixel8"], "no --model"),
        (["--device", "pixel8", "--model", MODEL, "--minimize", "speed"], "--minimize speed"),
        (["--device", "pixel8", "--model", MODEL, "--codec", "zstd:99"], "zstd"),
        (["--device", "pixel8", "--model", MODEL, "--max-p95", "fast"], "--max-p95"),
        (["--device", "pixel8", "--model", MODEL, "--quality", "q4_k"], "--quality without --study"),
        (["--device", "pixel8", "--model", MODEL, "-o", __file__], "is a file"),
        (["--device", "pixel8", "--model", MODEL, "--time-limit", "0"], "--time-limit"),
    ],
)
def test_bad_input_is_named(words, what):
    refused = run("optimize", *words)
    assert refused.code != 0
    assert what in refused.err
    assert not refused.out


def test_flags_of_llama_cpp_say_what_can_be_said():
    best = tight().best
    lines = runtime_flags(best, best.plan.model)
    assert lines[0].startswith("llama-cli --mmap")
    assert "--ctx-size 24" in lines[0]
    assert "no explicit reads" in lines[-1]


def test_ram_that_was_not_given_stays_open():
    open_ = replace(TIGHT, ram_bytes=None)
    found = simio.optimize(open_, runtime="resident", time_limit_s=1.0)
    assert found.best.scenario.ram_bytes is None
    again = simio.predict(replace(found.best.scenario, draws=TIGHT.draws), suggestions=False)
    assert again.interval == found.interval
    more = simio.optimize(open_, available_bytes=5 * 10**9, codec_names=("raw",), time_limit_s=1.0)
    assert more.best.scenario.available_bytes == 5 * 10**9


def test_a_codec_that_was_said_is_the_one_that_is_tried():
    found = simio.optimize(TIGHT, codec="zstd:1", time_limit_s=1.0)
    used = {one.codec for one in found.best.plan.plan} if found.best.plan else {found.best.scenario.codec}
    assert used <= {"raw", "zstd:1"}


def test_reading_nothing_ahead_is_kept():
    found = simio.optimize(TIGHT, prefetch_depth=0, codec_names=("raw",), time_limit_s=1.0)
    assert {one.scenario.prefetch_depth for one in (found.best, *found.front)} == {0}


def test_a_mixture_keeps_the_policy_that_was_said():
    found = simio.optimize(
        device="oneplus15r", model="qwen3-30b-a3b:q4_k_m", runtime="stream", ram_bytes=5 * 10**9, prompt_tokens=4,
        n_tokens=4, draws=0, cache_policy="lfu", cache_bytes=2 * 10**9, time_limit_s=1.0, codec_names=("zstd:1",),
    )  # fmt: skip
    assert (found.best.scenario.cache_policy, found.best.scenario.cache_bytes) == ("lfu", 2 * 10**9)
    assert "experts are read as they are stored" in found.notes[0]


def test_quantizers_are_chosen_within_the_budget_and_refused_where_no_plan_is_made():
    offered = choices(decoder(2), codecs=("raw", "zstd:1"))
    scenario = replace(TIGHT, model="llama-3.2-1b:f16")
    with pytest.raises(UsageError, match="quantizers are chosen for plans"):
        simio.optimize(scenario, choices=offered, cost_budget=1.0, pinned_bytes=0)
    with pytest.raises(UsageError, match="has no codec lz4:1"):
        simio.optimize(scenario, choices=offered, cost_budget=1.0, codec_names=("lz4:1",), time_limit_s=1.0)


def test_an_old_plan_does_not_stay_beside_a_scenario_without_one(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    words = ["--device", "galaxy-s22", "--model", MODEL, "--tokens", "4", "--prompt", "4", "--runtime", "mmap"]
    assert run("optimize", *words, "--time-limit", "1", "--draws", "0", "-o", str(tmp_path)).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scenario.toml"]
