"""Whatever a sweep evaluates together equals what ``evaluate`` says of every scenario by itself."""

import random
from itertools import pairwise

import numpy as np
import pytest

from simio.errors import SimioError
from simio.sweep import frames, loops
from simio.sweep.frames import Frame
from simio.sweep.outcome import NUMBER

pytest.importorskip("numba")

N = 24
DENSE = ("llama-3.2-1b:q4_k_m", "llama-3.2-1b:q8_0", "smollm2-360m:q8_0")
DEVICES = ("pixel8", "iphone15-pro", "framework13-hx370", "host-epyc-zen3")


def alone_or_why(frame: Frame, j: int) -> np.ndarray | str:
    try:
        return frames.row_alone(frame, j)
    except SimioError as error:
        return error.message


def assert_alike(frame: Frame) -> int:
    """Rows equal ``evaluate`` within 1e-9, reasons are its words; how many can run."""
    found = frames.run(frame)
    n_runs = 0
    for j in range(frame.n):
        alone = alone_or_why(frame, j)
        if isinstance(alone, str):
            assert found.reason[j] == alone
            assert np.isnan(found.numbers[j]).all()
            continue
        assert found.reason[j] is None
        np.testing.assert_allclose(found.numbers[j], alone, rtol=1e-9)
        assert found.runtime[j] == frames.resolved(frame, j).scenario.runtime
        n_runs += 1
    return n_runs


def numbers(rng: random.Random, low: float, high: float, whole: bool = True) -> np.ndarray:
    drawn = [rng.uniform(low, high) for _ in range(N)]
    return np.array([round(x) for x in drawn] if whole else drawn)


@pytest.mark.parametrize("seed", range(12))
def test_random_dense_frames_equal_evaluate(seed):
    rng = random.Random(seed)
    codec = rng.choice([None, "zstd:1", "fields(zstd:1)"])
    fixed = {
        "device": rng.choice(DEVICES), "model": rng.choice(DENSE), "codec": codec,
        "runtime": rng.choice(["auto", "stream"]), "n_tokens": rng.choice([2, 5, 40]),
        "prompt_tokens": rng.choice([1, 100, 250, 700]), "queue_depth": rng.choice([None, 1, 8]),
        "read_bytes": rng.choice([None, 65536, 10**6]), "n_threads": rng.choice([None, 1, 3]),
        "cache_policy": rng.choice([None, None, "none", "lru"]), "cache_form": rng.choice([None, "compressed"]),
    }  # fmt: skip
    varied = {"ram_bytes": numbers(rng, 5e7, 2.5e9)}
    choices = {
        "prefetch_depth": numbers(rng, 0, 5), "staging_bytes": numbers(rng, 1e6, 4e8),
        "pinned_bytes": numbers(rng, 0, 1.5e9), "entry_temperature_c": numbers(rng, 10, 110, whole=False),
        "sustained_s": numbers(rng, 0, 900, whole=False),
    }  # fmt: skip
    if fixed["device"] == "framework13-hx370" or fixed["device"] == "host-epyc-zen3":
        del choices["sustained_s"]  # what they do when hot is not known
    varied |= {name: choices[name] for name in rng.sample(sorted(choices), 2)}
    factors = {n: numbers(rng, 0.2, 4, whole=False) for n in rng.sample(["storage", "memory", "gemv", "threads"], 2)}
    assert_alike(Frame(N, {k: v for k, v in fixed.items() if v is not None}, (), varied, factors))


def test_some_of_a_frame_fit_some_stream_and_some_cannot_run():
    ram = np.linspace(2e7, 2.2e9, N).astype(int)
    frame = Frame(N, {"device": "pixel8", "model": "llama-3.2-1b:q8_0", "codec": "fields(zstd:1)", "n_tokens": 8}, (),
                  {"ram_bytes": ram}, {"memory": np.linspace(0.5, 2, N)})  # fmt: skip
    found = frames.run(frame)
    assert 0 < assert_alike(frame) < N
    assert {"resident", "stream", None} == set(found.runtime)
    speeds = found.numbers[:, 0][found.runtime == "stream"]
    assert all(a < b * 1.001 for a, b in pairwise(speeds))


@pytest.mark.parametrize("seed", range(6))
def test_random_mixtures_equal_evaluate(seed):
    rng = random.Random(seed)
    fixed = {
        "device": rng.choice(["oneplus15r", "framework13-hx370"]), "runtime": "stream",
        "model": rng.choice(["qwen3-30b-a3b:q4_0", "qwen3-30b-a3b:q4_k_m"]), "n_tokens": 12, "prompt_tokens": 20,
        "batch_tokens": rng.choice([8, 512]), "top_k": rng.choice([2, 6]),
        "dense_weights": rng.choice(["anon", "mmap"]),
        "expert_overlap": rng.choice([None, False]), "contiguous_experts": rng.choice([None, True]),
        "cache_policy": rng.choice([None, None, "none", "lfu"]), "queue_depth": rng.choice([1, 3, 4, 8]),
    }  # fmt: skip
    varied = {"ram_bytes": numbers(rng, 6e8, 9e9)}
    if fixed["cache_policy"] is None and rng.random() < 0.7:
        varied["cache_bytes"] = numbers(rng, 0, 7e9)
    fixed = {k: v for k, v in fixed.items() if v is not None}
    assert assert_alike(Frame(N, fixed, (), varied, {"storage": numbers(rng, 0.3, 3, whole=False)})) > 0


@pytest.mark.parametrize("dense", ["anon", "mmap"])
def test_what_the_system_swaps_before_ram_is_full_equals_evaluate(dense):
    fixed = {"device": "oneplus15r", "model": "qwen3-30b-a3b:q4_k_m", "runtime": "stream", "dense_weights": dense,
             "n_tokens": 24, "prompt_tokens": 20, "cache_bytes": 4 * 1024**3}  # fmt: skip
    ram = np.linspace(5.2e9, 6.6e9, 8).astype(np.int64)
    varied = {"ram_bytes": ram}
    frame = Frame(len(ram), fixed, (), varied, {})
    assert assert_alike(frame) == len(ram)
    speeds = frames.run(frame).numbers[:, 0]
    if dense == "anon":
        assert len(set(speeds[:6])) == 6  # some of the cache is out, less with every step, and then none
        assert speeds[-1] > 1.1 * speeds[2]


def test_one_plan_for_all_under_mmap():
    fixed = {"device": "pixel8", "model": "llama-3.2-1b:q4_k_m", "runtime": "mmap", "ram_bytes": 600_000_000}
    rng = random.Random(0)
    factors = {"storage": numbers(rng, 0.3, 3, False), "fault_overhead": numbers(rng, 1, 9, False)}
    frame = Frame(N, fixed, (), {}, factors)
    assert assert_alike(frame) == N


def test_loops_compile_once():
    assert loops.compiled() is loops.compiled()


@pytest.mark.parametrize(
    "fixed",
    [
        {"model": "llama-3.2-1b:q8_0", "codec": "zstd:1", "runtime": "stream"},
        {"model": "llama-3.2-1b:q8_0", "runtime": "resident"},
        {"model": "olmoe-1b-7b:q4_k_m", "runtime": "stream", "cache_policy": "lru"},
    ],
    ids=["streamed dense", "one plan", "streamed mixture"],
)
def test_every_kind_of_frame_knows_energy(fixed):
    varied = {"ram_bytes": np.linspace(1.5e9, 2.5e9, N).astype(int)}
    factors = {"storage": np.linspace(0.5, 2, N), "gemv": np.linspace(2, 0.5, N)}
    found = frames.run(Frame(N, {"device": "oneplus12", "n_tokens": 6, **fixed}, (), varied, factors))
    alone = frames.row_alone(Frame(N, {"device": "oneplus12", "n_tokens": 6, **fixed}, (), varied, factors), 7)
    energy = found.numbers[:, NUMBER["energy_j_per_token"]]
    assert np.all(energy > 0)
    assert energy[7] == pytest.approx(alone[NUMBER["energy_j_per_token"]], rel=1e-9)


def test_energy_is_empty_where_the_device_has_no_powers():
    fixed = {"device": "iphone15-pro", "model": "llama-3.2-1b:q8_0", "runtime": "stream"}
    found = frames.run(Frame(N, fixed, (), {"ram_bytes": np.full(N, 10**9)}, {"storage": np.linspace(0.5, 2, N)}))
    assert np.isnan(found.numbers[:, NUMBER["energy_j_per_token"]]).all()
    assert np.all(found.numbers[:, NUMBER["tokens_per_s"]] > 0)


def test_a_cache_of_no_bytes_is_none_for_its_own_scenarios_only():
    fixed = {"device": "oneplus12", "model": "olmoe-1b-7b:q4_k_m", "runtime": "stream", "n_tokens": 6}
    frame = Frame(3, fixed, (), {"cache_bytes": np.array([0, 10**9, 2 * 10**9])}, {})
    found = frames.run(frame)
    assert found.reason.tolist() == [None, None, None]
    for j in range(3):
        assert found.numbers[j, NUMBER["tokens_per_s"]] == pytest.approx(frames.row_alone(frame, j)[0], rel=1e-9)
