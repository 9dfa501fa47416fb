"""``simio study compressibility`` as people type it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from command_line import simio
from safetensors.numpy import save_file

QUANTS = "int8:tensor,int8:channel,int4:group32"


def study(*words):
    return simio("study", "compressibility", *words)


def test_the_table_has_a_line_a_layout_and_says_what_is_kept(model_file):
    done = study(model_file, "--quant", QUANTS, "--codec", "raw,zstd:1", "--device", "pixel8")
    assert done.code == 0
    lines = done.out.splitlines()
    for quant in QUANTS.split(","):
        assert sum(line.strip().startswith(f"{quant} ") for line in lines) >= 2
    assert "pixel8" in done.out
    assert "each of int8:tensor, int8:channel keeps a matrix as it is" in done.out
    assert "int4:group32 keeps 2 matrices as they are" in done.out


def test_layouts_left_out_for_one_reason_are_one_line(model_file):
    done = study(model_file, "--quant", "int4:group4096,int8:group4096,awq:int4:group32,gptq:int4:group32,int8:tensor",
                 "--codec", "raw")  # fmt: skip
    lines = [line for line in done.out.splitlines() if "is left out" in line]
    assert [line.partition(" is left out")[0] for line in lines] == [
        "each of awq:int4:group32, gptq:int4:group32",
        "each of int4:group4096, int8:group4096",
    ]
    assert "it needs rows of a multiple of 4096 weights" in lines[1]


def test_json_and_the_outputs_of_a_directory_agree(model_file, tmp_path):
    out = tmp_path / "out"
    done = study(model_file, "--quant", QUANTS, "--codec", "raw,zstd:1", "--json", "-o", out)
    assert done.code == 0
    assert json.loads((out / "compressibility.json").read_text()) == done.json
    frame = pd.read_parquet(out / "compressibility.parquet")
    assert len(frame) == sum(len(row["tensors"]) for row in done.json["rows"])
    sums = frame.groupby(["quant", "codec"])[["n_weights", "raw_bytes", "stored_bytes"]].sum()
    for row in done.json["rows"]:
        for key in ("n_weights", "raw_bytes", "stored_bytes"):
            assert sums.loc[(row["quant"], row["codec"]), key] == row[key]
    assert set(frame["layer"].dropna()) == {0, 1}
    page = (out / "compressibility.html").read_text()
    for text in ("Uniform information", "Ratio by layer and role", "Codec against bound", "Plotly.newPlot", "pixel8"):
        assert text in page
    assert "<script src" not in page


def test_the_page_draws_quality_where_it_is_known(model_file):
    from dataclasses import replace

    from simio.codecs import parse as codec
    from simio.formats.opening import open_model
    from simio.quant import parse as layout
    from simio.report.compressibility_page import best_rows, render
    from simio.study.compressibility import study as run

    quantizers = [layout("int8:tensor"), layout("int8:channel")]
    found = run(open_model(model_file), quantizers, [codec("raw"), codec("zstd:1")])
    assert [row.codec for row in best_rows(found.rows)] == ["zstd:1", "zstd:1"]
    judged = replace(found, rows=tuple(replace(row, kl=0.01 * (i + 1)) for i, row in enumerate(found.rows)))
    assert "nats per token" in render(judged)
    assert "nats per token" not in render(found)
    assert "it takes no tensor" in render(
        run(open_model(model_file), [layout("int4:group4096")], [codec("raw")])
    )  # nothing to draw, and no failure


def test_one_file_by_its_suffix(model_file, tmp_path):
    done = study(model_file, "--quant", "int8:tensor", "--codec", "zstd:1", "-o", tmp_path / "a.parquet")
    assert done.code == 0
    assert [p.name for p in tmp_path.glob("a.*")] == ["a.parquet"]
    assert f"written to {tmp_path / 'a.parquet'}" in done.out


def test_a_second_run_gives_the_same_rates_because_they_are_remembered(model_file):
    words = (model_file, "--quant", QUANTS, "--codec", "zstd:1", "--json")
    assert study(*words).out == study(*words).out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--quant", "int8:tensr"], 2, "int8:tensor"),
        (["--quant", "q4k"], 3, "q4_k"),
        (["--codec", "zst:1"], 3, "zstd"),
        (["--codec", "zstd:99"], 2, "zstd:1"),
        (["--device", "pixel88"], 3, "pixel8"),
        (["--workers", "0"], 2, "at least 1"),
        (["--chunk-size", "1KiB"], 2, "4 KiB"),
        (["-o", "nowhere/at/all"], 2, "mkdir"),
        (["-o", "study.xlsx"], 2, ".parquet"),
        (["--text", "none.txt"], 2, "--text none.txt: cannot be read: No such file"),
        (["--text", "."], 2, "--text .: cannot be read: Is a directory"),
    ],
)
def test_mistakes_are_named(model_file, words, code, says):
    done = study(model_file, *words)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_files_that_cannot_be_studied(tmp_path, model_file):
    assert study(tmp_path / "none.safetensors").code == 4
    damaged = tmp_path / "cut.safetensors"
    damaged.write_bytes(model_file.read_bytes()[:-1000])
    assert study(damaged).code == 4
    assert "preset without weights" in study("llama-3.2-1b:q4_k_m").err
    save_file({"norm.weight": np.ones(8, np.float32)}, tmp_path / "norm.safetensors")
    done = study(tmp_path / "norm.safetensors")
    assert done.code == 2
    assert "no matrix" in done.err


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (0, "zeros only")]
)
def test_matrices_that_hold_nothing_to_measure_are_an_error(tmp_path, value, says):
    weights = {f"blk.{i}.attn_q.weight": np.full((64, 64), value, np.float32) for i in range(2)}
    save_file(weights, tmp_path / "none.safetensors")
    done = study(tmp_path / "none.safetensors", "--quant", "int8:tensor", "--json")
    assert (done.code, done.out) == (4, "")
    assert f"all 2 matrices hold {says}, so nothing was measured" in done.err


def test_an_output_that_cannot_be_written_is_refused_before_the_work(model_file, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/out", "file/out.json", "file/more/out.parquet"):
        done = study(model_file, "-o", tmp_path / name)
        assert done.code == 2
        assert f"{tmp_path / 'file'} is a file" in done.err


def test_a_cache_that_cannot_be_written_is_one_warning(model_file, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("SIMIO_CACHE", str(tmp_path / "cache"))
    done = study(model_file, "--quant", QUANTS, "--codec", "zstd:1", "--json")
    assert done.code == 0
    assert done.err.count("--no-cache") == 1
    assert {row["quant"] for row in done.json["rows"]} == set(QUANTS.split(","))


def test_the_help_has_an_example():
    assert "Example: simio study compressibility" in study("--help").out
    assert "compressibility" in simio("study", "--help").out
