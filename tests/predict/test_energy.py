"""Energy of a prediction: where it is known, what bounds it, and how far published joules are from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from command_line import simio
from tiny import device, model, number, profile, scenario

import simio as package
from simio import catalog
from simio.predict import evaluate
from simio.predict.energy import energy_interval, energy_j_per_token
from simio.predict.resolve import Resolved, complete
from simio.records.device import Device, Power


def powered(spread: float) -> Device:
    on = device()
    core = {cluster.name: number(2.0, "w", spread) for cluster in on.cpu.clusters}
    dram = number(6e-11, "j_per_byte", spread)
    return replace(on, power=Power(number(0.3, "w", spread), core, dram, number(1.0, "w", spread)))


def resolved_on(on: Device) -> Resolved:
    return complete(scenario(runtime="resident"), on, profile(model()))


def test_a_device_without_powers_has_no_energy():
    resolved = resolved_on(device())
    point = evaluate(resolved)
    assert energy_j_per_token(resolved, point) is None
    assert energy_interval(scenario(draws=50), resolved, point) is None


def test_the_text_leaves_the_line_out_where_nothing_is_known():
    words = ("predict", "--model", "llama-3.2-1b:q8_0", "--device")
    assert "J per token" in simio(*words, "pixel8").out
    assert "J per token" not in simio(*words, "iphone15-pro").out


def test_json_carries_energy_and_its_interval():
    found = simio("predict", "--device", "pixel8", "--model", "llama-3.2-1b:q8_0", "--json").json
    interval = found["energy_interval"]
    assert interval["low"] < found["energy_j_per_token"] < interval["high"]
    assert interval["level"] == found["interval"]["level"]


def test_powers_known_exactly_give_a_point_and_doubtful_ones_an_interval():
    asked = scenario(draws=300)

    def width(spread: float) -> float:
        resolved = resolved_on(powered(spread))
        found = energy_interval(asked, resolved, evaluate(resolved))
        assert found is not None
        return found.high / found.low

    assert width(1.0) == pytest.approx(1.0)
    assert 1.5 < width(2.0) < 4.0  # four numbers between half and twice: no wider than all of them at once


def test_energy_draws_leave_the_interval_of_tokens_per_s_as_it_is():
    asked = package.Scenario(device="pixel8", model="llama-3.2-1b:q8_0", draws=40)
    first = package.predict(asked, suggestions=False)
    assert first.interval == package.predict(asked, suggestions=False, seed=0).interval
    assert first.energy_interval == package.predict(asked, suggestions=False, seed=0).energy_interval
    assert first.energy_interval != package.predict(asked, suggestions=False, seed=1).energy_interval


def test_reading_weights_from_flash_costs_more_than_keeping_them():
    kept, streamed = (
        package.predict(device="oneplus12", model="llama-3.2-3b:q4_k_m", suggestions=False, draws=0, **choices)
        for choices in ({"runtime": "resident"}, {"runtime": "stream", "pinned_bytes": 0})
    )
    assert kept.energy_j_per_token is not None
    assert streamed.energy_j_per_token is not None
    assert streamed.energy_j_per_token > 1.2 * kept.energy_j_per_token


#: Device, model, threads, measured tokens/s, measured W, and whether idling is left out of those.
#: Raspberry Pi: the highest power at the plug (github.com/geerlingguy/ai-benchmarks/issues/7, test 1b, 16 GB; the Pi
#: 400 is in github.com/geerlingguy/ollama-benchmark). OnePlus 13: a Galaxy S25 Ultra, same chip, mean power of runs at
#: the battery less its idle power (github.com/eziyoo/LLMs-on-Devices, data/aggregated/final_results.csv, medians).
PUBLISHED = [
    ("rpi5-sd", "llama-3.2-3b:q4_k_m", 4, 4.88, 11.9, False),
    ("rpi5-sd", "llama-3.1-8b:q4_k_m", 4, 2.17, 11.6, False),
    ("rpi5-sd", "llama-2-13b:q4_0", 4, 1.36, 10.9, False),
    ("rpi4", "llama-3.2-3b:q4_k_m", 4, 1.60, 6.0, False),
    ("oneplus13", "qwen2.5-1.5b:q4_k_m", 8, 31.60, 12.63, True),
    ("oneplus13", "qwen2.5-3b:q4_k_m", 8, 19.84, 14.20, True),
    ("oneplus13", "qwen2.5-7b:q4_k_m", 8, 10.50, 13.42, True),
    ("oneplus13", "llama-3.1-8b:q4_k_m", 8, 10.45, 14.60, True),
    ("oneplus13", "gemma-2-9b:q4_k_m", 8, 7.24, 12.94, True),
    ("oneplus13", "olmoe-1b-7b:q4_k_m", 8, 38.22, 11.63, True),
]


def _predicted(name: str, of: str, n_threads: int, net: bool) -> tuple[float, float]:
    """Joules per token and mean power, without idling where ``net``."""
    found = package.predict(
        device=name, model=of, n_threads=n_threads, ram_bytes=14 * 10**9, runtime="resident", draws=0, suggestions=False
    )
    power = catalog.load(name).power
    assert power is not None
    assert found.energy_j_per_token is not None
    joules = found.energy_j_per_token - net * power.baseline.value / found.tokens_per_s
    return joules, joules * found.tokens_per_s


@pytest.mark.parametrize(("name", "of", "n_threads", "tokens_per_s", "watts", "net"), PUBLISHED)
def test_published_joules_per_token_are_within_a_third(name, of, n_threads, tokens_per_s, watts, net):
    joules, _ = _predicted(name, of, n_threads, net)
    assert 0.67 < joules / (watts / tokens_per_s) < 1.1


@pytest.mark.parametrize(("name", "of", "n_threads", "tokens_per_s", "watts", "net"), PUBLISHED)
def test_published_powers_are_within_a_quarter(name, of, n_threads, tokens_per_s, watts, net):
    _, power_w = _predicted(name, of, n_threads, net)
    assert power_w == pytest.approx(watts, rel=0.25)
