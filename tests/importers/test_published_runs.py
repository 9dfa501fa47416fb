"""Published runs: settings become Scenario fields, what simio does not model is said, measured cells stay out."""

from __future__ import annotations

import csv
import io

import pytest

from simio import importers
from simio.errors import MeasurementFileError

COLUMNS = [
    "id", "kind", "device", "soc", "ram_gb", "storage", "model", "quant", "file_gb", "engine", "threads", "backend",
    "context", "ram_budget_gb", "prefill_tps", "decode_tps", "ms_per_token", "load_s", "source_url", "note",
]  # fmt: skip
RUN = {
    "id": "A1", "kind": "in_ram", "device": "Pixel 8", "model": "Llama 3.2 3B", "quant": "Q4_K_M",
    "engine": "llama.cpp", "threads": "4", "backend": "CPU", "decode_tps": "8", "ms_per_token": "125",
}  # fmt: skip


def table(tmp_path, *runs, columns=COLUMNS):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(runs)
    path = tmp_path / "runs.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def read_one(tmp_path, **cells):
    (run,) = importers.read(table(tmp_path, RUN | cells))
    return run


def test_a_run_in_ram_is_asked_with_everything_in_ram(tmp_path):
    run = read_one(tmp_path, prefill_tps="40", load_s="1.5", source_url="https://example.org/a")
    assert run.known == {"n_threads": 4, "runtime": "resident", "ram_bytes": 10**12}
    assert (run.device, run.model, run.kind) == ("Pixel 8", "Llama 3.2 3B:q4_k_m", "in_ram")
    assert run.mean_token_s == pytest.approx(0.125)
    assert (run.prefill_tokens_per_s, run.load_s, run.source) == (40, 1.5, "https://example.org/a")
    assert not run.unsupported


def test_a_rate_alone_is_enough(tmp_path):
    assert read_one(tmp_path, ms_per_token="").mean_token_s == pytest.approx(1 / 8)
    assert read_one(tmp_path, ms_per_token="", decode_tps="").mean_token_s is None


@pytest.mark.parametrize(
    ("quant", "engine", "means"),
    [
        ("W2 (Q2_K in llama.cpp)", "llama.cpp b2794", "w2"),
        ("W4 / Q4_0", "llama.cpp b2794", "q4_0"),
        ("INT4", "llama.cpp", "q4_0"),
        ("INT4", "ExecuTorch (XNNPACK)", "int4_all"),
        ("SpinQuant 4-bit g32 (8da4w)", "ExecuTorch (XNNPACK+KleidiAI)", "int4_head8"),
        ("4bit", "MNN-LLM", "int4_all"),
        ("8bit", "MNN-LLM", "int8_all"),
        ("4-bit", "PyTorch", "int4"),
        ("4-bit groupwise (256)", "ExecuTorch (XNNPACK)", "int4_all"),
        ("q8", "LiteRT (eBPF-traced)", "int8_all"),
        ("q8", "llama.cpp", "q8"),
        ("Q4_K_M (ollama default)", "ollama", "q4_k_m"),
        ("int4 gs64", "colibri", "int4_g64"),
        ("4bit", "MLX", "int4_g64"),
        ("3-bit residual VQ experts + 4/8-bit trunk", "WASTE", "vq3"),
    ],
)
def test_a_quantization_means_what_the_engine_stores(tmp_path, quant, engine, means):
    assert read_one(tmp_path, quant=quant, engine=engine).model.endswith(f":{means}")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"backend": "CUDA GPU"}, "CUDA GPU"),
        ({"backend": "CPU+NPU"}, "NPU"),
        ({"backend": ""}, "unknown backend"),
        ({"engine": "T-MAC"}, "kernels of its own"),
        ({"engine": "PowerInfer smallthinker"}, "sparsity"),
        ({"quant": ""}, "not stated"),
        ({"quant": "Q3_K_S 2.70bpw (Byteshape)"}, "2.70bpw"),
        ({"quant": "VQ4P experts"}, "VQ4P"),
        ({"kind": "flash_bound", "engine": "my engine"}, "how my engine reads"),
        ({"kind": "flash_bound", "note": "50% of FFN weights offloaded to flash"}, "share of FFN"),
    ],
)
def test_what_no_scenario_expresses_is_left_out_with_the_reason(tmp_path, cells, reason):
    assert reason in read_one(tmp_path, **cells).unsupported


def test_engines_run_by_the_authors_of_another_are_what_they_are(tmp_path):
    assert not read_one(tmp_path, engine="llama.cpp (as run by PowerInfer authors)").unsupported


def test_past_ram_llama_cpp_maps_the_file_within_the_budget(tmp_path):
    run = read_one(tmp_path, kind="flash_bound", ram_budget_gb="1")
    assert run.known == {"n_threads": 4, "runtime": "mmap", "ram_bytes": 10**9}
    assert "ram_bytes" not in read_one(tmp_path, kind="flash_bound").known


BMOE = {"kind": "flash_bound", "engine": "bmoe-cli (BigMoeOnEdge on llama.cpp)"}


@pytest.mark.parametrize(
    ("note", "known"),
    [
        ("256-tok greedy decode; mmap, no streaming; page-cache thrash", {"runtime": "mmap", "n_tokens": 256}),
        ("stream O_DIRECT, cache 0, 4 lanes; flash_MiB_per_tok=1051",
         {"cache_policy": "none", "expert_overlap": False}),
        ("cache 4000 MiB, 8 lanes, no overlap; experts_per_tok=6; cache_hit_pct=76.7",
         {"cache_bytes": 4000 * 2**20, "queue_depth": 8, "expert_overlap": False, "top_k": 6}),
        ("auto cache capped 2000 MiB + overlap", {"cache_bytes": 2000 * 2**20, "expert_overlap": True}),
    ],
)  # fmt: skip
def test_settings_of_expert_streaming_are_read_from_the_note(tmp_path, note, known):
    assert known.items() <= read_one(tmp_path, **BMOE, note=note).known.items()


def test_figures_measured_in_a_note_change_nothing(tmp_path):
    before = read_one(tmp_path, **BMOE, note="stream, cache 4000 MiB, 4 lanes; cache_hit_pct=76; flash_MiB_per_tok=225")
    after = read_one(tmp_path, **BMOE, note="stream, cache 4000 MiB, 4 lanes; cache_hit_pct=12; flash_MiB_per_tok=999")
    assert before.known == after.known
    assert before.repeat_of == after.repeat_of


def test_lengths_come_from_the_context(tmp_path):
    assert read_one(tmp_path, context="1024+512").known.items() >= {"prompt_tokens": 1024, "n_tokens": 512}.items()
    benchmark = read_one(tmp_path, context="n_ctx 2048; pp256/tg64").known
    assert benchmark.items() >= {"prompt_tokens": 1, "n_tokens": 64, "context_tokens": 2048}.items()
    flash_slim = read_one(tmp_path, context="114-token prompt, 32 tokens").known
    assert flash_slim.items() >= {"prompt_tokens": 114, "n_tokens": 32}.items()


def test_runs_with_equal_inputs_repeat_each_other_whatever_was_measured(tmp_path):
    one, two, other = importers.read(
        table(tmp_path, RUN, RUN | {"id": "A2", "ms_per_token": "300"}, RUN | {"id": "A3", "threads": "2"})
    )
    assert one.repeat_of == two.repeat_of != other.repeat_of


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"threads": "four"}, "row 2, column threads: 'four' is not a number"),
        ({"threads": "2.5"}, "row 2, column threads: 2.5 is not a whole number"),
        ({"threads": "0"}, "row 2, column threads"),
        ({"decode_tps": "-3"}, "row 2, column decode_tps"),
        ({"ms_per_token": "nan"}, "row 2, column ms_per_token"),
        ({"ms_per_token": "0"}, "row 2, column ms_per_token: is 0"),
        ({"ram_budget_gb": "8G"}, "row 2, column ram_budget_gb"),
        ({"kind": "guess"}, "row 2, column kind: 'guess' is none of in_ram"),
        ({"device": ""}, "row 2, column device: is empty"),
        ({"id": " "}, "row 2, column id: is empty"),
    ],
)
def test_a_bad_cell_is_named_by_file_row_and_column(tmp_path, cells, says):
    with pytest.raises(MeasurementFileError) as caught:
        importers.read(table(tmp_path, RUN | cells))
    assert says in caught.value.message
    assert "runs.csv" in caught.value.message


def test_an_id_used_twice_is_refused(tmp_path):
    with pytest.raises(MeasurementFileError, match="row 3, column id: 'A1' was used before"):
        importers.read(table(tmp_path, RUN, RUN))


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(MeasurementFileError, match="column quant is missing"):
        importers.read(table(tmp_path, RUN, columns=[c for c in COLUMNS if c != "quant"]))


def test_a_row_of_another_length_is_refused(tmp_path):
    path = table(tmp_path, RUN)
    path.write_text(path.read_text() + "A2,in_ram,Pixel 8\n")
    with pytest.raises(MeasurementFileError, match="row 3, column soc: 3 cells under 20 columns"):
        importers.read(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = table(tmp_path, RUN)
    path.write_bytes(path.read_bytes() + b"\xff\xfe")
    with pytest.raises(MeasurementFileError, match="not UTF-8"):
        importers.read(path)


def test_every_published_run_is_read(shared):
    path = shared / "measured" / "runs.csv"
    with path.open(encoding="utf-8") as file:
        n_rows = sum(1 for _ in csv.DictReader(file))
    runs = importers.read(path)
    assert len(runs) == n_rows
    assert sum(not run.unsupported for run in runs) > 190


@pytest.mark.parametrize(
    ("cells", "known"),
    [
        (
            {"engine": "colibri v1.0", "ram_budget_gb": "20"},
            {"ram_bytes": 20 * 10**9, "prefetch_depth": 0, "cache_policy": "lru", "pinned_fraction": 1.0},
        ),
        ({"engine": "colibrì", "note": "PIPE=1, 8 workers"}, {"prefetch_depth": 1}),
        ({"engine": "WASTE (README run)", "ram_budget_gb": "46.25"}, {"ram_bytes": 185 * 2**28, "prefetch_depth": 1}),
        ({"engine": "WASTE (synchronous reads)"}, {"prefetch_depth": 0}),
        ({"engine": "WASTE (cache 1 GB)", "ram_budget_gb": "1"}, {"ram_bytes": 10**12, "cache_bytes": 2**30}),
        (
            {"engine": "WASTE", "ram_budget_gb": "2", "note": "expert-cache budget; 805 slots"},
            {"ram_bytes": 10**12, "cache_bytes": 2**31},
        ),
    ],
)
def test_engines_that_stream_experts_pin_the_rest_and_cache_what_their_budget_leaves(tmp_path, cells, known):
    run = read_one(tmp_path, kind="flash_bound", **cells)
    assert not run.unsupported
    assert run.known["runtime"] == "stream"
    assert known.items() <= run.known.items()


def test_a_stated_drive_limits_reads(tmp_path):
    cells = RUN | {"kind": "flash_bound", "storage_read_MBps": "940"}
    (run,) = importers.read(table(tmp_path, cells, columns=[*COLUMNS, "storage_read_MBps"]))
    assert run.known["read_limit_bytes_per_s"] == 940_000_000
