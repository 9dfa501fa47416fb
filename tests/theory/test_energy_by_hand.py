"""Joules of a token, worked out on paper: three layers of 1 MB, powers that make round numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import MB, device, model, number, profile, scenario

from simio.predict.energy import energy_j_per_token
from simio.predict.point import evaluate
from simio.predict.resolve import complete
from simio.records.codec_profile import CodecProfile
from simio.records.device import Device, Power
from simio.service_times import drain_of

# A layer of 1 MB: 0.5 ms on the 2 GB/s link, 0.1 ms to multiply at 10 GB/s.
TRAFFIC = 1e-9  # J/byte


def powered(on: Device, **watts: float) -> Device:
    """``on`` with the powers given; those left out are next to nothing."""
    w = {"baseline": 1e-12, "core": 1e-12, "dram": 1e-24, "storage_read": 1e-12} | watts
    core = {cluster.name: number(w["core"], "w") for cluster in on.cpu.clusters}
    rest = {name: number(w[name], unit) for name, unit in (("baseline", "w"), ("storage_read", "w"))}
    return replace(on, power=Power(core=core, dram=number(w["dram"], "j_per_byte"), **rest))


def joules(of: CodecProfile, on: Device, **choices: object) -> float:
    resolved = complete(scenario(codec=of.codec, **choices), on, of)
    found = energy_j_per_token(resolved, evaluate(resolved))
    assert found is not None
    return found


def test_the_baseline_is_drawn_for_as_long_as_a_token_takes():
    on = powered(device(latency_s=1e-9), baseline=2.0)
    assert joules(profile(model()), on, runtime="resident") == pytest.approx(2.0 * 3e-4)


def test_cores_draw_while_they_compute_and_not_while_they_wait_for_storage():
    on = powered(device(latency_s=1e-9), core=5.0)
    streamed = joules(profile(model()), on, runtime="stream", pinned_bytes=0, n_threads=1)
    assert streamed == pytest.approx(5.0 * 3e-4)


def test_two_threads_draw_the_power_of_two_cores_for_half_the_time():
    on = powered(device(memory=1e11), core=5.0)
    one, two = (joules(profile(model()), on, runtime="resident", n_threads=n) for n in (1, 2))
    assert two == pytest.approx(one)


def test_storage_draws_while_the_link_is_held():
    on = powered(device(latency_s=1e-9), storage_read=4.0)
    assert joules(profile(model()), on, runtime="stream", pinned_bytes=0) == pytest.approx(4.0 * 1.5e-3, rel=1e-3)


def test_weights_in_ram_are_walked_once():
    on = powered(device(), dram=TRAFFIC)
    assert joules(profile(model()), on, runtime="resident") == pytest.approx(3 * MB * TRAFFIC)


def test_the_kv_cache_is_walked_too():
    on = powered(device(), dram=TRAFFIC)
    walked = 3 * (MB + 1000 * 256 * 2.0)
    assert joules(profile(model(kv_values=1000)), on, runtime="resident") == pytest.approx(walked * TRAFFIC)


def test_streamed_weights_are_written_once_and_walked_once():
    on = powered(device(), dram=TRAFFIC)
    assert joules(profile(model()), on, runtime="stream", pinned_bytes=0) == pytest.approx(2 * 3 * MB * TRAFFIC)


def test_compressed_weights_are_written_read_written_and_walked():
    on = powered(device(), dram=TRAFFIC)
    half = profile(model(), codec="zstd:1", stored=0.5)
    found = joules(half, on, runtime="stream", pinned_bytes=0)
    assert found == pytest.approx((0.5 + 0.5 + 1 + 1) * 3 * MB * TRAFFIC, rel=2e-3)  # reads end on 4 KiB


def test_workers_draw_for_the_chunks_they_decompress():
    on = powered(device(), core=5.0)
    half = profile(model(), codec="zstd:1", stored=0.5)
    raw = joules(profile(model()), on, runtime="stream", pinned_bytes=0, n_threads=1, n_workers=1)
    rate = on.cpu.decompress["zstd"].value
    found = joules(half, on, runtime="stream", pinned_bytes=0, n_threads=1, n_workers=1)
    assert found == pytest.approx(raw + 5.0 * 3 * MB / rate)


def test_more_threads_and_workers_than_cores_draw_no_more_than_the_cores():
    on = powered(device(), core=5.0)
    half = profile(model(), codec="zstd:1", stored=0.5)
    n_cores = sum(cluster.n_cores for cluster in on.cpu.clusters)
    all_of_each = {"n_threads": n_cores, "n_workers": n_cores}
    resolved = complete(scenario(codec="zstd:1", runtime="stream", pinned_bytes=0, **all_of_each), on, half)
    assert on.power is not None
    drain = drain_of(on.power, on.cpu, evaluate(resolved).plan)
    assert drain.threads_w + n_cores * drain.worker_w == pytest.approx(5.0 * n_cores)
