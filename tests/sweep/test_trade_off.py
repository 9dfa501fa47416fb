"""Speed against RAM: what is on the front, what is drawn, and the page."""

import numpy as np
import pytest
from command_line import simio as run

from simio.report.trade_off_page import render
from simio.sweep import rows, trade_off
from simio.sweep.run import sweep
from simio.sweep.study import study_of

pytest.importorskip("pyarrow")
pytest.importorskip("plotly")

BASE = {"device": "pixel8", "model": "smollm2-360m:q8_0", "n_tokens": 4}


def found(vary):
    study = study_of({"scenario": BASE, "vary": vary, "check": 0}, "test")
    blocks = []
    sweep(study, jobs=1, keep=blocks.append)
    table = rows.joined(study, blocks)
    return trade_off.trade_off(study, table), table


def test_no_scenario_beats_one_of_the_front_and_each_other_one_is_beaten():
    what, table = found({"ram": "0.02GB:0.5GB:0.02GB", "codec": "raw,lz4:1", "prefetch": "0,2"})
    front = [o for o in what.offers if o.on_front]
    ram = np.array([r for r in table["peak_ram_bytes"].to_pylist() if r is not None])
    speed = np.array([s for s in table["tokens_per_s"].to_pylist() if s is not None])
    for o in front:
        assert not np.any((ram <= o.peak_ram_bytes) & (speed > o.tokens_per_s))
    for o in what.offers[len(front) :]:
        assert any(f.peak_ram_bytes <= o.peak_ram_bytes and f.tokens_per_s >= o.tokens_per_s for f in front)
    assert [o.peak_ram_bytes for o in front] == sorted(o.peak_ram_bytes for o in front)
    assert what.coloured_by == "codec"
    assert (what.n, what.n_stuck) == (table.num_rows, table.num_rows - len(speed))
    assert what.n_stuck > 0


def test_of_many_scenarios_the_front_is_drawn_whole(monkeypatch):
    vary = {"ram": "0.1GB:0.5GB:0.01GB", "device.storage.curve": "0.5x,1x"}
    everything, _ = found(vary)
    monkeypatch.setattr(trade_off, "MOST_DRAWN", 5)
    some, _ = found(vary)
    front = [o for o in everything.offers if o.on_front]
    assert list(some.offers[: len(front)]) == front
    assert len(some.offers) == len(front) + 5
    assert f"{len(some.offers)} of {some.n} are drawn" in render(some)


def test_a_page_names_scenarios_and_marks_up_nothing_of_theirs():
    what, _ = found({"ram": "0.3GB,0.4GB", "codec": "raw,byteplane(zstd:1)"})
    html = render(what)
    assert "codec = byteplane(zstd:1)" in html
    assert "smollm2-360m:q8_0 · pixel8" in html
    assert "http" not in html.split("<h2>The front")[1]


def test_where_nothing_runs_the_page_says_so():
    what, _ = found({"ram": "0.001GB,0.002GB"})
    assert "None of the 2 scenarios can run" in render(what)


def test_a_page_alone_or_beside_the_rows(tmp_path):
    words = ["sweep", *(f"--{k}={v}" for k, v in (("device", "pixel8"), ("model", BASE["model"]), ("set", "tokens=4")))]
    words += ["--vary", "ram=0.2GB,0.4GB"]
    assert run(*words, "-o", str(tmp_path / "x.html")).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]
    both = run(*words, "-o", str(tmp_path / "rows.parquet"), "--chart", str(tmp_path / "y.html"))
    assert "chart: " in both.out
    assert (tmp_path / "x.html").stat().st_size == (tmp_path / "y.html").stat().st_size
    twice = run(*words, "-o", str(tmp_path / "x.html"), "--chart", str(tmp_path / "y.html"))
    assert twice.code == 2
    assert "both pages" in twice.err
