"""Runs of llama.cpp under a memory limit: inputs become Scenario fields, measured cells stay out."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path

import pytest

from simio import importers
from simio.errors import MeasurementFileError
from simio.importers.llamacpp_host import LlamaCppHost
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario

RUN = {
    "tag": "lim_s300-Q8_0_t1_p75_bw200", "model": "s300", "quant": "Q8_0", "file_bytes": "343492128",
    "touched_bytes_per_token": "308676128", "threads": "1", "mem_limit_bytes": "257619096",
    "limit_pct_of_file": "75", "throttle_MBps": "200", "read_ahead_kb": "8192", "ms_per_token_min": "1366",
    "ms_per_token_median": "1368.9", "ms_per_token_max": "1391", "bytes_read_per_token": "275738624",
    "foreign_cpu": "1.8", "load_s": "2.2", "n_gen": "4", "reps": "3", "note": "",
}  # fmt: skip


def read(tmp_path: Path, **changes: str) -> Measurement:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(RUN))
    writer.writeheader()
    writer.writerow(RUN | changes)
    path = tmp_path / "runs.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    return importers.read(path)[0]


def test_the_inputs_of_a_run_are_scenario_fields(tmp_path):
    run = read(tmp_path)
    assert (run.device, run.model, run.kind) == ("host-epyc-zen3", "s300:q8_0", "strict")
    assert run.known == {
        "runtime": "mmap", "n_threads": 1, "prompt_tokens": 1, "n_tokens": 12,
        "ram_bytes": 257619096, "read_limit_bytes_per_s": 2e8, "read_ahead_bytes": 8 * 1024**2,
    }  # fmt: skip
    assert run.known.keys() <= {field.name for field in fields(Scenario)}


def test_what_was_measured_is_in_si_and_not_among_the_inputs(tmp_path):
    run, other = read(tmp_path), read(tmp_path, ms_per_token_median="1", bytes_read_per_token="1", load_s="1")
    assert (run.mean_token_s, run.bytes_per_token, run.load_s) == (1.3689, 275738624, 2.2)
    assert run.counters["min_token_s"] == 1.366
    assert (other.known, other.repeat_of, other.model) == (run.known, run.repeat_of, run.model)


def test_a_tag_that_states_the_read_ahead_is_believed(tmp_path):
    assert read(tmp_path, tag="ra128_s300-Q8_0_t1_p75_bw200").known["read_ahead_bytes"] == 128 * 1024


@pytest.mark.parametrize(
    ("changes", "kind", "unsupported"),
    [
        ({"mem_limit_bytes": "", "limit_pct_of_file": "", "throttle_MBps": ""}, "in_ram", ""),
        ({"limit_pct_of_file": "90", "throttle_MBps": "400"}, "band", ""),
        ({"limit_pct_of_file": "30"}, "other", ""),
        ({"throttle_MBps": ""}, "other", "not throttled"),
        ({"throttle_MBps": "800"}, "other", "never bound"),
        ({"threads": "2"}, "other", "shared the cores"),
        ({"threads": "2", "foreign_cpu": "0.02"}, "other", ""),
    ],
)
def test_runs_are_sorted_as_their_readme_says(tmp_path, changes, kind, unsupported):
    run = read(tmp_path, **changes)
    assert run.kind == kind
    assert unsupported in run.unsupported
    assert bool(run.unsupported) == bool(unsupported)


@pytest.mark.parametrize(
    ("changes", "column"), [({"threads": "two"}, "threads"), ({"model": ""}, "model"), ({"n_gen": "0"}, "n_gen")]
)
def test_a_bad_cell_is_named_with_its_row(tmp_path, changes, column):
    with pytest.raises(MeasurementFileError, match=f"row 2, column {column}"):
        read(tmp_path, **changes)


def test_the_shared_table_is_read_whole(shared):
    path = shared / "traces" / "host-llamacpp" / "runs.csv"
    runs = LlamaCppHost.read(path)
    assert LlamaCppHost.sniff(path)
    assert len(runs) == path.read_text(encoding="utf-8").count("\n") - 1
    assert {run.known["read_ahead_bytes"] for run in runs} == {128 * 1024, 1024**2, 8 * 1024**2}
