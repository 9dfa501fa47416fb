"""What a prediction promises: stable keys, repeatability, real suggestions, honest intervals."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from command_line import simio
from tiny import MB, device, model, profile, scenario

from simio.predict import evaluate
from simio.predict.interval import interval
from simio.predict.resolve import complete

KEYS = {
    "tokens_per_s", "ttft_s", "cold_start_s", "token_latency_s", "interval", "bytes_per_token", "hit_ratio",
    "peak_ram_bytes", "bottleneck", "busy_s", "bounds_s", "checks", "confidence", "suggestions", "scenario",
}  # fmt: skip


def test_json_carries_the_promised_keys():
    found = simio("predict", "--device", "pixel8", "--model", "llama-3.2-3b:q4_k_m", "--json").json
    assert set(found) >= KEYS
    assert set(found["token_latency_s"]) == {"mean", "p50", "p95", "max"}
    assert set(found["interval"]) == {"low", "high", "level"}
    assert set(found["bounds_s"]) == {"lower", "upper"}
    assert found["interval"]["low"] <= found["tokens_per_s"] <= found["interval"]["high"]
    assert found["cold_start_s"] >= found["ttft_s"] > 0
    assert all(check["ok"] for check in found["checks"])


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--runtime", "stream", "--codec", "zstd:1"),
        ("--runtime", "mmap", "--ram", "1500MB"),
        ("--pin", "30%", "--runtime", "stream"),
    ],
)
def test_a_saved_scenario_repeats_the_result_bit_for_bit(options, tmp_path):
    saved = tmp_path / "s.toml"
    words = ("predict", "--device", "pixel8", "--model", "llama-3.2-3b:q4_k_m", "--json")
    first = simio(*words, *options, "--save-scenario", saved)
    again = simio("predict", saved, "--json")
    assert again.out == first.out


CASES = [
    "--device pixel8 --model llama-3.1-8b:q4_k_m",
    "--device pixel8 --model llama-3.1-8b:q4_k_m --runtime stream --codec zstd:1",
    "--device rpi5-sd --model llama-3.2-3b:bf16 --runtime stream --prefetch 0",
    "--device galaxy-s23 --model qwen2.5-7b:q8_0 --runtime stream --pin 20%",
    "--device oneplus15r --model qwen3-30b-a3b:q4_k_m",
    "--device galaxy-s23 --model llama-3.2-1b:f16",
]


@pytest.mark.parametrize("case", CASES)
def test_every_suggestion_gives_the_gain_it_promises(case):
    found = simio("predict", *shlex.split(case), "--json").json
    assert found["suggestions"]
    for suggestion in found["suggestions"]:
        applied = simio(*shlex.split(suggestion["command"])[1:], "--json").json
        gain = applied["tokens_per_s"] / found["tokens_per_s"]
        assert gain == pytest.approx(suggestion["gain"], rel=0.01)
        assert gain > 1.0


def test_compression_that_does_not_pay_is_not_suggested():
    found = simio(
        "predict", "--device", "oneplus12", "--model", "llama-2-70b:q4_k_m", "--runtime", "stream", "--json"
    ).json
    assert not any("compress" in s["change"] for s in found["suggestions"])


def test_compression_that_pays_is_suggested_on_slow_storage():
    found = simio(
        "predict", "--device", "rpi5-sd", "--model", "llama-3.1-8b:bf16", "--runtime", "stream", "--json"
    ).json
    best = next(s for s in found["suggestions"] if "compress" in s["change"])
    assert 1.2 < best["gain"] < 1.6


def test_lru_past_ram_does_not_care_how_far_past():
    speeds = {
        ram: simio(
            "predict",
            "--device",
            "nvme-minipc",
            "--model",
            "llama-2-70b:q4_0",
            "--runtime",
            "mmap",
            "--ram",
            ram,
            "--json",
        ).json["tokens_per_s"]
        for ram in ("5GB", "25GB", "64GB")
    }
    assert speeds["25GB"] / speeds["5GB"] < 1.15
    assert speeds["64GB"] > 10 * speeds["25GB"]


def test_pinning_half_the_weights_halves_the_bytes_read():
    words = ("predict", "--device", "nvme-minipc", "--model", "llama-3.1-8b:q4_0", "--runtime", "stream", "--json")
    none, half = (simio(*words, "--pin", share).json["bytes_per_token"] for share in ("0%", "50%"))
    assert half / none == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("runtime", ["resident", "mmap", "stream"])
def test_full_check_lets_simpy_cover_the_whole_run(runtime):
    words = ("predict", "--device", "pixel8", "--model", "smollm2-135m:q8_0", "--runtime", runtime, "--tokens", "8")
    found = simio(*words, "--check", "full", "--json").json
    laws = {check["law"] for check in found["checks"]}
    assert {"conservation", "equality", "Little", "utilisation", "monotone", "repeatability", "bottleneck"} <= laws


def test_exact_numbers_give_a_point_and_wide_numbers_a_wide_interval():
    def spread(factor: float) -> float:
        resolved = complete(asked, device(spread=factor, memory=1e13), profile(model()))
        found = interval(asked, resolved, evaluate(resolved)).interval
        return found.high / found.low

    asked = scenario(ram_bytes=100 * MB, draws=400)
    assert spread(1.0) == pytest.approx(1.0, abs=0.03)  # no two runs are alike
    assert spread(1.5) == pytest.approx(1.5**2, rel=0.15)
    assert spread(3.0) > spread(1.5)


def test_unknown_ram_widens_the_interval_across_the_cliff():
    words = ("predict", "--device", "pixel8", "--model", "llama-3.1-8b:q4_0", "--json")
    unknown, known = simio(*words).json, simio(*words, "--ram", "3900MB").json
    assert unknown["interval"]["high"] > 3 * known["interval"]["high"]


def test_kv_cache_takes_ram_and_time():
    words = ("predict", "--device", "galaxy-s24-ultra", "--model", "llama-3.2-1b:q4_0", "--json")
    short, long = simio(*words).json, simio(*words, "--prompt", "16000").json
    assert long["ram"]["kv_cache"] > 50 * short["ram"]["kv_cache"]
    assert long["tokens_per_s"] < 0.9 * short["tokens_per_s"]
    assert long["ttft_s"] > 50 * short["ttft_s"]


def test_fewer_experts_are_faster():
    words = ("predict", "--device", "oneplus15r", "--model", "qwen3-30b-a3b:q4_k_m", "--runtime", "stream", "--json")
    assert simio(*words, "--top-k", "4").json["tokens_per_s"] > 1.3 * simio(*words, "--top-k", "8").json["tokens_per_s"]


def test_predicting_a_preset_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['simio', 'predict', '--device', 'pixel8', '--model', 'llama-3.2-1b:q4_0', '--json']\n"
        "from simio.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'plotly', 'numba', 'scipy', 'gguf', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert json.loads(done.stdout)["tokens_per_s"] > 0


def test_a_pin_without_a_runtime_asks_for_streaming():
    words = ("predict", "--device", "pixel8", "--model", "llama-3.1-8b:q4_k_m", "--ram", "3GB", "--json")
    pinned = simio(*words, "--pin", "50%").json
    assert pinned["resolved"]["runtime"] == "stream"
    assert pinned["bytes_per_token"] < 0.51 * simio(*words).json["bytes_per_token"]


def test_a_weight_cache_leaves_the_pin_what_it_does_not_take():
    words = ("predict", "--device", "pixel8", "--model", "llama-3.1-8b:q4_k_m", "--runtime", "stream", "--json")
    cached = simio(*words, "--cache-size", "1GB").json
    assert cached["peak_ram_bytes"] <= cached["ram"]["budget"]
    assert cached["hit_ratio"] > 0.3


def test_an_unknown_read_ahead_widens_the_interval_under_mmap(tmp_path):
    from simio.paths import data_dir

    text = (data_dir("devices") / "pixel8.toml").read_text().replace('id = "pixel8"', 'id = "other"')
    known = tmp_path / "other.toml"
    low_high = 'value = 128, unit = "KiB", source = "assumed", low = 64, high = 512'
    assert low_high in text
    known.write_text(text.replace(low_high, 'value = 128, unit = "KiB", source = "assumed", low = 16, high = 512'))
    words = ("predict", "--model", "llama-3.1-8b:q8_0", "--ram", "3GB", "--json", "--device")
    narrow, wide = simio(*words, "pixel8").json["interval"], simio(*words, known).json["interval"]
    assert wide["low"] < 0.8 * narrow["low"]


def test_waiting_is_named_when_nothing_is_busy():
    words = ("predict", "--device", "pixel8", "--model", "llama-3.2-1b:q4_0", "--runtime", "stream", "--json")
    serial = simio(*words, "--pin", "0%", "--prefetch", "0", "--queue-depth", "1").json["bottleneck"]
    assert serial["limit"] in serial["share"] or "waiting" in serial["limit"]
    assert all(share <= 1.0 + 1e-9 for share in serial["share"].values())


def test_the_bottleneck_follows_the_hardware():
    words = ("predict", "--model", "llama-3.1-8b:q8_0", "--ram", "3GB", "--json", "--device")
    assert simio(*words, "rpi5-sd").json["bottleneck"]["limit"] == "storage bandwidth"
    in_ram = simio("predict", "--model", "llama-3.2-1b:q8_0", "--device", "rpi5-nvme", "--json").json
    assert in_ram["bottleneck"]["limit"] in ("memory bandwidth", "compute")


def test_assumed_numbers_lower_the_confidence():
    mapped = simio("predict", "--device", "pixel8", "--model", "llama-3.1-8b:q4_0", "--json").json["confidence"]
    assert "assumed" in mapped["basis"]
    assert mapped["label"] == "low"


def test_loading_a_moe_is_sequential_even_if_its_experts_are_not():
    words = ("predict", "--device", "oneplus13", "--model", "qwen3-30b-a3b:q4_k_m", "--ram", "40GB", "--json")
    mapped, resident = (simio(*words, "--runtime", runtime).json["cold_start_s"] for runtime in ("mmap", "resident"))
    assert mapped < 4 * resident


def test_a_profile_can_be_asked_about_stored_raw(tmp_path):
    from simio.models import preset
    from simio.models.statistics import profile_from_statistics
    from simio.profiling.profile_file import save

    stored = tmp_path / "p.simio.json"
    save(profile_from_statistics(preset("llama-3.2-1b:bf16"), "zstd:1", 1 << 20), stored)
    words = ("predict", "--device", "nvme-minipc", "--model", stored, "--runtime", "stream", "--ram", "1GB", "--json")
    packed, raw = simio(*words).json, simio(*words, "--codec", "raw").json
    assert (packed["resolved"]["codec"], raw["resolved"]["codec"]) == ("zstd:1", "raw")
    assert raw["compression"]["ratio"] == 1.0
    assert any("store the weights raw" in s["change"] for s in packed["suggestions"])
