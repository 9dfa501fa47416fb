"""Each way a device file can be wrong is refused with ``file: table.key`` and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from simio import catalog
from simio.errors import DeviceFileError
from simio.records.weight_types import GEMV_CLASSES

_RATES = "\n".join(f'{name} = {{ value = 10, unit = "GB/s", source = "bench" }}' for name in GEMV_CLASSES)

GOOD = f"""
schema = 1
id = "demo"
name = "Demo phone"
soc = "Demo chip"
aliases = ["The demo"]

[storage]
kind = "UFS 4.0"
best_queue_depth = {{ value = 8, unit = "1", source = "bench" }}
read_ahead = {{ value = 128, unit = "KiB", source = "assumed", low = 64, high = 512, note = "kernel default" }}
fault_overhead = {{ value = 1.5, unit = "us", source = "guess", low = 0.5, high = 4, note = "typical" }}

[[storage.curve]]
pattern = "random"
block = "4KiB"
queue_depth = 1
bandwidth = {{ value = 30, unit = "MB/s", source = "bench" }}

[[storage.curve]]
pattern = "sequential"
block = "1MiB"
queue_depth = 4
bandwidth = {{ value = 2, unit = "GB/s", source = "bench", low = 1.7, high = 2.1 }}

[cpu]
default_threads = {{ value = 4, unit = "1", source = "bench" }}
layer_overhead = {{ value = 90, unit = "us", source = "derived", low = 40, high = 200 }}

[[cpu.clusters]]
name = "big"
n_cores = {{ value = 2, unit = "1", source = "sheet" }}
clock = {{ value = 3.0, unit = "GHz", source = "sheet" }}
relative_speed = {{ value = 1, unit = "1", source = "sheet" }}

[[cpu.clusters]]
name = "little"
n_cores = {{ value = 4, unit = "1", source = "sheet" }}
clock = {{ value = 2.0, unit = "GHz", source = "sheet" }}
relative_speed = {{ value = 0.5, unit = "1", source = "derived", low = 0.4, high = 0.6 }}

[cpu.gemv]
{_RATES}

[cpu.prefill]
default = {{ value = 200, unit = "Gflop/s", source = "bench" }}

[cpu.decompress]
lz4 = {{ value = 1400, unit = "MB/s", source = "bench" }}
zstd = {{ value = 900, unit = "MB/s", source = "bench" }}
brotli = {{ value = 300, unit = "MB/s", source = "bench" }}

[memory]
total = {{ value = 8, unit = "GiB", source = "sheet" }}
usable = {{ value = 4, unit = "GB", source = "bench" }}
read_bandwidth = {{ value = 40, unit = "GB/s", source = "bench" }}

[sources.bench]
kind = "measured"
url = "https://example.org/bench"

[sources.sheet]
kind = "datasheet"
url = "https://example.org/sheet"

[sources.derived]
kind = "inferred"
url = "https://example.org/bench"
note = "from the bench of a sister device"

[sources.guess]
kind = "assumed"
url = "https://example.org/discussion"
"""

USABLE = 'usable = { value = 4, unit = "GB", source = "bench" }'
READ_AHEAD = 'low = 64, high = 512, note = "kernel default"'

BAD = {
    "wrong dimension": ('value = 4, unit = "GB", s', 'value = 4, unit = "GHz", s', "memory.usable", "measures hz"),
    "unknown unit": ('value = 4, unit = "GB", s', 'value = 4, unit = "gb", s', "memory.usable", "unknown unit 'gb'"),
    "unit is no text": ('value = 4, unit = "GB", s', "value = 4, unit = 1, s", "memory.usable", "unit is a number"),
    "text for a number": (USABLE, USABLE.replace("4", '"4"'), "memory.usable", "expected a number"),
    "true for a number": (USABLE, USABLE.replace("4", "true"), "memory.usable", "true or false"),
    "a date for a number": (USABLE, USABLE.replace("4", "2025-01-01"), "memory.usable", "expected a number"),
    "bare number": (USABLE, "usable = 4000000000", "memory.usable", "a bare number"),
    "when it swaps but not how much": (
        USABLE, USABLE + '\nswap_onset = { value = 1, unit = "GB", source = "bench" }', "memory.swap_share",
        "is missing beside memory.swap_onset",
    ),
    "how much it swaps but not when": (
        USABLE, USABLE + '\nswap_share = { value = 0.2, unit = "1", source = "bench" }', "memory.swap_onset",
        "is missing beside memory.swap_share",
    ),
    "swaps more than it lacks": (
        USABLE, USABLE + '\nswap_onset = { value = 1, unit = "GB", source = "bench" }'
        '\nswap_share = { value = 0.9, unit = "1", source = "bench", low = 0.5, high = 1.2 }', "memory.swap_share",
        "reaches above 1",
    ),
    "bare text": (USABLE, 'usable = "4GB"', "memory.usable", "a text"),
    "unknown source": (USABLE, USABLE.replace("bench", "bentch"), "memory.usable", "unknown source 'bentch'"),
    "source is no text": (USABLE, USABLE.replace('"bench"', "7"), "memory.usable", "source is a number"),
    "unused source": ('[sources.guess]', '[sources.spare]\nkind = "review"\nurl = "https://a.org"\n\n[sources.guess]',
                      "sources.spare", "unused source"),
    "unknown kind of source": ('kind = "datasheet"', 'kind = "data-sheet"', "sources.sheet.kind", "'data-sheet'"),
    "source without address": ('url = "https://example.org/sheet"\n', "", "sources.sheet.url", "is missing"),
    "address that is none": ("https://example.org/sheet", "somewhere", "sources.sheet.url", "no web address"),
    "misspelt key in a number": (USABLE, USABLE.replace("unit", "units"), "memory.usable.units", "unknown key"),
    "misspelt key in a table": ("usable =", "useable =", "memory.useable", "unknown key"),
    "misspelt table": ("[cpu.decompress]", "[cpu.decompres]", "cpu.decompres", "unknown key"),
    "misspelt top key": ("soc =", "sock =", "sock", "unknown key"),
    "unknown weight class": ("q4_k =", "q4_km =", "cpu.gemv.q4_km", "unknown key"),
    "unknown codec": ("zstd =", "zsdt =", "cpu.decompress.zsdt", "unknown key"),
    "missing number": (USABLE, "", "memory.usable", "is missing"),
    "missing unit": (USABLE, USABLE.replace('unit = "GB", ', ""), "memory.usable.unit", "is missing"),
    "missing source": (USABLE, USABLE.replace(', source = "bench"', ""), "memory.usable.source", "is missing"),
    "missing value": (USABLE, USABLE.replace("value = 4, ", ""), "memory.usable.value", "is missing"),
    "missing default prefill": ("default = {", "q4_0 = {", "cpu.prefill.default", "is missing"),
    "id is not the file name": ('id = "demo"', 'id = "other"', "id", "not the file name 'demo'"),
    "id is no text": ('id = "demo"', "id = 3", "id", "expected a text"),
    "name is empty": ('name = "Demo phone"', 'name = ""', "name", "empty text"),
    "schema of the future": ("schema = 1", "schema = 2", "schema", "reads 1"),
    "aliases are no list": ('["The demo"]', '"The demo"', "aliases", "list of texts"),
    "assumed without note": (READ_AHEAD, "low = 64, high = 512", "storage.read_ahead", "without a note"),
    "assumed with empty note": ('"kernel default"', '" "', "storage.read_ahead", "without a note"),
    "assumed without bounds": (READ_AHEAD, 'note = "x"', "storage.read_ahead", "without low and high"),
    "assumed too narrow": (READ_AHEAD, 'low = 100, high = 150, note = "x"', "storage.read_ahead", "±30 %"),
    "assumed too narrow above": (READ_AHEAD, 'low = 10, high = 140, note = "x"', "storage.read_ahead", "±30 %"),
    "assumed kind too narrow": ("low = 0.5, high = 4", "low = 1.4, high = 1.6", "storage.fault_overhead", "±30 %"),
    "inferred without bounds": (", low = 40, high = 200", "", "cpu.layer_overhead", "without low and high"),
    "low above value": ("low = 1.7, high = 2.1", "low = 2.05, high = 2.1", "storage.curve[1].bandwidth", "low ≤ value"),
    "value above high": ("low = 1.7, high = 2.1", "low = 1.7, high = 1.9", "storage.curve[1].bandwidth", "low ≤ value"),
    "nan": (USABLE, USABLE.replace("4", "nan"), "memory.usable", "finite"),
    "infinite": (USABLE, USABLE.replace("4", "inf"), "memory.usable", "finite"),
    "infinite bound": ("high = 2.1", "high = inf", "storage.curve[1].bandwidth", "finite"),
    "negative": (USABLE, USABLE.replace("4", "-4"), "memory.usable", "larger than 0"),
    "zero": (USABLE, USABLE.replace("4", "0"), "memory.usable", "larger than 0"),
    "note is no text": ('note = "typical"', "note = 3", "storage.fault_overhead", "note is a number"),
    "twin curve points": ('"sequential"\nblock = "1MiB"\nqueue_depth = 4', '"random"\nblock = "4KiB"\nqueue_depth = 1',
                          "storage.curve[1]", "same pattern"),
    "bad pattern": ('pattern = "random"', 'pattern = "randon"', "storage.curve[0].pattern", "'randon' is unknown"),
    "block without unit": ('block = "4KiB"', 'block = "4096"', "storage.curve[0].block", "not a quantity"),
    "block as number": ('block = "4KiB"', "block = 4096", "storage.curve[0].block", "expected a text"),
    "empty block": ('block = "4KiB"', 'block = "0KiB"', "storage.curve[0].block", "larger than 0"),
    "queue depth of zero": ("queue_depth = 1\n", "queue_depth = 0\n", "storage.curve[0].queue_depth", "at least 1"),
    "queue depth as text": ("queue_depth = 1\n", 'queue_depth = "1"\n', "storage.curve[0].queue_depth", "a text"),
    "half a core": ("n_cores = { value = 2", "n_cores = { value = 2.5", "cpu.clusters[0].n_cores", "whole number"),
    "slow cluster first": ("relative_speed = { value = 1,", "relative_speed = { value = 0.9,",
                           "cpu.clusters", "fastest"),
    "more threads than cores": ("default_threads = { value = 4", "default_threads = { value = 9",
                                "cpu.default_threads", "9 threads on 6 cores"),
    "more usable than there is": (USABLE, USABLE.replace("4", "40"), "memory.usable", "less than memory.total"),
    "no clock": ('clock = { value = 3.0, unit = "GHz", source = "sheet" }', "", "cpu.clusters[0].clock", "is missing"),
    "clock in seconds": ('3.0, unit = "GHz"', '3.0, unit = "s"', "cpu.clusters[0].clock", "measures s"),
}  # fmt: skip


def _watts(value: float, unit: str = "W") -> str:
    return f'{{ value = {value}, unit = "{unit}", source = "bench" }}'


POWER = f"""
[power]
baseline = {_watts(250, "mW")}
dram = {_watts(8, "pJ/bit")}
storage_read = {_watts(1.3)}

[power.core]
big = {_watts(2)}
little = {_watts(0.5)}
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "demo.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_good_file_is_good(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD)
    assert catalog.check(path) == []
    device = catalog.load(str(path))
    assert device.storage.curve[0].bandwidth.value == 30e6
    assert device.storage.read_ahead_bytes.value == 131072
    assert device.storage.fault_overhead.value == 1.5e-6
    assert [cluster.n_cores for cluster in device.cpu.clusters] == [2, 4]


def test_bounds_default_to_ten_percent_for_measured_and_none_for_datasheet_numbers(tmp_path: Path) -> None:
    memory = catalog.load(str(_write(tmp_path, GOOD))).memory
    assert (memory.usable.low, memory.usable.high) == pytest.approx((3.6e9, 4.4e9))
    assert memory.total.low == memory.total.high == 8 * 1024**3


@pytest.mark.parametrize(("old", "new", "where", "what"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_with_file_and_key(tmp_path: Path, old: str, new: str, where: str, what: str) -> None:
    assert old in GOOD
    path = _write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DeviceFileError) as caught:
        catalog.load(str(path))
    assert caught.value.message.startswith("demo.toml: ")
    told = [f"{problem.where}: {problem.what}" for problem in catalog.check(path)]
    assert any(problem.startswith(f"{where}: ") and what in problem for problem in told), told
    assert told[0] in caught.value.message


def test_powers_are_read_in_si_with_a_core_of_every_cluster(tmp_path: Path) -> None:
    power = catalog.load(str(_write(tmp_path, GOOD + POWER))).power
    assert power is not None
    assert power.baseline.value == 0.25
    assert power.dram.value == pytest.approx(64e-12)
    assert {name: core.value for name, core in power.core.items()} == {"big": 2.0, "little": 0.5}


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("storage_read", "storage_write", "power.storage_write", "unknown key"),
        ("storage_read", "storage_write", "power.storage_read", "is missing"),
        ("little", "tiny", "power.core.tiny", "unknown key"),
        ("little", "tiny", "power.core.little", "is missing"),
        ('8, unit = "pJ/bit"', '8, unit = "W"', "power.dram", "measures w"),
        ('250, unit = "mW"', '250, unit = "J/GB"', "power.baseline", "measures j_per_byte"),
    ],
)
def test_bad_powers_are_refused(tmp_path: Path, old: str, new: str, where: str, what: str) -> None:
    assert old in POWER
    problems = catalog.check(_write(tmp_path, GOOD + POWER.replace(old, new, 1)))
    assert any(problem.where == where and what in problem.what for problem in problems), problems


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"this is not TOML", "not valid TOML"),
        (b"id = 'a'\nid = 'b'", "not valid TOML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "is missing"),
        (b"storage = 3", "expected a table"),
        (b"[storage]\ncurve = 3", "storage.curve"),
        (b"[storage]\ncurve = []", "storage.curve"),
        (b"sources = 3", "sources"),
        (b"[sources]\nbench = 3", "sources.bench"),
        (b"[cpu]\ngemv = 3", "cpu.gemv"),
    ],
)
def test_a_file_that_is_no_device_file_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "demo.toml"
    path.write_bytes(content)
    with pytest.raises(DeviceFileError, match=r"demo\.toml: ") as caught:
        catalog.load(str(path))
    assert what in caught.value.message or any(what in str(problem) for problem in catalog.check(path))


def test_a_folder_is_no_device_file(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").mkdir()
    with pytest.raises(DeviceFileError, match="cannot be read"):
        catalog.load(str(tmp_path / "demo.toml"))


def test_a_misspelt_key_is_answered_with_the_close_one(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD.replace("usable =", "useable ="))
    (problem,) = (problem for problem in catalog.check(path) if problem.where == "memory.useable")
    assert problem.hint == "did you mean 'usable'?"


def test_check_tells_every_problem_and_load_the_first(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD.replace(USABLE, "usable = 4").replace('pattern = "random"', 'pattern = "zigzag"'))
    assert {problem.where for problem in catalog.check(path)} == {"memory.usable", "storage.curve[0].pattern"}
    with pytest.raises(DeviceFileError, match="and 1 more"):
        catalog.load(str(path))
