"""Every shipped device file: it loads, every number has a source with an address, and the numbers make sense."""

from __future__ import annotations

import itertools
import operator
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from simio import catalog
from simio.paths import data_dir
from simio.records.device import SOURCE_KINDS, Device, ReadPoint
from simio.records.weight_types import GEMV_CLASSES

FILES = sorted(data_dir("devices").glob("*.toml"))
#: The devices the catalogue promises.
WANTED = [
    "pixel8", "pixel8-pro", "pixel9", "pixel9-pro", "galaxy-s22", "galaxy-s23",
    "galaxy-s24", "galaxy-s24-ultra", "oneplus11", "oneplus12", "oneplus13", "oneplus15r",
    "xiaomi13", "xiaomi14", "iphone13-pro", "iphone14-pro", "iphone15-pro", "iphone16-pro",
    "rpi4", "rpi5-sd", "rpi5-nvme", "rubik-pi3", "orange-pi5", "rock5b",
    "jetson-orin-nano", "steam-deck", "macbook-air-m1", "macbook-air-m2", "nvme-minipc",
]  # fmt: skip

POWERED = [path.stem for path in FILES if "power" in tomllib.loads(path.read_text(encoding="utf-8"))]
each_powered_device = pytest.mark.parametrize("device", POWERED, indirect=True)
each_device = pytest.mark.parametrize("device", [path.stem for path in FILES], indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Device:
    return catalog.load(request.param)


def quantities(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number of a device as JSON, with its place."""
    if isinstance(tree, dict) and {"value", "source"} <= tree.keys():
        yield path, tree
    elif isinstance(tree, dict):
        for key, branch in tree.items():
            yield from quantities(branch, f"{path}.{key}")
    elif isinstance(tree, list):
        for i, branch in enumerate(tree):
            yield from quantities(branch, f"{path}[{i}]")


def test_the_catalogue_has_the_devices_it_promises() -> None:
    assert set(WANTED) <= set(catalog.names())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_has_no_problem(path: Any) -> None:
    assert [str(problem) for problem in catalog.check(path)] == []


@each_device
def test_every_number_has_bounds_and_a_source_with_an_address(device: Device) -> None:
    tree = catalog.to_json(device)
    for place, number in quantities(tree):
        assert 0 <= number["low"] <= number["value"] <= number["high"], place
        assert number["kind"] in SOURCE_KINDS, place
        if number["source"] == "assumed":
            assert number["note"], place
        else:
            url = tree["sources"][number["source"]]["url"]
            is_trace = url.startswith("traces/") and (data_dir("traces").parent / url).is_dir()
            assert is_trace or re.match(r"https?://\S+\.\S+", url), place


@each_device
def test_inferred_sources_say_from_what(device: Device) -> None:
    for source in device.sources:
        assert source.note or source.kind not in ("inferred", "fitted"), source.id


@each_device
def test_the_storage_curve_covers_small_middle_and_large_reads(device: Device) -> None:
    blocks = {(point.pattern, point.block_bytes, point.queue_depth) for point in device.storage.curve}
    assert ("random", 4096, 1) in blocks
    assert any(128 * 1024 <= block <= 512 * 1024 for _, block, _ in blocks)
    assert any(block >= 1024**2 for _, block, _ in blocks)


@each_device
def test_larger_random_reads_are_not_much_slower(device: Device) -> None:
    def at_depth(depth: int) -> list[ReadPoint]:
        points = [p for p in device.storage.curve if p.pattern == "random" and p.queue_depth == depth]
        return sorted(points, key=lambda point: point.block_bytes)

    for depth in {point.queue_depth for point in device.storage.curve}:
        points = at_depth(depth)
        for small, large in itertools.pairwise(points):
            assert large.bandwidth.value >= 0.8 * small.bandwidth.value, (depth, small.block_bytes, large.block_bytes)


@each_device
def test_storage_is_slower_than_memory(device: Device) -> None:
    fastest = max(point.bandwidth.value for point in device.storage.curve)
    assert fastest < 0.5 * device.memory.read_bandwidth.value


@each_device
def test_an_app_gets_less_than_the_box_says(device: Device) -> None:
    assert 0.2 * device.memory.total.value < device.memory.usable.value < device.memory.total.value


@each_device
def test_all_cores_together_do_not_dequantize_far_beyond_memory(device: Device) -> None:
    speed = sum(cluster.n_cores * cluster.relative_speed.value for cluster in device.cpu.clusters)
    assert device.cpu.gemv["q8_0"].value * speed < 6 * device.memory.read_bandwidth.value
    assert device.cpu.gemv["q8_0"].value < 1.3 * device.memory.read_bandwidth.value  # one core alone


@each_device
def test_every_weight_class_has_a_rate_and_low_bit_types_run_slower_per_byte(device: Device) -> None:
    rates = {name: quantity.value for name, quantity in device.cpu.gemv.items()}
    assert set(rates) == set(GEMV_CLASSES)
    assert rates["iq2"] < rates["q2_k"] < rates["q4_0"] < rates["q8_0"]


@each_device
def test_lz4_decompresses_faster_than_zstd_and_zstd_faster_than_brotli(device: Device) -> None:
    rates = {name: quantity.value for name, quantity in device.cpu.decompress.items()}
    assert rates["lz4"] > rates["zstd"] > rates["brotli"] > 50e6


@each_powered_device
def test_faster_cores_draw_more_and_all_of_them_no_more_than_a_phone_can_give(device: Device) -> None:
    assert device.power is not None
    watts = [device.power.core[cluster.name].value for cluster in device.cpu.clusters]
    assert watts == sorted(watts, reverse=True)
    n_cores = [cluster.n_cores for cluster in device.cpu.clusters]
    assert device.power.baseline.value < sum(map(operator.mul, watts, n_cores)) < 20


def test_ufs_4_is_not_taken_at_its_interface_maximum() -> None:
    for name in ("galaxy-s24", "xiaomi14", "oneplus13", "galaxy-s24-ultra"):
        assert max(point.bandwidth.value for point in catalog.load(name).storage.curve) < 3.0e9


def test_the_oneplus_15r_carries_its_measured_curve() -> None:
    curve = {(p.block_bytes, p.queue_depth): p.bandwidth for p in catalog.load("oneplus15r").storage.curve}
    point = curve[128 * 1024, 4]
    assert point.kind == "measured"
    assert point.value == pytest.approx(1486.1 * 1024**2, rel=1e-3)


def test_no_two_devices_share_a_name() -> None:
    seen: dict[str, str] = {}
    for path in FILES:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        for name in {table["id"], table["name"], *table.get("aliases", [])}:
            key = name.casefold()
            assert seen.setdefault(key, path.stem) == path.stem, name
