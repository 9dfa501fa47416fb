"""The CSV and the trace folder any program can write, as docs/measurements.md describes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simio import importers, registry
from simio.errors import MeasurementFileError, UsageError
from simio.importers.scenario_cells import FIELDS
from simio.records.scenario import Scenario

PAGE = Path(__file__).parents[2] / "docs" / "measurements.md"
EXAMPLE = re.search(r"```csv\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]


def write(tmp_path, text, name="own.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_of_the_page_is_read(tmp_path):
    first, second = importers.read(write(tmp_path, EXAMPLE))
    assert first.known == {"runtime": "mmap", "ram_bytes": 1_500_000_000, "n_threads": 4}
    assert first.mean_token_s == pytest.approx(2.21)
    assert first.bytes_per_token == 2.01e9
    assert first.repeat_of == second.repeat_of


def test_every_importer_stands_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    for name in ("simple_csv", "trace", "llama_bench", "published_runs"):
        assert name in registry.names("importers")
        assert f"| `{name}` |" in page


def test_a_spreadsheet_s_byte_order_mark_does_no_harm(tmp_path):
    assert len(importers.read(write(tmp_path, "\ufeff" + EXAMPLE))) == 2


def test_other_measurements_are_kept_and_are_no_inputs(tmp_path):
    text = "run_id,device,model,decode_tps,measured_stall_s,kind,repeat_of\nr,pixel8,llama-3.2-1b,4,0.02,mine,pair\n"
    (run,) = importers.read(write(tmp_path, text))
    assert run.counters == {"stall_s": 0.02}
    assert (run.known, run.kind, run.repeat_of) == ({}, "mine", "pair")


VALUES = {"str": "x", "int": "7", "float": "0.5", "bool": "True"}
TEXTS = {"runtime": "stream", "cache_form": "raw", "dense_weights": "warm"}
LEAST = {
    "context_tokens": "500",
    "read_bytes": "4096",
    "chunk_bytes": "4096",
    "read_ahead_bytes": "4096",
    "read_limit_bytes_per_s": "2e8",
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_of_a_scenario_is_a_column_and_stands_on_the_page(tmp_path, name):
    cell = {**TEXTS, **LEAST}.get(name, VALUES[FIELDS[name].split()[0]])
    (run,) = importers.read(write(tmp_path, f"run_id,device,model,decode_tps,{name}\nr,pixel8,llama,4,{cell}\n"))
    scenario = Scenario.from_json({"device": "d", "model": "m", **run.known})
    assert getattr(scenario, name) == run.known[name]
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("cell", "means"), [("true", True), ("1", True), ("FALSE", False), ("0", False), ("", None)])
def test_a_choice_between_two_is_true_or_false(tmp_path, cell, means):
    text = f"run_id,device,model,decode_tps,expert_overlap\nr,pixel8,llama,4,{cell}\n"
    assert importers.read(write(tmp_path, text))[0].known.get("expert_overlap") is means


@pytest.mark.parametrize(
    ("header", "cells", "says"),
    [
        ("n_thread", "4", "row 1, column n_thread: unknown column"),
        ("n_threads", "many", "row 2, column n_threads: 'many' is not a number"),
        ("n_threads", "0", "row 2, column n_threads: n_threads is 0"),
        ("runtime", "strem", "row 2, column runtime: unknown runtime 'strem'"),
        ("ram_bytes", "3GB", "row 2, column ram_bytes"),
        ("expert_overlap", "maybe", "row 2, column expert_overlap: 'maybe' is none of true, false, 1, 0"),
        ("drop_cold", "2", "row 2, column drop_cold: drop_cold is 2"),
        ("entry_temperature_c", "nan", "row 2, column entry_temperature_c"),
        ("bytes_per_token", "inf", "row 2, column bytes_per_token"),
        ("device", "x", "row 1: column device is there twice"),
    ],
)
def test_a_bad_cell_is_named_by_file_row_and_column(tmp_path, header, cells, says):
    path = write(tmp_path, f"run_id,device,model,decode_tps,{header}\nr,pixel8,llama-3.2-1b,4,{cells}\n")
    with pytest.raises(MeasurementFileError) as caught:
        importers.read(path)
    assert says in caught.value.message
    assert "own.csv" in caught.value.message


def test_a_quote_that_never_ends_is_refused(tmp_path):
    path = write(tmp_path, 'run_id,device,model,decode_tps\nr,pixel8,"llama,4\n')
    with pytest.raises(MeasurementFileError, match=r"own.csv: row \d"):
        importers.read(path)


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "\x00\x01\x02", "{}", "[1, 2]"])
def test_a_file_nobody_recognizes_is_refused(tmp_path, text):
    with pytest.raises(MeasurementFileError, match="no importer recognizes"):
        importers.read(write(tmp_path, text, "odd.bin"))


def test_a_missing_file_and_a_file_given_twice_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        importers.read(tmp_path / "none.csv")
    path = write(tmp_path, EXAMPLE)
    with pytest.raises(UsageError, match="given twice"):
        importers.read_all([path, path, path])


def test_equal_ids_of_two_files_are_told_apart(tmp_path):
    runs = importers.read_all([write(tmp_path, EXAMPLE), write(tmp_path, EXAMPLE, "again.csv")])
    assert len({run.run_id for run in runs}) == 4


META = (
    'device = "pixel8"\nmodel = "llama-3.2-1b:q4_0"\nruntime = "mmap"\nn_threads = 4\nsource = "https://example.org"\n'
)
DATA = "token,wall_s,read_bytes,stall_s\n0,0.5,100,0.1\n1,0.7,300,\n"


def trace(tmp_path, meta=META, data=DATA):
    folder = tmp_path / "slow"
    folder.mkdir()
    write(folder, meta, "meta.toml")
    write(folder, data, "data.csv")
    return folder


def test_a_trace_is_one_run_with_the_latency_of_every_token(tmp_path):
    folder = trace(tmp_path)
    (run,) = importers.read(folder)
    assert run.token_s == (0.5, 0.7)
    assert (run.bytes_per_token, run.counters) == (200, {"stall_s": 0.1})
    assert run.known == {"runtime": "mmap", "n_threads": 4}
    assert (run.run_id, run.source) == ("slow", "https://example.org")
    assert importers.read(folder / "meta.toml") == [run]


@pytest.mark.parametrize(
    ("meta", "data", "says"),
    [
        (META + "n_thread = 2\n", DATA, "meta.toml: n_thread: unknown key"),
        (META + "note = 3\n", DATA, "meta.toml: note: 3 is not text"),
        (META.replace("= 4", "= '4'"), DATA, "meta.toml: n_threads = '4' is not of type"),
        (META.replace('model = "llama-3.2-1b:q4_0"\n', ""), DATA, "meta.toml: no model"),
        ("device = [", DATA, "meta.toml: not valid TOML"),
        (META, "token,wall_s\n0,quick\n", "data.csv: row 2, column wall_s: 'quick' is not a number"),
        (META, "token,wall_s\n0,0.1\n1,\n", "data.csv: row 3, column wall_s: is empty"),
        (META, "token,ms\n0,1\n", "column wall_s is missing"),
    ],
)
def test_a_broken_trace_is_refused_with_the_place(tmp_path, meta, data, says):
    with pytest.raises(MeasurementFileError) as caught:
        importers.read(trace(tmp_path, meta, data))
    assert says in caught.value.message
