"""A calibration of this machine, as short as it gets: a good device file, or nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import simio

from simio import catalog
from simio.calibrate import decompression, host, host_table, kernels, machine
from simio.calibrate.document import write
from simio.calibrate.machine import CoreGroup, core_groups
from simio.calibrate.quantities import FASTER, SLOWER
from simio.calibrate.scratch_file import NAME
from simio.errors import DeviceFileError, UsageError, WriteError
from simio.predict import predict
from simio.profiling.host_memory import memory_bytes, parse_meminfo
from simio.records.scenario import Scenario
from simio.records.weight_types import GEMV_CLASSES
from simio.units import MIB

SHORT = ("--engine", "builtin", "--budget", "2")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """One short calibration for the tests that look at its file."""
    from simio.calibrate.scratch_file import check_folder
    from simio.errors import SimioError

    folder = tmp_path_factory.mktemp("host")
    try:
        check_folder(folder)
    except SimioError:
        pytest.skip("the temporary folder is not on a disk")
    return host.calibrate(folder / "here.toml", engine="builtin", budget_s=2.0), folder / "here.toml"


def test_the_file_is_one_the_catalogue_accepts_and_nothing_else_is_left(found):
    calibration, path = found
    assert catalog.check(path) == []
    assert catalog.load(str(path)) == calibration.device
    assert [p.name for p in path.parent.iterdir()] == ["here.toml"]


def test_numbers_are_measured_with_date_kernel_and_libraries(found):
    device = found[0].device
    (source,) = [s for s in device.sources if s.kind == "measured"]
    for said in ("20", "Linux ", "numpy ", "zstandard ", "O_DIRECT", "round"):
        assert said in source.note
    assert device.storage.curve[0].bandwidth.kind == device.cpu.gemv["q8_0"].kind == "measured"


def test_every_table_is_filled(found):
    device = found[0].device
    assert set(device.cpu.gemv) == set(GEMV_CLASSES)
    assert set(device.cpu.decompress) == {"lz4", "zstd", "brotli"}
    assert {p.queue_depth for p in device.storage.curve} >= {1, 2, 4, 8, 32}
    assert {p.pattern for p in device.storage.curve} == {"random", "sequential"}
    assert 0 < device.memory.usable.value < device.memory.total.value


def test_bounds_hold_the_value_and_come_from_the_rounds(found):
    calibration = found[0]
    zstd = calibration.device.cpu.decompress["zstd"]
    rounds = calibration.rounds["decompress/zstd/1"]
    assert zstd.low <= zstd.value <= zstd.high
    assert min(rounds) * SLOWER * 0.999 <= zstd.low
    assert zstd.high <= max(rounds) * FASTER * 1.001


def test_a_streaming_run_can_be_predicted_from_it(found):
    scenario = Scenario(device=str(found[1]), model="llama-3.2-1b:q8_0", runtime="stream", codec="zstd:1",
                        ram_bytes=800 * MIB, draws=20)  # fmt: skip
    assert predict(scenario).tokens_per_s > 0


def test_the_command_prints_the_numbers_and_the_rounds(disk):
    result = simio("calibrate", "host", "-o", disk / "here.toml", *SHORT, "--json")
    assert result.code == 0
    assert result.json["device"]["cpu"]["gemv"]["q8_0"]["unit"] == "bytes_per_s"
    assert result.json["rounds"]["memory"]
    assert result.json["engine"] == "preadv with O_DIRECT"


REFUSED = [
    (("calibrate",), "choose one of"),
    (("calibrate", "host"), "no -o"),
    (("calibrate", "host", "--adb", "-o", "x.toml"), "choose one of"),
    (("calibrate", "phone", "-o", "x.toml"), "'phone' is not known"),
    (("calibrate", "host", "-o", "x.toml", "--serial", "1"), "--serial means nothing"),
    (("calibrate", "host", "-o", "x.toml", "--device", "pixel8"), "--device means nothing"),
    (("calibrate", "--adb", "-o", "x.toml", "--folder", "/tmp"), "--folder means nothing"),
    (("calibrate", "host", "-o", "x.toml", "--budget", "181"), "--budget 181"),
    (("calibrate", "host", "-o", "x.toml", "--budget", "nan"), "--budget nan"),
    (("calibrate", "host", "-o", "x.toml", "--engine", "dd"), "unknown engine 'dd'"),
    (("calibrate", "host", "-o", "X Y.toml"), "no device id"),
    (("calibrate", "host", "-o", "x.json"), "NAME.toml"),
    (("calibrate", "host", "-o", "/no/such/place/x.toml"), "no such directory"),
    (("calibrate", "host", "-o", "x.toml", "--folder", "/no/such/place"), "no such directory"),
    (("calibrate", "host", "-o", "x.toml", "--folder", "/dev/shm"), "which is RAM"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), REFUSED, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_what_makes_no_sense_is_refused_before_anything_is_measured(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = simio(*words)
    assert says in result.err
    assert "→" in result.err
    assert result.code in (2, 3)
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_output_is_refused_before_anything_is_measured(tmp_path):
    tmp_path.chmod(0o500)
    assert simio("calibrate", "host", "-o", tmp_path / "x.toml", *SHORT).code == 9


def test_an_output_that_cannot_be_written_in_the_end_leaves_nothing(disk, monkeypatch):
    from simio.calibrate import document

    def full(path, text):
        raise WriteError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(document, "write_whole", full)
    with pytest.raises(WriteError):
        host.calibrate(disk / "x.toml", engine="builtin", budget_s=2.0)
    assert list(disk.iterdir()) == []


def test_a_table_that_breaks_the_schema_is_not_written(tmp_path):
    with pytest.raises(DeviceFileError, match="was not written"):
        write({"schema": 1, "id": "x", "name": "X"}, tmp_path / "x.toml")
    assert not (tmp_path / "x.toml").exists()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_calibration_that_is_killed_leaves_no_device_file_and_the_next_one_works(disk, kill):
    command = [sys.executable, "-m", "simio", "calibrate", "host", "-o", str(disk / "x.toml"), "--budget", "60"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + 60
        while not (disk / NAME).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        run.send_signal(kill)
        errors = run.communicate(timeout=60)[1]
    assert run.returncode != 0
    assert b"Traceback" not in errors
    assert [p.name for p in disk.iterdir()] == ([NAME] if kill == signal.SIGKILL else [])
    assert simio("calibrate", "host", "-o", disk / "x.toml", *SHORT).code == 0
    assert [p.name for p in disk.iterdir()] == ["x.toml"]


def test_cores_are_grouped_by_clock_fastest_first(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2})
    for cpu, khz in enumerate((1_800_000, 2_400_000, 1_800_000)):
        (tmp_path / f"cpu{cpu}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "cpufreq" / "cpuinfo_max_freq").write_text(f"{khz}\n")
    assert core_groups(tmp_path) == [CoreGroup((1,), 2.4e9), CoreGroup((0, 2), 1.8e9)]


def test_cores_without_a_stated_clock_are_one_group(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1})
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")
    assert core_groups(tmp_path, tmp_path / "cpuinfo") == [CoreGroup((0, 1), 0.0)]


def test_threads_stop_where_slower_cores_would_slow_them_down():
    big, little = CoreGroup((0, 1), 3e9), CoreGroup((2, 3, 4, 5), 1e9)
    assert host_table.best_threads([big]) == 2
    assert host_table.best_threads([CoreGroup((0,), 3e9), little]) == 5
    assert host_table.best_threads([CoreGroup((0, 1, 2), 3e9), CoreGroup((3,), 1e9)]) == 3


def test_a_lower_limit_of_a_cgroup_is_what_is_usable(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable:  800 kB\n")
    real = Path.read_text
    monkeypatch.setattr(
        machine.Path, "read_text", lambda p, *a: "0::/box\n" if str(p) == "/proc/self/cgroup" else real(p, *a)
    )
    assert memory_bytes(tmp_path / "meminfo", tmp_path) == (1000 * 1024, 800 * 1024)
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "memory.max").write_text("300000\n")
    assert memory_bytes(tmp_path / "meminfo", tmp_path) == (1000 * 1024, 300_000)
    (tmp_path / "box" / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path / "meminfo", tmp_path) == (1000 * 1024, 800 * 1024)


def test_a_meminfo_without_the_numbers_is_refused():
    with pytest.raises(UsageError, match="MemTotal"):
        parse_meminfo("MemFree: 3 kB\n")


def test_every_codec_has_a_reference_that_shrinks():
    for codec in decompression.CODECS.values():
        samples = decompression.samples_of(codec)
        assert samples
        assert all(len(s.stored) < s.raw_bytes for s in samples)


@pytest.mark.parametrize("name", [name for name, dtype in kernels.TYPES.items() if kernels.can_compute(dtype)])
def test_the_weights_multiplied_are_ordinary_numbers(name):
    import numpy as np

    from simio.runtime.kernels import dequantize

    dtype = kernels.TYPES[name]
    values = dequantize(dtype, kernels.stored_rows(dtype, 4), 4, kernels.N_COLS, kernels._scales(dtype))
    assert np.isfinite(values).all()
    assert 0 < np.abs(values).max() < 1e6


def test_the_arena_is_walked_from_end_to_end():
    arena = kernels.Arena(4 * MIB)
    blocks = arena.blocks("Q8_0")
    assert 0.98 * 4 * MIB < sum(len(b.data) for b in blocks) <= 4 * MIB
    work = kernels.gemv_work(blocks)
    assert sum(work(i) for i in range(len(blocks))) == sum(len(b.data) for b in blocks)


def test_threads_given_one_function_share_its_numbers():
    seen = []

    def work(number):
        seen.append(number)
        time.sleep(0.001)
        return 1

    kernels.shared_rate([work, work], 0.02)
    assert sorted(seen) == list(range(len(seen)))
