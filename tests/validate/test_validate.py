"""Predictions beside measurements: the figures by hand, no leak of measured cells, reasons for what is left out."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path

import pytest

from simio import importers
from simio.errors import DeviceFileError, UnknownNameError
from simio.predict import predict
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario
from simio.records.validation import Comparison
from simio.validate import parts, summarize, validate
from simio.validate.compare import p95_s
from simio.validate.errors import baseline_ms, noise_floor

MEASURED = ("prefill_tps", "decode_tps", "ms_per_token", "load_s")
RUN = Measurement(
    run_id="a", device="pixel8", model="llama-3.2-1b:q4_0", known={"runtime": "resident", "n_threads": 4},
    mean_token_s=0.05, kind="in_ram",
)  # fmt: skip


def row(measured_ms, predicted_ms=100.0, low_ms=90.0, high_ms=110.0, **other):
    fields = {"run_id": "r", "device": "d", "model": "m", "kind": "k", "relation": "apart", "baseline_bytes": 1e9,
              "peer_ms": 50.0}  # fmt: skip
    return Comparison(
        measured_ms=measured_ms, predicted_ms=predicted_ms, low_ms=low_ms, high_ms=high_ms, **fields | other
    )


def test_a_prediction_is_the_one_predict_gives_for_the_inputs():
    (compared,) = validate([RUN]).rows
    p = predict(Scenario(device="pixel8", model="llama-3.2-1b:q4_0", runtime="resident", n_threads=4))
    assert compared.measured_ms == pytest.approx(50)
    assert compared.predicted_ms == 1e3 / p.tokens_per_s
    assert (compared.low_ms, compared.high_ms) == (1e3 / p.interval.high, 1e3 / p.interval.low)
    assert compared.error == pytest.approx(compared.predicted_ms / 50 - 1)
    assert compared.predicted["bytes_per_token"] == p.bytes_per_token


def test_the_latency_of_a_trace_is_its_mean():
    (compared,) = validate([replace(RUN, mean_token_s=None, token_s=(0.02, 0.06))]).rows
    assert compared.measured_ms == pytest.approx(40)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unsupported": "ran on a GPU"}, "ran on a GPU"),
        ({"mean_token_s": None}, "no decode rate was measured"),
        ({"device": "no such phone"}, "unknown device"),
        ({"model": "no such model:q4_0"}, "unknown model"),
        ({"model": "llama-3.2-1b:q99"}, "q99"),
        ({"known": {"ram_bytes": 10**8, "runtime": "resident"}}, "needs"),
        ({"known": {"runtime": "mmap", "codec": "zstd:1"}}, "cannot decompress"),
        ({"known": {"n_thread": 4}}, "n_thread"),
    ],
)
def test_a_run_that_cannot_be_predicted_is_left_out_with_the_reason(change, reason):
    result = validate([replace(RUN, **change), replace(RUN, run_id="b")])
    (skipped,) = result.skipped
    assert skipped.run_id == "a"
    assert reason in skipped.reason
    assert result.summary.n == 1


def test_another_device_and_another_model_may_stand_for_those_named():
    runs = [replace(RUN, device="my box", model="mine:q4_0")]
    assert validate(runs).summary.n == 0
    (compared,) = validate(runs, device="pixel8", model_of={"mine:q4_0": "llama-3.2-1b:q4_0"}).rows
    assert compared.predicted_ms == validate([RUN]).rows[0].predicted_ms
    with pytest.raises(UnknownNameError):
        validate(runs, device="no such phone")
    with pytest.raises(DeviceFileError):
        validate(runs, device="none.toml")


def test_a_file_that_lies_elsewhere_is_the_preset_its_name_means():
    (compared,) = validate([replace(RUN, model="/sdcard/Llama-3.2-1B-Instruct-Q4_0.gguf")]).rows
    assert compared.model == "llama-3.2-1b:q4_0"


def test_the_figures_are_those_computed_by_hand():
    rows = [row(100, high_ms=120), row(125), row(80), row(50, high_ms=None)]  # errors 0, -20 %, +25 %, +100 %
    s = summarize(rows).summary
    assert (s.n, s.median_error) == (4, pytest.approx(0.125))
    assert s.median_abs_error == pytest.approx(0.225)
    assert s.mean_abs_error == pytest.approx(1.45 / 4)
    assert s.p90_abs_error == pytest.approx(0.25 + 0.7 * 0.75)
    assert s.max_abs_error == pytest.approx(1)
    assert s.coverage == 1 / 4


def test_an_interval_without_upper_end_covers_any_slow_run():
    assert row(10**6, high_ms=None).is_covered
    assert not row(10, high_ms=None).is_covered


def test_the_noise_floor_is_the_median_over_pairs_of_repeats():
    rows = [row(100, repeat_of="x"), row(110, repeat_of="x"), row(50, repeat_of="y"), row(40, repeat_of="y"), row(9)]
    assert noise_floor(rows) == pytest.approx(((1 - 100 / 110) + 0.25) / 2)
    assert noise_floor(rows[-1:]) is None
    assert noise_floor([row(1), row(2)]) is None


def test_the_baseline_finds_a_line_that_is_there():
    rows = [row(20 + n / 1e7, baseline_bytes=n) for n in (1e9, 2e9, 3e9, 5e9)]  # C = 20 ms, 10 GB/s
    assert baseline_ms(rows) == pytest.approx([120, 220, 320, 520])
    assert summarize(rows).summary.baseline_median_abs_error == pytest.approx(0, abs=1e-9)


def test_the_baseline_never_sees_the_run_it_predicts():
    rows = [row(20 + n / 1e7, baseline_bytes=n) for n in (1e9, 2e9, 3e9, 4e9, 5e9)]
    changed = [replace(rows[0], measured_ms=9999.0), *rows[1:]]
    assert baseline_ms(changed)[0] == pytest.approx(baseline_ms(rows)[0])
    assert baseline_ms(changed)[1] != pytest.approx(baseline_ms(rows)[1])


def test_three_runs_make_no_baseline():
    assert baseline_ms([row(1), row(2), row(3)]) == [None] * 3
    assert summarize([row(1), row(2), row(3)]).summary.baseline_median_abs_error is None


def test_equal_bytes_make_the_mean_of_the_others_the_baseline():
    assert baseline_ms([row(10), row(20), row(30), row(40)])[0] == pytest.approx(30)


def test_without_runs_nothing_is_said():
    result = summarize([])
    assert result.summary.n == 0
    assert result.summary.median_abs_error is None
    assert result.to_json()["rows"] == []


def test_groups_hold_every_run_once():
    rows = [row(100, kind="a", device="p"), row(90, kind="b", device="p"), row(80, kind="b", relation="fitted")]
    result = summarize(rows)
    for groups in (result.by_kind, result.by_device, result.by_model, result.by_relation):
        assert sum(g.summary.n for g in groups) == 3
    assert {g.name: g.relation for g in result.by_kind} == {"a": "apart", "b": "mixed"}
    assert {kind: part.summary.n for kind, part in parts(result).items()} == {"b": 2, "a": 1}


@pytest.mark.parametrize(
    ("device", "source", "relation"),
    [
        ("galaxy-s23", "https://example.org", "fitted"),
        ("rubik-pi3", "https://github.com/SNU-RTOS/Flash-SLiM/blob/main/another.log", "cited"),
        ("rubik-pi3", "https://github.com/someone/else", "apart"),
        ("rubik-pi3", "", "apart"),
        ("host-epyc-zen3", "../shared/traces/host-llamacpp/runs.csv", "cited"),
        ("host-epyc-zen3", "/data/traces/another-host/runs.csv", "apart"),
    ],
)
def test_a_run_says_how_far_it_is_from_being_held_out(device, source, relation):
    known = {"runtime": "resident", "n_threads": 1}
    (compared,) = validate([replace(RUN, device=device, source=source, known=known)]).rows
    assert compared.relation == relation


def test_the_time_to_load_is_compared_where_it_was_measured():
    loaded, not_measured = validate([replace(RUN, load_s=2.0), RUN]).rows
    assert loaded.load_error == pytest.approx(loaded.predicted["load_s"] / 2.0 - 1)
    assert not_measured.load_error is None
    summary = summarize([loaded, not_measured]).summary
    assert (summary.n_loads, summary.median_abs_load_error) == (1, abs(loaded.load_error))


def test_slow_tokens_bytes_and_hits_are_compared_where_they_were_measured():
    predicted = {"p95_token_s": 0.3, "bytes_per_token": 150.0, "hit_ratio": 0.7}
    full = row(100, predicted=predicted, measured={"p95_token_s": 0.2, "bytes_per_token": 200.0, "hit_ratio": 0.75})
    other = row(100, predicted=predicted, measured={"bytes_per_token": 100.0, "hit_ratio": 0.0})
    silent = row(100, predicted=predicted, measured={"bytes_per_token": 0.0})
    assert (full.p95_error, full.bytes_error, full.hit_error) == pytest.approx((0.5, -0.25, -0.05))
    assert (silent.p95_error, silent.bytes_error, silent.hit_error) == (None, None, None)
    assert other.to_json()["hit_error"] == 0.7
    s = summarize([full, other, silent]).summary
    assert (s.n_p95, s.n_bytes, s.n_hits) == (1, 2, 2)
    assert s.median_abs_p95_error == pytest.approx(0.5)
    assert (s.median_abs_bytes_error, s.max_abs_bytes_error) == pytest.approx((0.375, 0.5))
    assert s.max_abs_hit_error == 0.7


def test_the_95th_percentile_leaves_the_first_tokens_out_where_enough_follow():
    warm_up = [9.0] * 16
    assert p95_s([*warm_up, *[1.0] * 19, 2.0]) == 1.0
    assert p95_s([*warm_up, *[1.0] * 18, 2.0, 2.0]) == 2.0
    assert p95_s([*warm_up, *[1.0] * 15]) == 9.0
    assert p95_s([0.5]) == 0.5


def test_the_95th_percentile_of_a_run_is_set_beside_that_of_its_prediction():
    p = predict(Scenario(device="pixel8", model="llama-3.2-1b:q4_0", runtime="resident", n_threads=4))
    latencies = tuple(0.04 + i / 1e4 for i in range(64))
    timed, told, silent = validate(
        [replace(RUN, token_s=latencies), replace(RUN, counters={"p95_token_s": 0.07}), RUN]
    ).rows
    assert timed.measured["p95_token_s"] == p95_s(latencies)
    assert timed.predicted["p95_token_s"] == p95_s(p.token_latencies_s)
    assert told.p95_error == pytest.approx(p95_s(p.token_latencies_s) / 0.07 - 1)
    assert silent.p95_error is None


def test_the_percentile_is_that_of_the_phone_s_index(shared):
    for run in importers.read(shared / "traces" / "oneplus15r" / "runs.csv"):
        assert p95_s(run.token_s) == pytest.approx(run.counters["p95_token_s"], rel=1e-4)


def mistreated(path: Path, target: Path) -> Path:
    """A copy of a table of runs with every measured column multiplied and dealt out anew among the rows."""
    rng = random.Random(7)
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for column in MEASURED:
        filled = [r for r in rows if r[column]]
        values = [repr(float(r[column]) * rng.uniform(0.1, 10)) for r in filled]
        rng.shuffle(values)
        for r, value in zip(filled, values, strict=True):
            r[column] = value
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return target


def test_predictions_do_not_change_with_the_measured_columns(shared, tmp_path):
    path = shared / "measured" / "runs.csv"
    before = validate(importers.read(path))
    after = validate(importers.read(mistreated(path, tmp_path / "runs.csv")))
    assert before.summary.n > 190
    assert {r.run_id for r in before.rows} == {r.run_id for r in after.rows}
    for a, b in zip(before.rows, after.rows, strict=True):
        assert (a.run_id, a.predicted_ms, a.low_ms, a.high_ms) == (b.run_id, b.predicted_ms, b.low_ms, b.high_ms)
        assert a.predicted == b.predicted
        assert (a.repeat_of, a.relation, a.baseline_bytes) == (b.repeat_of, b.relation, b.baseline_bytes)
    assert sum(a.measured_ms != b.measured_ms for a, b in zip(before.rows, after.rows, strict=True)) > 190
    assert before.skipped == after.skipped


def test_published_decode_rates_in_ram_are_met(shared):
    in_ram = [run for run in importers.read(shared / "measured" / "runs.csv") if run.kind == "in_ram"]
    result = validate(in_ram)
    assert result.summary.n > 150
    assert result.summary.median_abs_error < 0.12
    assert result.summary.baseline_median_abs_error > 2 * result.summary.median_abs_error
