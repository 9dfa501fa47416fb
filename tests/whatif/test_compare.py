"""simio compare: the words people type, draws that are paired where they should be, and what cannot run."""

from __future__ import annotations

import pytest
from command_line import simio as run

import simio
from simio import catalog, codecs, models
from simio.records.scenario import RUNTIMES
from simio.whatif.words import fields_of

MODEL = "llama-3.2-1b:q8_0"
TIGHT = {"model": MODEL, "runtime": "stream", "ram_bytes": 600_000_000}


def test_intervals_are_those_of_predict():
    found = simio.compare("pixel8", "galaxy-s24", **TIGHT)
    for contender in found.contenders:
        alone = simio.predict(contender.scenario, suggestions=False)
        assert contender.prediction.interval == alone.interval
        assert contender.prediction.token_latency_s == alone.token_latency_s


def test_one_device_meets_the_same_draws_and_two_do_not(tmp_path):
    copy = tmp_path / "other.toml"  # the same phone to the last digit, under another name
    text = catalog.find("pixel8").read_text(encoding="utf-8").replace('id = "pixel8"', 'id = "other"')
    copy.write_text(text, encoding="utf-8")
    shared = simio.compare({"queue_depth": 4}, {"queue_depth": 2}, device="pixel8", **TIGHT).odds[0]
    apart = simio.compare("pixel8", str(copy), **TIGHT).odds[0]
    assert shared.same_draws
    assert not apart.same_draws
    assert shared.high / shared.low < 1.2  # of two settings of one phone: what the phone is cancels
    assert apart.high / apart.low > 1.5  # of two phones: it does not
    assert 0.4 < apart.share < 0.6


def test_a_clear_winner_wins_every_draw_and_both_orders_agree():
    first = simio.compare(
        {"ram_bytes": 10**9}, {"ram_bytes": 3 * 10**8}, device="pixel8", model=MODEL, runtime="stream"
    )
    second = simio.compare({"ram_bytes": 3 * 10**8}, {"ram_bytes": 10**9}, device="pixel8", model=MODEL,
                           runtime="stream")  # fmt: skip
    assert first.odds[0].share == 1
    assert second.odds[0].share == 0
    assert first.odds[0].ratio == pytest.approx(1 / second.odds[0].ratio)


def test_equal_things_are_even():
    odds = simio.compare("pixel8", "Pixel 8", **TIGHT).odds[0]
    assert odds.ratio == 1
    assert 0.4 < odds.share < 0.6


def test_without_draws_the_values_decide():
    odds = simio.compare("raw", "raw", device="pixel8", draws=0, **TIGHT).odds[0]
    assert (odds.share, odds.n_draws) == (0.5, 0)


def test_what_cannot_run_takes_part():
    found = simio.compare({"ram_bytes": 10**9}, {"ram_bytes": 10**7}, device="pixel8", model=MODEL, runtime="stream")
    assert found.contenders[1].prediction is None
    assert "RAM" in found.contenders[1].problem
    assert (found.odds[0].share, found.odds[0].ratio) == (1, None)


def test_no_word_means_two_things():
    kinds = [set(catalog.names()), set(models.preset_names()), set(codecs.names()), set(RUNTIMES)]
    assert sum(map(len, kinds)) == len(set.union(*kinds))


@pytest.mark.parametrize(("word", "field"), [("pixel8", "device"), ("Galaxy S24", "device"), ("zstd:1", "codec"),
                                             ("byteplane(zstd:1)", "codec"), ("stream", "runtime"),
                                             ("llama-3.2-1b:q4_0", "model")])  # fmt: skip
def test_a_word_is_found(word, field):
    assert fields_of(word) == {field: word}


def test_a_saved_scenario_is_a_word(tmp_path):
    saved = tmp_path / "s.toml"
    assert run("predict", "--device", "pixel8", "--model", MODEL, "--draws", "20", "--save-scenario", saved).code == 0
    result = run("compare", saved, "galaxy-s24", "--model", MODEL, "--draws", "20", "--json")
    assert result.code == 0
    assert [c["scenario"]["device"] for c in result.json["contenders"]] == ["pixel8", "galaxy-s24"]


def test_options_given_several_times_are_combined():
    result = run("compare", "--device", "pixel8", "--model", MODEL, "--runtime", "stream", "--codec", "raw", "--codec",
                 "zstd:1", "--ram", "1GB", "--ram", "600MB", "--draws", "20", "--json")  # fmt: skip
    assert result.code == 0
    labels = [c["label"] for c in result.json["contenders"]]
    assert labels == ["raw · 1 GB", "raw · 600 MB", "zstd:1 · 1 GB", "zstd:1 · 600 MB"]
    assert len(result.json["odds"]) == 6
    assert {"first", "second", "share", "ratio", "low", "high", "n_draws", "same_draws"} == result.json["odds"][
        0
    ].keys()


def test_the_text_names_the_winner():
    result = run("compare", "raw", "zstd:1", "--device", "pixel8", "--model", MODEL, "--runtime", "stream", "--ram",
                 "1GB")  # fmt: skip
    assert result.code == 0
    assert "raw is faster than zstd:1 in" in result.out
    assert "same draws of their device" in result.out


def test_the_page_is_one_file(tmp_path):
    page = tmp_path / "c.html"
    words = ("pixel8", "galaxy-s24", "--model", MODEL, "--draws", "20")
    assert run("compare", *words, "--report", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert "galaxy-s24" in text
    assert "<link" not in text


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "nothing to compare"),
        (("pixel8",), 2, "one thing to compare"),
        (("--device", "pixel8", "--model", MODEL), 2, "nothing to compare"),
        (("pixle8", "pixel9", "--model", MODEL), 3, "pixel8"),
        (("zsdt:1", "raw", "--device", "pixel8", "--model", MODEL), 3, "zstd"),
        (("zstd:99", "raw", "--device", "pixel8", "--model", MODEL), 2, "zstd has no level 99"),
        (("llama-3.2-1b:q4_q", MODEL, "--device", "pixel8"), 3, "q4_q"),
        (("pixel8", "pixel9"), 2, "names no model"),
        (("raw", "lz4:1", "--model", MODEL), 2, "names no device"),
        (("pixel8", "pixel9", "--device", "pixel8", "--model", MODEL), 2, "given as the device of all"),
        (
            ("pixel8", "pixel9", "--codec", "raw", "--codec", "zstd:1", "--model", MODEL),
            2,
            "several times beside words",
        ),
        (("missing.toml", "pixel8", "--model", MODEL), 2, "missing.toml: no such scenario"),
        (("", "pixel8", "--model", MODEL), 2, "nothing to compare"),
        (("pixel8", "pixel9", "--model", MODEL, "--ram", "3"), 2, "--ram '3'"),
        (("pixel8", "pixel9", "--model", MODEL, "--runtime", "resident", "--ram", "100MB"), 6, "none of them can run"),
        (("pixel8", "pixel9", "--model", MODEL, "--report", "/no/such/place.html"), 2, "no such directory"),
    ],
)
def test_what_means_nothing_is_refused(words, code, says):
    result = run("compare", *words)
    assert says in result.err
    assert "→" in result.err
    assert result.out == ""
    assert result.code == code
