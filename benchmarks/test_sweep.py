"""What a sweep evaluates in a second on all cores, and how that compares with SimPy on the same scenarios: one run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from simio.predict.point import evaluate
from simio.profiling.host import n_usable_cpus
from simio.sim import engine
from simio.sweep import frames
from simio.sweep.block import evaluate_block
from simio.sweep.run import sweep
from simio.sweep.study import Study, study_of

TRACE = Path(__file__).parents[2] / "shared" / "traces" / "oneplus15r" / "qwen.route.csv"


def simpy_s(study: Study, n: int) -> float:
    """Mean CPU time SimPy takes for one of the scenarios, planning and timing left out. [s]"""
    numbers = np.linspace(0, study.n - 1, n).astype(int)
    timed = [evaluate(frames.resolved(frame)).timed for _, frame in study.frames(numbers)][:n]
    begun = time.process_time()
    for one in timed:
        engine.run(one)
    return (time.process_time() - begun) / len(timed)


def frame_s(study: Study, n: int) -> float:
    """Mean CPU time of one scenario out of ``n``, rows and digests included, after warm-up. [s]"""
    numbers = np.linspace(0, study.n - 1, min(n, study.n)).astype(int)
    evaluate_block(study, numbers, frozenset())
    begun = time.process_time()
    evaluate_block(study, numbers, frozenset())
    return (time.process_time() - begun) / len(numbers)


def report(what: str, study: Study, n_played: int) -> None:
    """Print rates and ratio, of this run."""
    summary = sweep(study)
    rate, cores = summary.to_json()["evaluations_per_s"], n_usable_cpus()
    played, framed = simpy_s(study, n_played), frame_s(study, 1000)
    print(f"\n{what}: {summary.n} scenarios, {rate:,.0f}/s as the machine was loaded")
    print(f"  CPU time {framed * 1e6:,.0f} µs each, {cores / framed:,.0f}/s on {cores} idle cores; SimPy "
          f"{played * 1e3:,.0f} ms: {played / framed:,.0f} times core for core, {cores * played / framed:,.0f} "
          f"with {cores} cores against its one")  # fmt: skip
    assert summary.evaluated == study.n


@pytest.mark.parametrize("model", ["llama-3.2-3b:q4_k_m", "llama-2-7b:q8_0"])
@pytest.mark.parametrize("codec", ["raw", "fields(zstd:1)"])
def test_dense_scenarios(model, codec):
    """Every layer, load, prompt and three tokens, twice: cool and as hot as that makes the phone."""
    vary = {"ram": "1GB:4GB:0.0005GB", "prefetch": "0,1,2,4"}
    scenario = {"device": "pixel8", "model": model, "codec": codec, "runtime": "stream", "tokens": 4}
    report(f"{model} {codec}", study_of({"scenario": scenario, "vary": vary, "check": 0}, "benchmark"), 4)


@pytest.mark.skipif(not TRACE.is_file(), reason="the routing trace is not here")
def test_mixtures_that_replay_a_trace(tmp_path):
    """256 tokens of Qwen3-30B-A3B: the recorded 128 twice."""
    lines = TRACE.read_text().splitlines()
    decoded = [line.split(",") for line in lines if line[:1].isdigit() and line.split(",")[1] == "1"]
    n_steps = 1 + max(int(row[2]) for row in decoded)
    again = [",".join([*row[:2], str(int(row[2]) + n_steps), *row[3:]]) for row in decoded]
    (tmp_path / "twice.csv").write_text("\n".join([*lines, *again]) + "\n")
    scenario = {
        "device": "oneplus15r", "model": "qwen3-30b-a3b:q4_k_m", "runtime": "stream", "dense_weights": "anon",
        "tokens": 257, "prompt": 28, "routing": str(tmp_path / "twice.csv"),
    }  # fmt: skip
    vary = {"ram": "3GB:8GB:0.1GB", "cache-size": "0.5GB:6GB:0.25GB"}
    report("Qwen3-30B-A3B", study_of({"scenario": scenario, "vary": vary, "check": 0}, "benchmark"), 1)
