"""Studies end to end: axes, rows, resuming, locks, engines, workers that die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from simio.errors import UnknownNameError, UsageError
from simio.sweep import block
from simio.sweep.axes import parse_axis
from simio.sweep.results import Results
from simio.sweep.run import sweep
from simio.sweep.study import study_of

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("numba")

SIMIO = [sys.executable, "-m", "simio", "sweep"]
BASE = {"device": "pixel8", "model": "smollm2-360m:q8_0", "n_tokens": 4}


def study(**table):
    vary = table.pop("vary", {"ram": "0.02GB:0.42GB:0.02GB", "prefetch": [0, 1, 2], "codec": ["raw", "lz4:1"]})
    return study_of({"scenario": BASE | table.pop("scenario", {}), "vary": vary, "check": 2, **table}, "test")


def rows(path):
    parts = [path] if path.is_file() else sorted(path.glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def test_axes_read_lists_points_ranges_and_codecs_with_commas():
    assert parse_axis("codec=raw,byteplane(zstd:1),zstd:1", None).values == ("raw", "byteplane(zstd:1)", "zstd:1")
    assert parse_axis("ram=1GB:2GB:0.5GB", None).values == (10**9, 15 * 10**8, 2 * 10**9)
    assert parse_axis("pin=0%,50%", None).name == "pinned_fraction"
    sampled = parse_axis("device.storage.curve=0.5x:2x", None)
    assert (sampled.is_range, sampled.is_factor, sampled.low, sampled.high) == (True, True, 0.5, 2.0)


@pytest.mark.parametrize(
    "text", ["ram", "ram=", "rum=1GB", "model=nosuch:q8_0", "codec=raw,nosuch", "device=nosuch", "ram=1:2:0.5",
             "ram=2GB:1GB:1GB", "prefetch=1,1", "prefetch=0.5",
             "device.memory.nothing=1x", "device.storage.curve=3GB/s", "ram=1GB:2GB:0GB", "ram=1GB:2GB"],
)  # fmt: skip
def test_what_cannot_be_varied_is_refused(text):
    name, _, values = text.partition("=")
    with pytest.raises((UsageError, UnknownNameError)) as error:
        study(vary={name: values})
    assert error.value.hint is not None


def test_rows_hold_scenario_prediction_bounds_and_versions(tmp_path):
    found = sweep(study(), tmp_path / "rows.parquet", jobs=1)
    table = rows(tmp_path / "rows.parquet")
    assert len(table) == found.n == 126
    assert len({row["digest"] for row in table}) == 126
    assert {row["codec"] for row in table} == {"raw", "lz4:1"}
    runs = [row for row in table if row["reason"] is None]
    assert 0 < found.infeasible == len(table) - len(runs)
    assert all(row["bound_lower_s"] <= row["run_s"] * (1 + 1e-9) for row in runs)
    assert all(row["run_s"] <= row["bound_upper_s"] * (1 + 1e-9) for row in runs)
    assert all(row["tokens_per_s"] is None for row in table if row["reason"] is not None)
    assert found.best["tokens_per_s"] == max(row["tokens_per_s"] for row in runs)
    assert found.largest_difference < 1e-9


def test_frames_one_by_one_and_simpy_give_the_same_rows(monkeypatch):
    vary = {"ram": "0.2GB,0.3GB", "device.cpu.gemv": "0.5x,1x", "device.memory.read_bandwidth": "20GB/s,40GB/s"}
    plan = study(vary=vary)
    numbers = np.arange(plan.n)
    alone = block.evaluate_block(plan, numbers, frozenset()).outcome.numbers
    monkeypatch.setattr(block, "FEW", 0)
    together = block.evaluate_block(plan, numbers, frozenset()).outcome.numbers
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    played = study_of({"scenario": BASE, "vary": {"ram": "0.2GB,0.3GB"}, "engine": "sim"}, "test")
    quick = study_of({"scenario": BASE, "vary": {"ram": "0.2GB,0.3GB"}}, "test")
    both = [block.evaluate_block(s, np.arange(2), frozenset()) for s in (played, quick)]
    np.testing.assert_allclose(both[0].outcome.numbers, both[1].outcome.numbers, rtol=1e-9)
    assert not set(both[0].digests.tolist()) & set(both[1].digests.tolist())


def test_a_latin_hypercube_has_one_sample_in_every_stratum():
    plan = study(vary={"ram": "0.2GB:0.4GB", "device.storage.curve": "0.5x:2x", "prefetch": "0,1,2,3"}, samples=40)
    values = plan.values(np.arange(40))
    strata = np.floor((values["ram_bytes"] - 2e8) / 2e8 * 40).astype(int)
    assert sorted(np.minimum(strata, 39).tolist()) == list(range(40))
    assert np.bincount(values["prefetch_depth"]).tolist() == [10] * 4


def test_going_on_skips_what_is_done_and_loses_nothing(tmp_path, monkeypatch):
    plan, out = study(), tmp_path / "rows"

    def stop(done, total):
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(plan, out, jobs=1, progress=stop)
    kept = len(rows(out))
    assert 0 < kept < plan.n
    found = sweep(plan, out, jobs=1)
    assert (found.skipped, found.evaluated) == (kept, plan.n - kept)
    table = rows(out)
    assert len(table) == len({row["digest"] for row in table}) == plan.n
    assert sweep(plan, out, jobs=1).evaluated == 0


def test_a_wider_study_evaluates_only_what_is_new(tmp_path):
    sweep(study(vary={"ram": "0.3GB,0.4GB"}), tmp_path / "rows")
    found = sweep(study(vary={"ram": "0.3GB,0.4GB,0.5GB"}), tmp_path / "rows")
    assert (found.skipped, found.evaluated) == (2, 1)


def test_two_sweeps_into_one_directory_are_refused(tmp_path):
    with Results(tmp_path / "rows", study()), pytest.raises(UsageError, match="another sweep is writing"):
        sweep(study(), tmp_path / "rows", jobs=1)


def test_processes_give_the_rows_of_one_process_in_order(tmp_path):
    plan = study(vary={"ram": "0.1GB:0.5GB:0.001GB"})
    sweep(plan, tmp_path / "one", jobs=1)
    sweep(plan, tmp_path / "two", jobs=2)
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def test_an_interrupt_from_the_keyboard_keeps_what_is_done(tmp_path):
    words = [*SIMIO, "--device", "pixel8", "--model", "smollm2-360m:q8_0", "--set", "tokens=8", "--vary",
             "ram=0.1GB:0.5GB:0.00005GB", "--vary", "prefetch=0:15:1",
             "-j", "2", "-o", str(tmp_path / "rows")]  # fmt: skip
    running = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while running.poll() is None and time.monotonic() < deadline and not list(Path(tmp_path).glob("rows/part-*")):
        time.sleep(0.2)
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted" in said
    table = pq.read_table(sorted((tmp_path / "rows").glob("part-*"))[0], columns=["digest"])
    assert table.num_rows > 0


def test_a_study_file_and_json(tmp_path):
    text = '[scenario]\ndevice = "pixel8"\nmodel = "smollm2-360m:q8_0"\ntokens = 4\n[vary]\nram = "0.3GB,0.4GB"\n'
    (tmp_path / "study.toml").write_text(text + 'device.storage.curve = ["0.5x", "1x"]\n')
    words = [*SIMIO, str(tmp_path / "study.toml"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    table = json.loads(done.stdout)
    assert {"n", "seconds", "evaluations_per_s", "best"} <= set(table)
    assert table["n"] == 4
    assert table["best"]["device.storage.curve.factor"] in (0.5, 1.0)


def test_help_stays_light():
    heavy = "numba", "pandas", "pyarrow", "distributed", "dask", "scipy"
    code = f"import sys, simio.cli; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
