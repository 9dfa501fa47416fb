"""llama-bench's JSON and JSONL."""

from __future__ import annotations

import json

import pytest

from simio import importers
from simio.errors import MeasurementFileError

TEST = {
    "build_commit": "0c1e570", "cpu_info": "AMD EPYC", "backends": "CPU", "model_filename": "llama-3.2-1b-q4_0.gguf",
    "model_type": "llama 1B Q4_0", "n_ubatch": 512, "n_threads": 4, "type_k": "f16", "type_v": "f16",
    "n_gpu_layers": -1, "n_prompt": 0, "n_gen": 32, "n_depth": 0, "test_time": "2026-11-22T14:16:45Z",
    "avg_ns": 1_600_000_000, "stddev_ns": 32_000_000, "samples_ns": [1_600_000_000],
}  # fmt: skip


def read(tmp_path, *tests, name="bench.json"):
    path = tmp_path / name
    if name.endswith(".jsonl"):
        path.write_text("\n".join(json.dumps(t) for t in tests) + "\n")
    else:
        path.write_text(json.dumps(list(tests), indent=1))
    return importers.read(path)


def test_a_test_of_generation_is_a_decode_measurement(tmp_path):
    (run,) = read(tmp_path, TEST)
    assert run.mean_token_s == pytest.approx(0.05)
    assert run.counters == {"stddev_token_s": pytest.approx(0.001)}
    assert (run.device, run.model) == ("AMD EPYC", "llama-3.2-1b-q4_0.gguf")
    expected = {"n_threads": 4, "prompt_tokens": 1, "n_tokens": 32, "batch_tokens": 512, "kv_bytes_per_value": 2.0}
    assert run.known == expected


def test_lines_of_objects_are_read_as_well(tmp_path):
    prefill = TEST | {"n_prompt": 512, "n_gen": 0, "avg_ns": 4_000_000_000}
    decode, prompt = read(tmp_path, TEST, prefill, name="bench.jsonl")
    assert decode.mean_token_s == pytest.approx(0.05)
    assert prompt.mean_token_s is None
    assert prompt.prefill_tokens_per_s == pytest.approx(128)
    assert decode.run_id != prompt.run_id


def test_depth_kv_type_and_loading_are_inputs(tmp_path):
    (run,) = read(tmp_path, TEST | {"n_depth": 4096, "type_k": "q8_0", "type_v": "q8_0", "use_mmap": False})
    wanted = {"prompt_tokens": 4096, "kv_bytes_per_value": 34 / 32, "runtime": "resident"}
    assert wanted.items() <= run.known.items()


def test_times_are_no_inputs(tmp_path):
    (one,) = read(tmp_path, TEST)
    (two,) = read(tmp_path, TEST | {"avg_ns": 9, "stddev_ns": 1, "samples_ns": [9], "avg_ts": 1e9})
    assert one.known == two.known
    assert one.repeat_of == two.repeat_of


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"backends": "CUDA", "n_gpu_layers": 99}, "CUDA"),
        ({"n_prompt": 512, "n_gen": 128}, "timed together"),
        ({"type_k": "tq9"}, "tq9"),
    ],
)
def test_what_simio_does_not_model_is_left_out_with_the_reason(tmp_path, fields, reason):
    (run,) = read(tmp_path, TEST | fields)
    assert reason in run.unsupported


def test_a_gpu_build_without_offloaded_layers_is_a_cpu_run(tmp_path):
    (run,) = read(tmp_path, TEST | {"backends": "Metal,BLAS", "n_gpu_layers": 0})
    assert not run.unsupported


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"avg_ns": "fast"}, "row 2, column avg_ns: 'fast' is not a number"),
        ({"avg_ns": -1}, "row 2, column avg_ns"),
        ({"n_threads": 0}, "row 2, column n_threads"),
        ({"n_gen": 1.5}, "row 2, column n_gen: 1.5 is not a whole number"),
        ({"model_filename": 7}, "row 2, column model_filename"),
    ],
)
@pytest.mark.parametrize("name", ["bench.json", "bench.jsonl"])
def test_a_bad_field_is_named(tmp_path, fields, says, name):
    with pytest.raises(MeasurementFileError) as caught:
        read(tmp_path, TEST, TEST | fields, name=name)
    assert says in caught.value.message
    assert name in caught.value.message


def test_output_that_was_cut_off_is_refused_with_the_place(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps([TEST], indent=1)[:-200])
    with pytest.raises(MeasurementFileError, match=r"cut.json: row \d+, column \d+: not JSON"):
        importers.read(path)


def test_real_output_is_read(shared):
    files = sorted((shared / "traces" / "host-llamacpp" / "llama_bench").glob("*.json"))
    runs = importers.read_all(files)
    assert [run.known["n_threads"] for run in runs] == [1] * len(files)
    assert runs[0].mean_token_s == pytest.approx(0.981350686 / 32)
