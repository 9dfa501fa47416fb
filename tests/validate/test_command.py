"""``simio validate`` as users meet it."""

from __future__ import annotations

import pytest
from command_line import simio

CSV = """run_id,device,model,runtime,n_threads,ms_per_token,kind,repeat_of
a,pixel8,llama-3.2-1b:q4_0,resident,4,60,small,pair
b,pixel8,llama-3.2-1b:q4_0,resident,4,66,small,pair
c,pixel8,llama-3.2-3b:q4_0,resident,4,170,large,
d,no such phone,llama-3.2-3b:q4_0,resident,4,170,large,
"""
ROW = {"run_id", "measured_ms", "predicted_ms", "low_ms", "high_ms", "error", "predicted"}
SUMMARY = {
    "n", "median_abs_error", "mean_abs_error", "p90_abs_error", "max_abs_error", "coverage", "noise_floor",
    "baseline_median_abs_error",
}  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(CSV)
    return path


def test_the_json_has_the_promised_keys(runs):
    result = simio("validate", "--runs", runs, "--json")
    assert result.code == 0
    assert [row["run_id"] for row in result.json["rows"]] == ["a", "b", "c"]
    for row in result.json["rows"]:
        assert row.keys() >= ROW
        assert row["error"] == pytest.approx(row["predicted_ms"] / row["measured_ms"] - 1)
        assert row["low_ms"] <= row["predicted_ms"] <= row["high_ms"]
    (skipped,) = result.json["skipped"]
    assert skipped["run_id"] == "d"
    assert "no such phone" in skipped["reason"]
    assert result.json["summary"].keys() >= SUMMARY
    assert result.json["summary"]["n"] == 3
    assert result.json["summary"]["noise_floor"] == pytest.approx(1 - 60 / 66)
    assert result.json["summary"]["baseline_median_abs_error"] is None


def test_the_text_says_how_far_off_and_what_was_left_out(runs):
    out = simio("validate", "--runs", runs).out
    assert out.startswith("3 runs compared, 1 skipped")
    assert "80 % interval" in out
    assert "unknown device 'no such phone'" in out


def test_a_device_given_stands_for_every_run(runs):
    result = simio("validate", "--runs", runs, "--device", "galaxy-s23", "--json")
    assert {row["device"] for row in result.json["rows"]} == {"galaxy-s23"}
    assert result.json["skipped"] == []


def test_runs_are_chosen_by_kind_and_several_files_add_up(runs, tmp_path):
    assert simio("validate", "--runs", runs, "--kind", "small", "--json").json["summary"]["n"] == 2
    other = tmp_path / "other.csv"
    other.write_text(CSV)
    assert simio("validate", "--runs", runs, "--runs", other, "--json").json["summary"]["n"] == 6


def test_errors_above_the_limit_exit_with_1_after_the_output(runs):
    wrong = simio("validate", "--runs", runs, "--fail-above", "0.0001", "--json")
    assert wrong.code == 1
    assert wrong.json["summary"]["n"] == 3
    assert "--fail-above 0.0001" in wrong.err
    assert simio("validate", "--runs", runs, "--fail-above", "1000").code == 0


def test_a_limit_is_not_kept_by_comparing_nothing(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("run_id,device,model,decode_tps\na,no such phone,llama-3.2-1b,3\n")
    result = simio("validate", "--runs", path, "--fail-above", "0.5")
    assert result.code == 1
    assert "no run could be compared" in result.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--runs", "RUNS", "--host", "x.toml"), 2, "both --runs and --host"),
        (("--runs", "none.csv"), 2, "no such file"),
        (("--runs", "RUNS", "--kind", "huge"), 2, "kinds here: large, small"),
        (("--runs", "RUNS", "--fail-above", "-1"), 2, "--fail-above"),
        (("--runs", "RUNS", "--fail-above", "nan"), 2, "--fail-above"),
        (("--runs", "RUNS", "--model", "x"), 2, "--model 'x'"),
        (("--runs", "RUNS", "--device", "pixle8"), 3, "pixel8"),
        (("--runs", "RUNS", "--device", "none.toml"), 5, "none.toml"),
        (("--runs", "RUNS", "--report", "/no/such/place/r.html"), 2, "no such directory"),
        (("--runs", "RUNS", "--markdown", "/no/such/place/r.md"), 2, "no such directory"),
    ],
)
def test_bad_input_is_one_message(words, code, says, runs):
    result = simio("validate", *(str(runs) if word == "RUNS" else word for word in words))
    assert says in result.err
    assert "→" in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert result.code == code


def test_a_malformed_file_is_named_with_row_and_column(runs):
    runs.write_text(CSV.replace("170,large,\nd", "fast,large,\nd"))
    result = simio("validate", "--runs", runs)
    assert result.code == 11
    assert "runs.csv: row 4, column ms_per_token: 'fast' is not a number" in result.err


def test_the_page_shows_every_run_and_asks_nobody(runs, tmp_path):
    pytest.importorskip("plotly")
    page = tmp_path / "out.html"
    assert simio("validate", "--runs", runs, "--report", page).code == 0
    html = page.read_text(encoding="utf-8")
    for text in (
        "Predicted against measured",
        "By device",
        "By model",
        "±10 %",
        "<td>a</td>",
        "<td>c</td>",
        "no such phone",
    ):
        assert text in html
    assert "<script src" not in html


def test_the_markdown_page_names_the_command_that_writes_it(runs, tmp_path):
    page = tmp_path / "accuracy.md"
    assert simio("validate", "--runs", runs, "--kind", "small", "--markdown", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert f"`simio validate --runs {runs} --kind small --markdown {page}`" in text
    assert "strictly held out" in text
    assert "| pixel8 | 2 |" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--host", "nofile.toml", "--grid", "quick"), "nofile"),
        (("--host", "host-epyc-zen3", "--grid", "nosuch"), "nosuch"),
        (("--host", "host-epyc-zen3", "--device", "pixel8"), "--device means nothing"),
        (("--runs", "RUNS", "--grid", "quick"), "--grid means nothing"),
    ],
)
def test_a_grid_is_refused_before_anything_is_made(words, says, runs, tmp_path):
    folder = tmp_path / "grid"
    options = ("--folder", folder) if "--host" in words and "--device" not in words else ()
    result = simio("validate", *(str(runs) if word == "RUNS" else word for word in words), *options)
    assert says in result.err
    assert "Traceback" not in result.err
    assert not folder.exists()
