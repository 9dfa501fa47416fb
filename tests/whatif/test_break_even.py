"""simio breakeven: the closed form against facts and algebra, the simulated curve against both."""

from __future__ import annotations

import pytest
from command_line import simio as run

import simio
from simio.analytic import break_even as closed

BF16 = {"device": "pixel8", "model": "llama-3.1-8b:bf16", "codec": "byteplane(zstd:1)"}


@pytest.mark.parametrize(("ratio", "needed"), [(1.04, 26), (1.06, 17.7), (1.12, 9.3), (1.2, 6), (1.27, 4.7),
                                               (1.35, 3.9), (1.5, 3), (2.0, 2)])  # fmt: skip
def test_what_one_after_another_needs(ratio, needed):
    """D/B from which decompression in series pays, r/(r − 1)."""
    assert closed.serial_decompress(ratio, 1.0, 1.0) == pytest.approx(needed, rel=0.015)


@pytest.mark.parametrize("ratio", [1.02, 1.3, 2.5])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_gains_are_one_at_the_break_even(ratio, share):
    decompress = 1.7e9
    assert closed.pipelined_gain(
        ratio, share, decompress, closed.pipelined_storage(share, decompress)
    ) == pytest.approx(1)
    limit = closed.serial_storage(ratio, share, decompress)
    assert closed.serial_gain(ratio, share, decompress, limit) == pytest.approx(1)
    assert closed.serial_decompress(ratio, share, limit) == pytest.approx(decompress)
    assert closed.pipelined_decompress(share, closed.pipelined_storage(share, decompress)) == pytest.approx(decompress)


def test_nothing_that_shrinks_pays_in_series():
    assert closed.serial_decompress(1.0, 1.0, 1e9) == float("inf")
    assert closed.serial_storage(1.0, 1.0, 1e9) == 0


def test_far_from_other_limits_the_simulation_follows_the_closed_form():
    study = simio.break_even(**BF16)
    assert study.over_storage.break_even == pytest.approx(study.storage_limit, rel=0.05)
    assert study.over_decompress.break_even == pytest.approx(study.decompress_limit, rel=0.05)
    for point in study.over_storage.points:
        if point.bytes_per_s < 2 * study.storage_limit:  # beyond, raw weights wait for compute
            assert point.gain == pytest.approx(point.closed_form_gain, rel=0.03)


def test_the_gain_on_the_device_is_that_of_two_predictions():
    study = simio.break_even(**BF16)
    speeds = [
        simio.predict(**{**BF16, "codec": codec}, runtime="stream", suggestions=False).tokens_per_s
        for codec in (BF16["codec"], "raw")
    ]
    assert study.simulated_gain == pytest.approx(speeds[0] / speeds[1], rel=0.05)  # predictions know heat


def test_slow_storage_makes_it_pay():
    study = simio.break_even(**BF16, read_limit_bytes_per_s=300e6)
    assert study.storage == 300e6
    assert study.gain == pytest.approx(study.ratio)
    assert study.simulated_gain == pytest.approx(study.ratio, rel=0.03)


def test_a_model_in_ram_says_so():
    study = simio.break_even(device="pixel8", model="llama-3.2-1b:q8_0", codec="zstd:1")
    assert "stays in RAM" in study.notes[0]
    assert study.over_storage.break_even is None


def test_the_command(tmp_path):
    page = tmp_path / "b.html"
    words = ("--device", "pixel8", "--model", "llama-3.1-8b:bf16", "--codec", "byteplane(zstd:1)")
    result = run("breakeven", *words, "--report", page)
    assert result.code == 0
    assert "pipelined" in result.out
    assert "this device" in page.read_text(encoding="utf-8")
    table = run("breakeven", *words, "--json").json
    assert {
        "ratio",
        "share",
        "storage",
        "decompress",
        "storage_limit",
        "decompress_limit",
        "over_storage",
    } <= table.keys()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [(("--device", "pixel8", "--model", "llama-3.2-1b:q8_0"), 2, "the codec is raw"),
     (("--device", "pixel8", "--model", "llama-3.2-1b:q8_0", "--codec", "zstd:1", "--runtime", "mmap"), 2, "reads no"),
     (("--device", "pixel8", "--model", "llama-3.2-1b:q8_0", "--codec", "zsdt:1"), 3, "zstd"),
     (("--device", "pixel8", "--model", "llama-3.2-1b:q8_0", "--codec", "zstd:1", "--ram", "1MB"), 6, "RAM")],
)  # fmt: skip
def test_what_means_nothing_is_refused(words, code, says):
    result = run("breakeven", *words)
    assert says in result.err
    assert "→" in result.err
    assert result.code == code
