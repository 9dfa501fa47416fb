"""Runs of BigMoeOnEdge: the index, its files of tokens, and what either of them may tell a prediction."""

from __future__ import annotations

import csv
import io
from dataclasses import fields

import pytest
from command_line import simio

from simio import importers
from simio.errors import MeasurementFileError
from simio.importers.bigmoe_runs import BigmoeRuns
from simio.records.scenario import Scenario
from simio.units import MIB

ROW = {
    "run_id": "s/qwen", "session": "s", "device": "oneplus15r", "model": "Qwen3-30B-A3B-Q4_K_M", "file_gb": "18.5",
    "engine": "stream", "top_k": "6", "cache_mib": "4000", "cache_auto": "0", "cache_budget_mib": "4000.0",
    "io_lanes": "4", "threads": "4", "overlap": "1", "prefetch": "0", "spec_gate": "0", "drop_cold": "",
    "dense_weights": "anon", "n_tokens": "3", "n_prompt": "34", "ms_mean": "240.5", "ms_steady_mean": "230",
    "ms_steady_median": "220", "ms_steady_p95": "370", "io_ms_mean": "195.9", "compute_ms_mean": "174.8",
    "stall_ms_mean": "43.7", "mib_per_token": "137.5", "hit_pct_final": "79.98", "majflt_per_token": "1188.73",
    "token_demand_mib": "784.7", "prefill_tps": "4.61", "load_s": "25.5", "cpu_temp_start_c": "42.4",
    "cpu_temp_max_c": "82.6", "mem_available_start_mib": "6054.6", "mem_available_floor_mib": "1252.0",
    "file": "tokens/qwen.csv",
}  # fmt: skip
TOKENS = """# bmoe_metrics v1
# model=/data/local/tmp/Qwen3-30B-A3B-Q4_K_M.gguf arch=qwen3moe n_expert=128 n_expert_used=6 threads=4 n_ctx=2048
# moe_stream=1 cache_mb=4000 cache_auto=0 io_threads=4 overlap=1 prefetch=0 dense_weights=anon cache_policy=layer-lfu
step,steps,wall_ms,io_ms,compute_ms,read_bytes,cache_hit_pct,stall_ms,majflt
1,3,300.5,200,130,1000,10.00,20,7
2,3,200.25,100,90,500,30.00,10,
3,3,100.25,60,50,0,50.00,0,5
# summary tokens=3 s/tok=0.2 cache_hit_pct=50.0 n_prompt=34 load_s=25 prefill_s=7
"""
HEADERLESS = "\n".join(line for line in TOKENS.splitlines() if not line.startswith(("# b", "# mo"))) + "\n"


def index(tmp_path, *rows, tokens=TOKENS):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path / "runs.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    if tokens is not None:
        (tmp_path / "tokens").mkdir(exist_ok=True)
        (tmp_path / "tokens" / "qwen.csv").write_text(tokens, encoding="utf-8")
    return path


def read_one(tmp_path, tokens=TOKENS, **cells):
    (run,) = importers.read(index(tmp_path, ROW | cells, tokens=tokens))
    return run


def alone(tmp_path, text=TOKENS):
    path = tmp_path / "alone.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_inputs_of_a_streamed_run_are_scenario_fields(tmp_path):
    run = read_one(tmp_path)
    assert (run.run_id, run.device, run.model, run.kind) == (
        "s/qwen", "oneplus15r", "Qwen3-30B-A3B-Q4_K_M", "expert_stream",
    )  # fmt: skip
    assert run.known == {
        "runtime": "stream", "top_k": 6, "n_threads": 4, "n_tokens": 3, "prompt_tokens": 34, "context_tokens": 2048,
        "entry_temperature_c": 42.4, "available_bytes": round(6054.6 * MIB), "queue_depth": 4, "expert_overlap": True,
        "dense_weights": "anon", "cache_policy": "layer_lfu", "cache_bytes": 4000 * MIB,
    }  # fmt: skip
    assert run.known.keys() <= {field.name for field in fields(Scenario)}
    assert not run.unsupported


def test_a_mapped_run_has_no_settings_of_a_stream(tmp_path):
    run = read_one(tmp_path, engine="mmap", cache_mib="0", dense_weights="mmap", mib_per_token="0", hit_pct_final="-1")
    assert run.kind == run.known["runtime"] == "mmap"
    assert not run.known.keys() & {"cache_policy", "dense_weights", "queue_depth", "expert_overlap"}
    assert run.bytes_per_token is None
    assert "hit_ratio" not in run.counters


@pytest.mark.parametrize(
    ("cells", "known"),
    [
        ({"cache_mib": "0"}, {"cache_policy": "none", "cache_bytes": None}),
        ({"cache_mib": ""}, {"cache_policy": "layer_lfu", "cache_bytes": None}),
        ({"cache_mib": "4675", "cache_auto": "1"}, {"cache_bytes": 4675 * MIB}),
        ({"cache_policy": "lfu"}, {"cache_policy": "lfu"}),
        ({"cache_policy": "layer-lru"}, {"cache_policy": "layer_lru"}),
        ({"cache_policy": ""}, {"cache_policy": "layer_lfu"}),
        ({"file": ""}, {"cache_policy": "lru", "context_tokens": None}),
        ({"overlap": "0"}, {"expert_overlap": False}),
        ({"overlap": ""}, {"expert_overlap": None}),
        ({"prefetch": "2", "spec_gate": "1"}, {"expert_prefetch": 2, "speculative_gate": True}),
        ({"prefetch": "0", "spec_gate": "0"}, {"expert_prefetch": None, "speculative_gate": None}),
        ({"drop_cold": "0.05"}, {"drop_cold": 0.05}),
        ({"drop_cold": "0"}, {"drop_cold": None}),
        ({"dense_weights": "warm"}, {"dense_weights": "warm"}),
        ({"io_lanes": "", "cpu_temp_start_c": ""}, {"queue_depth": None, "entry_temperature_c": None}),
        ({"mem_available_start_mib": ""}, {"available_bytes": None}),
        ({"cpu_temp_start_c": "-5"}, {"entry_temperature_c": -5.0}),
    ],
)
def test_each_input_means_a_field_and_an_empty_one_is_left_out(tmp_path, cells, known):
    found = read_one(tmp_path, **cells).known
    assert {name: found.get(name) for name in known} == known


def test_what_was_measured_is_in_si(tmp_path):
    run = read_one(tmp_path)
    assert run.token_s == pytest.approx((0.3005, 0.20025, 0.10025))
    assert (run.mean_token_s, run.load_s, run.prefill_tokens_per_s) == (0.2405, 25.5, 4.61)
    assert run.bytes_per_token == 137.5 * MIB
    assert run.per_token == {"read_bytes": (1000, 500, 0), "hit_ratio": pytest.approx((0.1, 0.3, 0.5))}
    wanted = {"hit_ratio": 0.7998, "major_faults_per_token": 1188.73, "p95_token_s": 0.37, "stall_s": 0.0437}
    assert {name: run.counters[name] for name in wanted} == pytest.approx(wanted)


def test_without_its_file_a_run_is_read_from_the_index(tmp_path):
    run = read_one(tmp_path, tokens=None)
    assert (run.token_s, run.mean_token_s) == ((), 0.2405)
    assert run.known["cache_policy"] == "lru"


def test_a_latency_not_recorded_leaves_the_mean_of_the_index(tmp_path):
    assert read_one(tmp_path, tokens=TOKENS.replace("200.25", "")).token_s == ()


def test_runs_of_equal_settings_repeat_each_other_however_warm_they_began(tmp_path):
    one, two, other = importers.read(
        index(
            tmp_path,
            ROW,
            ROW | {"run_id": "b", "cpu_temp_start_c": "50", "mem_available_start_mib": "4000", "ms_mean": "9"},
            ROW | {"run_id": "c", "io_lanes": "2"},
        )
    )
    assert one.repeat_of == two.repeat_of != other.repeat_of


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"ms_mean": "nan"}, "runs.csv: row 2, column ms_mean"),
        ({"ms_mean": "0"}, "runs.csv: row 2, column ms_mean"),
        ({"cache_mib": "many"}, "runs.csv: row 2, column cache_mib: 'many' is not a number"),
        ({"cache_mib": "-1"}, "runs.csv: row 2, column cache_mib"),
        ({"io_lanes": "2.5"}, "runs.csv: row 2, column io_lanes"),
        ({"overlap": "yes"}, "runs.csv: row 2, column overlap: 'yes' is none of true, false, 1, 0"),
        ({"engine": "gpu"}, "runs.csv: row 2, column engine: 'gpu' is none of mmap, stream"),
        ({"dense_weights": "gpu"}, "runs.csv: row 2, column dense_weights"),
        ({"drop_cold": "7"}, "runs.csv: row 2, column drop_cold: drop_cold is 7"),
        ({"n_tokens": "1"}, "runs.csv: row 2, column n_tokens"),
        ({"cache_policy": "arc"}, "runs.csv: row 2, column cache_policy: 'arc'"),
        ({"cache_policy": "none"}, "runs.csv: row 2, column cache_policy: is none, but cache_mib is 4000"),
        ({"hit_pct_final": "180"}, "runs.csv: row 2, column hit_pct_final"),
        ({"model": ""}, "runs.csv: row 2, column model: is empty"),
        ({"mem_available_start_mib": "0"}, "runs.csv: row 2, column mem_available_start_mib"),
    ],
)
def test_a_bad_cell_is_named_by_file_row_and_column(tmp_path, cells, says):
    with pytest.raises(MeasurementFileError) as caught:
        read_one(tmp_path, **cells)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TOKENS.replace("200.25", "nan"), "qwen.csv: row 6, column wall_ms"),
        (TOKENS.replace("200.25", "fast"), "qwen.csv: row 6, column wall_ms: 'fast'"),
        (TOKENS.replace("30.00", "300"), "qwen.csv: row 6, column cache_hit_pct"),
        (TOKENS.replace(",500,", ",-500,"), "qwen.csv: row 6, column read_bytes"),
        (TOKENS.replace("2,3,200.25,100,90,500,30.00,10,\n", ""), "row 6, column step: 2 tokens, but the summary"),
        (TOKENS[: TOKENS.index(",50,0,50.00")], "qwen.csv: row 7, column compute_ms: 4 cells under 9 columns"),
        (TOKENS[: TOKENS.index("1,3,300")], "qwen.csv: row 1: no token follows"),
        (TOKENS.replace("n_ctx=2048", "n_ctx=many"), "qwen.csv: row 5, column n_ctx: 'many'"),
        ("\x00garbage", "qwen.csv: row 1"),
        ("", "qwen.csv: row 1"),
    ],
)
def test_a_damaged_file_of_tokens_is_refused_with_the_place(tmp_path, text, says):
    with pytest.raises(MeasurementFileError) as caught:
        read_one(tmp_path, tokens=text)
    assert says in caught.value.message


def test_a_file_of_tokens_alone_takes_everything_from_its_headers(tmp_path):
    (run,) = importers.read(alone(tmp_path))
    of_index = read_one(tmp_path)
    unsaid = {"entry_temperature_c", "available_bytes"}
    assert run.known == {name: value for name, value in of_index.known.items() if name not in unsaid}
    assert (run.token_s, run.per_token, run.device) == (of_index.token_s, of_index.per_token, "")
    assert (run.bytes_per_token, run.counters["hit_ratio"]) == (500, 0.5)
    assert run.counters["major_faults_per_token"] == 6


def test_a_file_of_tokens_alone_is_predicted_for_the_device_given(tmp_path):
    skipped = simio("validate", "--runs", alone(tmp_path), "--json").json["skipped"]
    assert "give --device" in skipped[0]["reason"]
    mapped = alone(tmp_path, TOKENS.replace("moe_stream=1", "moe_stream=0"))
    (row,) = simio("validate", "--runs", mapped, "--device", "oneplus15r", "--json").json["rows"]
    assert (row["model"], row["device"]) == ("qwen3-30b-a3b:q4_k_m", "oneplus15r")
    assert row["predicted"]["runtime"] == "mmap"


def test_a_file_of_tokens_without_headers_says_what_is_missing(tmp_path):
    result = simio("validate", "--runs", alone(tmp_path, HEADERLESS), "--device", "oneplus15r", "--json")
    assert "its headers lack model, moe_stream, threads" in result.json["skipped"][0]["reason"]


def test_a_budget_chosen_while_running_is_no_input(tmp_path):
    text = TOKENS.replace("cache_mb=4000 cache_auto=0", "cache_mb=0 cache_auto=1")
    (run,) = importers.read(alone(tmp_path, text))
    assert "cache_auto" in run.unsupported


def test_a_routing_trace_says_what_it_is_for(tmp_path):
    path = tmp_path / "gemma.route.csv"
    path.write_text("# route_trace v1\n# layer=0 expert_bytes=1\ntoken,layer,e0\n0,0,1\n")
    result = simio("validate", "--runs", path)
    assert result.code == 11
    assert "not a measured run" in result.err
    assert f"--routing {path}" in result.err


def test_every_run_of_the_phone_is_read_and_its_model_is_a_preset(shared):
    from simio.models import resolve_name

    folder = shared / "traces" / "oneplus15r"
    runs = importers.read(folder / "runs.csv")
    assert BigmoeRuns.sniff(folder / "runs.csv")
    assert len(runs) == 37
    assert {resolve_name(run.model) for run in runs} == {("gemma-4-26b-a4b", "q4_k_m"), ("qwen3-30b-a3b", "q4_k_m")}
    for run in runs:
        assert len(run.token_s) == run.known["n_tokens"]
        assert sum(run.token_s) / len(run.token_s) == pytest.approx(run.mean_token_s, rel=1e-4)
        assert not run.unsupported
    policies = {run.run_id: run.known.get("cache_policy") for run in runs}
    assert policies["2026-07-20-cache-replay/qwen-lfu_a"] == "layer_lfu"


def test_every_file_of_tokens_of_the_phone_is_read_alone(shared):
    for path in sorted((shared / "traces" / "oneplus15r" / "tokens").glob("*.csv")):
        (run,) = importers.read(path)
        assert bool(run.unsupported) == (not path.read_text().startswith("# bmoe_metrics"))
