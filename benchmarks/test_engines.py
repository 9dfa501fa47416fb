"""How much faster the recurrence is than SimPy on the same plan, and what `simio predict` costs: ratios in one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from simio.analytic import compiled, recurrence
from simio.models import preset
from simio.models.statistics import profile_from_statistics
from simio.predict import evaluate, resolve
from simio.profiling.profile_file import save
from simio.records.scenario import Scenario
from simio.records.timed import TimedPlan
from simio.sim import engine
from simio.units import MIB


def streamed_8b(n_tokens: int) -> TimedPlan:
    """Llama-3.1-8B streamed on a phone; every token is a pass of its own, so that no steady state is filled in."""
    scenario = Scenario(
        device="pixel8", model="llama-3.1-8b:q4_k_m", runtime="stream", codec="fields(zstd:1)", n_tokens=n_tokens
    )
    return evaluate(resolve(scenario)).timed


def distinct_passes(timed: TimedPlan) -> TimedPlan:
    """The same run with its decode pass alternating between two equal copies: nothing repeats, all is walked."""
    p = timed.order[-1]
    first, last = timed.pass_step[p], timed.pass_step[p + 1]
    f0, f1 = timed.step_fetch[first], timed.step_fetch[last]
    n_steps, n_fetches = timed.pass_step[-1], timed.step_fetch[-1]
    copied = replace(
        timed,
        pass_step=[*timed.pass_step, n_steps + last - first],
        step_fetch=timed.step_fetch + [timed.step_fetch[s] - f0 + n_fetches for s in range(first + 1, last + 1)],
        **{
            name: getattr(timed, name) + getattr(timed, name)[first:last] for name in ("compute_s", "router_back")
        },
        **{
            name: getattr(timed, name) + getattr(timed, name)[f0:f1]
            for name in ("is_read", "link_s", "decompress_s", "n_chunks", "staging_bytes", "link_bytes")
        },
    )  # fmt: skip
    copy = len(copied.pass_step) - 2
    return replace(copied, order=[q if q != p or i % 2 else copy for i, q in enumerate(timed.order)])


def best_s(work: Callable[[], object], n: int) -> float:
    """Median of ``n`` runs. [s]"""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def test_the_recurrence_against_simpy(capsys):
    timed = distinct_passes(streamed_8b(n_tokens=12))
    prepared, n_steps, n_scratch = compiled.prepare(timed), timed.n_steps(), len(recurrence.workspace(timed))
    compiled.run_prepared(prepared, n_steps, n_scratch)  # compiles
    simpy_s = best_s(lambda: engine.run(timed), 3)
    python_s = best_s(lambda: recurrence.run(timed), 7)
    numba_s = best_s(lambda: compiled.run_prepared(prepared, n_steps, n_scratch), 50)
    assert compiled.run(timed).pass_end_s == pytest.approx(engine.run(timed).pass_end_s, rel=1e-9)
    with capsys.disabled():
        print(f"\nSimPy / recurrence in CPython: {simpy_s / python_s:7.1f}  (target 20)")
        print(f"SimPy / recurrence compiled:   {simpy_s / numba_s:7.0f}  (target 500)")


def test_a_streamed_mixture_against_simpy(capsys):
    """256 tokens of a mixture of 48 layers."""
    scenario = Scenario(
        device="oneplus15r", model="qwen3-30b-a3b:q4_k_m", runtime="stream", cache_bytes=4000 * MIB, n_tokens=257
    )
    timed = evaluate(resolve(scenario)).timed
    prepared, n_steps, n_scratch = compiled.prepare(timed), timed.n_steps(), len(recurrence.workspace(timed))
    ours = compiled.run_prepared(prepared, n_steps, n_scratch)  # compiles
    numba_s = best_s(lambda: compiled.run_prepared(prepared, n_steps, n_scratch), 20)
    start = time.perf_counter()
    theirs = engine.run(timed)
    simpy_s = time.perf_counter() - start
    with capsys.disabled():
        print(f"\nSimPy / compiled, {len(timed.order)} passes, {n_steps} steps: {simpy_s / numba_s:.0f}  (target 500)")
        difference = abs(ours.pass_end_s[-1] / theirs.pass_end_s[-1] - 1)
        print(f"difference of the makespan: {difference:.1e}  (target 0.005)")
    assert ours.pass_end_s == pytest.approx(theirs.pass_end_s, rel=1e-9)


def test_predict_against_two_imports(capsys, tmp_path):
    simio = str(Path(sys.executable).with_name("simio"))
    stored = tmp_path / "8b.simio.json"
    save(profile_from_statistics(preset("llama-3.1-8b:q4_k_m"), "fields(zstd:1)", MIB), stored)
    imports = [sys.executable, "-c", "import numpy, simpy"]
    questions = {
        "8B preset": ["--model", "llama-3.1-8b:q4_k_m"],
        "stored 8B profile": ["--model", str(stored)],
        "8B preset, stream": ["--model", "llama-3.1-8b:q4_k_m", "--runtime", "stream"],
        "8B preset, stream, codec": ["--model", "llama-3.1-8b:q4_k_m", "--runtime", "stream", "--codec", "zstd:1"],
    }

    def run(words: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - start

    for name, options in questions.items():
        words = [simio, "predict", "--device", "pixel8", *options]
        ratios = [run(words) / run(imports) for _ in range(9)]
        with capsys.disabled():
            print(f"predict ({name}) / import numpy, simpy: {statistics.median(ratios):.2f}  (target 4)")
        assert ratios
