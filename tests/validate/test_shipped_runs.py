"""The measured runs simio comes with: read by its own importer, from where an install has them, each with a source."""

from __future__ import annotations

from dataclasses import replace

import pytest
from command_line import simio

from simio import catalog, importers, models, paths
from simio.importers import simple_csv
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario
from simio.validate.compare import catalogued

FILES = sorted(paths.data_dir("traces").rglob("runs.csv"))
RUN = Measurement(
    run_id="a", device="pixel8", model="llama-3.2-1b:q4_0",
    known={"runtime": "stream", "n_threads": 4, "expert_overlap": True, "drop_cold": 0.1, "dense_weights": "warm"},
    mean_token_s=0.05, load_s=2.0, bytes_per_token=1e9, counters={"hit_ratio": 0.5}, kind="k", source="https://a.org",
    note="two, words",
)  # fmt: skip


def test_there_are_two_tables():
    assert [path.parent.name for path in FILES] == ["oneplus15r", "published"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_shipped_run_can_be_asked_and_says_where_it_comes_from(path):
    for run in importers.read(path):
        Scenario.from_json({**run.known, "device": run.device, "model": run.model})
        assert catalog.load(run.device).id == run.device
        assert ":".join(filter(None, models.resolve_name(run.model))) == run.model
        assert run.source.startswith("https://")
        assert run.mean_token_s is not None


def test_the_runs_of_the_phone_are_those_measured(shared):
    shipped = {run.run_id: run for run in importers.read(FILES[0])}
    for run in importers.read(shared / "traces" / "oneplus15r" / "runs.csv"):
        other = shipped[run.run_id]
        assert (other.known, other.bytes_per_token) == (run.known, pytest.approx(run.bytes_per_token))
        assert other.mean_token_s == pytest.approx(sum(run.token_s) / len(run.token_s))
        assert other.counters == pytest.approx(run.counters | {"p95_token_s": other.counters["p95_token_s"]})


def test_runs_survive_the_simple_csv(tmp_path):
    path = tmp_path / "runs.csv"
    runs = [replace(RUN, repeat_of="long"), replace(RUN, run_id="b", repeat_of="long"), replace(RUN, run_id="c")]
    path.write_text(simple_csv.to_text(runs, "MIT"), encoding="utf-8")
    one, two, other = importers.read(path)
    assert replace(one, repeat_of="long") == runs[0]
    assert one.repeat_of == two.repeat_of != other.repeat_of


def test_what_a_row_cannot_say_has_none():
    runs = [replace(RUN, mean_token_s=None), replace(RUN, unsupported="on a GPU")]
    assert simple_csv.to_text(runs).count("\n") == 1
    with pytest.raises(ValueError, match="n_thread"):
        simple_csv.to_text([replace(RUN, known={"n_thread": 4})])


def test_runs_get_the_names_of_the_catalogue():
    known = replace(RUN, device="Pixel 8", model="Llama 3.2 1B Instruct:Q4_0", token_s=(0.1, 0.3))
    unknown = [replace(RUN, device="no such phone"), replace(RUN, model="none"), replace(RUN, device="")]
    (found,) = catalogued([known, *unknown])
    assert (found.device, found.model, found.counters["p95_token_s"]) == ("pixel8", "llama-3.2-1b:q4_0", 0.3)


@pytest.mark.parametrize("name", ["saved.csv", "saved.json"])
def test_runs_that_were_read_are_saved_for_the_next_time(tmp_path, name):
    path, saved = tmp_path / "own.csv", tmp_path / name
    path.write_text(simple_csv.to_text([replace(RUN, known={"runtime": "resident", "n_threads": 4})]))
    first = simio("validate", "--runs", path, "--save-runs", saved, "--json").json
    again = simio("validate", "--runs", saved, "--json").json
    assert first["summary"]["n"] == 1
    assert again == first


def test_without_runs_those_simio_comes_with_are_validated():
    result = simio("validate", "--kind", "load_time", "--json")
    assert result.code == 0
    assert {row["kind"] for row in result.json["rows"]} == {"load_time"}


def test_without_traces_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("simio.cli.validate.data_dir", lambda _: tmp_path)
    result = simio("validate")
    assert result.code == 2
    assert "no traces are installed" in result.err
