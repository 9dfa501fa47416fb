"""A phone that answers as phones do, played by a script called adb."""

import json

import pytest
from command_line import simio

from simio import catalog
from simio.calibrate import phone_probes as plan
from simio.calibrate.direct_reads import Access
from simio.units import KIB, MIB

ADB = """#!{python}
import os, re, sys
words, folder = sys.argv[1:], os.path.dirname(os.path.abspath(__file__))
has = lambda name: os.path.exists(os.path.join(folder, name))
if words == ["devices"]:
    print("List of devices attached")
    print(open(os.path.join(folder, "devices")).read())
    sys.exit()
assert words[0] == "-s" and words[2] == "shell", words
command = words[3]
with open(os.path.join(folder, "log"), "a") as log:
    log.write(command + "\\n")
if "getprop" in command:
    print("[ro.product.manufacturer]: [Google]\\n[ro.product.model]: [MODEL]\\n[ro.soc.model]: [Tensor G3]")
    print("[ro.build.version.release]: [15]")
elif "meminfo" in command:
    print("MemTotal:        7750000 kB\\nMemFree:          200000 kB\\nMemAvailable:    3500000 kB")
elif "cpuinfo_max_freq" in command:
    if has("no_clocks"):
        print("cat: /sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq: Permission denied")
    else:
        for i, khz in enumerate([1704000] * 4 + [2367000] * 4 + [2914000]):
            print(f"/sys/devices/system/cpu/cpu{{i}}/cpufreq/cpuinfo_max_freq {{khz}}")
elif "cpuinfo" in command:
    print("processor\\t: 0\\nBogoMIPS\\t: 49.15\\nprocessor\\t: 1")
elif "read_ahead_kb" in command:
    print("/sys/block/sda/queue/read_ahead_kb 512")
elif "--version" in command:
    print("fio-3.36" if has("fio") and "/data/local/tmp/fio" in command else "sh: inaccessible or not found")
elif "of=/dev/null" in command:
    if has("no_direct"):
        print("dd: bad iflag 'direct'")
        sys.exit(1)
    count, bs = int(re.search(r"count=(\\d+)", command)[1]), int(re.search(r"bs=(\\d+)", command)[1])
    n = command.count("iflag=direct")
    for _ in range(n):
        print("%d+0 records in" % count)
        print("%d bytes (15 M) copied, %f s, 1.0 G/s" % (count * bs, count * bs * n / 1e9))
elif "urandom" in command:
    print("dd: write: No space left on device" if has("full") else "536870912 bytes (512 M) copied, 3.9 s, 131 M/s")
elif "--name=simio" in command:
    print('note: both iodepth >= 1 and synchronous I/O engine are selected')
    print('{{"fio version": "fio-3.36", "jobs": [{{"jobname": "simio", "read": {{"bw_bytes": 2000000000}}}}]}}')
elif "rm -f" in command:
    pass
else:
    sys.exit("unknown: " + command)
"""


class Phone:
    """The folder of the script, whose files say what the phone is like."""

    def __init__(self, folder):
        self.folder = folder

    def has(self, *names):
        for name in names:
            (self.folder / name).touch()

    def devices(self, *lines):
        (self.folder / "devices").write_text("\n".join(lines))

    def log(self):
        return (self.folder / "log").read_text().splitlines()


@pytest.fixture
def phone(tmp_path, monkeypatch):
    import sys

    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "adb").write_text(ADB.format(python=sys.executable).replace("MODEL", "Pixel 8"))
    (folder / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    found = Phone(folder)
    found.devices("SERIAL1\tdevice")
    return found


def calibrate(tmp_path, *words):
    return simio("calibrate", "--adb", "-o", tmp_path / "phone.toml", *words)


def test_a_phone_with_fio_gets_a_curve_of_both_patterns(phone, tmp_path):
    phone.has("fio")
    result = calibrate(tmp_path, "--json")
    assert result.code == 0, result.err
    device = catalog.load(str(tmp_path / "phone.toml"))
    own = [p for p in device.storage.curve if p.bandwidth.source == "adb"]
    assert {p.pattern for p in own} == {"random", "sequential"}
    assert all(p.bandwidth.value == 2e9 for p in own)
    assert result.json["base"] == "pixel8"
    assert result.json["notes"] == []


def test_a_phone_without_fio_is_read_by_dd_in_order(phone, tmp_path):
    assert calibrate(tmp_path).code == 0
    device = catalog.load(str(tmp_path / "phone.toml"))
    own = {(p.pattern, p.block_bytes, p.queue_depth): p.bandwidth.value for p in device.storage.curve
           if p.bandwidth.source == "adb"}  # fmt: skip
    assert own["sequential", MIB, 4] == pytest.approx(1e9, rel=1e-3)
    assert {pattern for pattern, _, _ in own} == {"sequential"}


def test_what_the_phone_says_is_measured_and_the_rest_inferred_with_wide_bounds(phone, tmp_path):
    calibrate(tmp_path)
    device = catalog.load(str(tmp_path / "phone.toml"))
    assert (device.name, device.soc) == ("Google Pixel 8", "Tensor G3")
    assert device.memory.total.value == pytest.approx(7750000 * KIB, rel=1e-3)
    assert device.memory.usable.value == pytest.approx(3500000 * KIB, rel=1e-3)
    assert device.storage.read_ahead_bytes.value == 512 * KIB
    assert device.memory.total.kind == device.storage.read_ahead_bytes.kind == "measured"
    gemv = device.cpu.gemv["q4_0"]
    assert gemv.kind == "inferred"
    assert (gemv.low <= 0.61 * gemv.value, gemv.high >= 1.39 * gemv.value) == (True, True)
    assert [(c.n_cores, c.clock.value) for c in device.cpu.clusters] == [(1, 2.914e9), (4, 2.367e9), (4, 1.704e9)]


def test_a_phone_of_other_cores_than_its_base_gets_speeds_by_clock(phone, tmp_path):
    made = calibrate(tmp_path, "--device", "rpi5-nvme")
    assert made.code == 0
    assert "powers of rpi5-nvme are those of other cores" in made.out + made.err
    device = catalog.load(str(tmp_path / "phone.toml"))
    clusters = device.cpu.clusters
    assert device.power is None
    assert clusters[0].relative_speed.value == 1
    assert clusters[2].relative_speed.value == pytest.approx(1704 / 2914, rel=1e-3)
    assert clusters[2].relative_speed.low < 0.7 * clusters[2].relative_speed.value


def test_a_phone_of_no_catalogue_starts_from_the_fallback(phone, tmp_path):
    script = phone.folder / "adb"
    script.write_text(script.read_text().replace("Pixel 8", "Nobody 1"))
    assert calibrate(tmp_path, "--json").json["base"] == "pixel8"


def test_the_test_file_is_removed_even_when_it_did_not_fit(phone, tmp_path):
    phone.has("full")
    result = calibrate(tmp_path)
    assert result.code == 0
    assert "not measured: the test file cannot be written: dd: write: No space left on device" in result.out
    assert any("rm -f" in line for line in phone.log())
    device = catalog.load(str(tmp_path / "phone.toml"))
    assert {p.bandwidth.kind for p in device.storage.curve} == {"inferred"}


def test_a_dd_without_direct_reads_is_said(phone, tmp_path):
    phone.has("no_direct")
    assert "dd cannot read directly there: dd: bad iflag 'direct'" in calibrate(tmp_path).out


def test_clocks_that_may_not_be_read_leave_the_clusters_of_the_base(phone, tmp_path):
    phone.has("no_clocks")
    assert "the clocks of the 2 cores may not be read" in calibrate(tmp_path).out


ERRORS = [
    ((), 2, "adb sees no device", "USB debugging"),
    (("A\tunauthorized",), 1, "has not authorized", "confirm the dialog"),
    (("A\toffline",), 1, "A: the device is offline", "plug it in"),
    (("A\tdevice", "B\tdevice"), 2, "2 devices", "--serial, one of A, B"),
]


@pytest.mark.parametrize(("lines", "code", "says", "hint"), ERRORS, ids=lambda v: str(v)[:20])
def test_a_phone_out_of_reach_is_an_error_that_says_what_to_do(phone, tmp_path, lines, code, says, hint):
    phone.devices(*lines)
    result = calibrate(tmp_path)
    assert (result.code, says in result.err, hint in result.err) == (code, True, True), result.err
    assert not (tmp_path / "phone.toml").exists()


def test_the_phone_of_a_serial_is_chosen_and_an_unknown_one_refused(phone, tmp_path):
    phone.devices("A\tdevice", "B\tdevice")
    assert calibrate(tmp_path, "--serial", "B").code == 0
    assert "adb sees no device 'C'" in calibrate(tmp_path, "--serial", "C").err


def test_a_missing_adb_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = calibrate(tmp_path)
    assert (result.code, "apt install adb" in result.err) == (7, True)


def test_a_phone_that_is_unplugged_on_the_way_leaves_no_file(phone, tmp_path):
    script = phone.folder / "adb"
    script.write_text(script.read_text().replace('elif "of=/dev/null"', 'elif "meminfo" not in command and '
                      'sys.exit("adb: device not found"):\n    pass\nelif "of=/dev/null"'))  # fmt: skip
    result = calibrate(tmp_path)
    assert (result.code, "device not found" in result.err) == (1, True)
    assert not (tmp_path / "phone.toml").exists()


def test_what_toybox_and_coreutils_say_is_understood():
    two = Access("sequential", MIB, 2)
    toybox = "64+0 records in\n64+0 records out\n67108864 bytes (64 M) copied, 0.500 s, 128 M/s\n"
    coreutils = "67108864 bytes (67 MB, 64 MiB) copied, 0.25 s, 268 MB/s\n"
    assert plan.dd_bandwidth(toybox + coreutils, two) == pytest.approx(2 * 67108864 / 0.5)
    assert plan.dd_bandwidth(toybox, two) is None


@pytest.mark.parametrize("access", plan.DD_READS, ids=lambda a: a.name)
def test_dd_never_reads_past_the_end_of_the_test_file(access):
    import re

    for number in range(plan.ROUNDS):
        words = plan.dd(access, number)
        count = int(re.search(r"count=(\d+)", words)[1])
        skips = [int(skip) for skip in re.findall(r"skip=(\d+)", words)]
        assert len(skips) == access.queue_depth
        assert max(skips) + count <= plan.SCRATCH_MIB * MIB // access.block_bytes
        assert len(set(skips)) == len(skips)


def test_every_command_of_the_plan_is_in_the_documentation():
    from pathlib import Path

    page = (Path(__file__).parent.parent.parent / "docs" / "calibrate.md").read_text()
    for command in (plan.PROPERTIES, plan.MEMORY, plan.CPU, plan.CLOCKS, plan.READ_AHEAD):
        assert command in page
    assert json.dumps("iflag=direct").strip('"') in page
