"""The test file: incompressible, locked, removed whatever happens, reused when a killed run left it."""

import errno
import os
import subprocess
import sys
import zlib

import pytest

from simio.calibrate import scratch_file as module
from simio.calibrate.scratch_file import NAME, check_folder, scratch_file
from simio.errors import UsageError, WriteError
from simio.units import MIB


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "MIN_BYTES", 16 * MIB)


def opened(folder, **options):
    return scratch_file(folder, 30.0, lambda done, total: None, **({"max_bytes": 16 * MIB} | options))


def test_it_is_there_incompressible_and_gone_at_the_end(disk):
    with opened(disk) as file:
        data = file.path.read_bytes()[:MIB]
        assert file.n_bytes == 16 * MIB
        assert len(zlib.compress(data)) > 0.99 * len(data)
        assert oct(file.path.stat().st_mode)[-3:] == "600"
    assert list(disk.iterdir()) == []


def test_it_is_gone_after_an_error(disk):
    with pytest.raises(RuntimeError), opened(disk):
        raise RuntimeError
    assert list(disk.iterdir()) == []


def test_a_complete_file_of_a_killed_run_is_used_again(disk):
    with opened(disk) as file:
        (disk / "kept").write_bytes(file.path.read_bytes())
    (disk / "kept").rename(disk / NAME)
    before = (disk / NAME).read_bytes()
    with opened(disk) as file:
        assert file.n_bytes == 16 * MIB
        assert file.path.read_bytes() == before


def test_an_incomplete_file_of_a_killed_run_is_written_anew(disk):
    (disk / NAME).write_bytes(bytes(17 * MIB))
    with opened(disk) as file:
        assert file.path.read_bytes()[:MIB] != bytes(MIB)


def test_a_second_calibration_in_the_same_folder_is_refused(disk):
    with opened(disk), pytest.raises(UsageError, match="another calibration is running"), opened(disk):
        pass
    assert list(disk.iterdir()) == []


def test_the_lock_ends_with_its_process(disk):
    code = f"""
import fcntl, os, time
handle = os.open({str(disk / NAME)!r}, os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UsageError, match="another calibration"), opened(disk):
            pass
        other.kill()
    with opened(disk) as file:
        assert file.n_bytes


def test_no_space_is_an_error_and_leaves_nothing(disk, monkeypatch):
    def full(handle, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "pwrite", full)
    with pytest.raises(WriteError, match="no space left"), opened(disk):
        pass
    assert list(disk.iterdir()) == []


def test_too_little_free_space_is_said_before_writing(disk, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": MIB}))
    with pytest.raises(WriteError, match="free, and the test file needs"), opened(disk):
        pass
    assert list(disk.iterdir()) == []


def test_slow_storage_gets_a_smaller_file(disk):
    with scratch_file(disk, 0.0, lambda done, total: None, max_bytes=64 * MIB) as file:
        assert file.n_bytes == 16 * MIB


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no tmpfs at /dev/shm")
def test_a_folder_in_ram_is_refused():
    from pathlib import Path

    with pytest.raises(UsageError, match="tmpfs, which is RAM") as raised:
        check_folder(Path("/dev/shm"))
    assert "--folder" in raised.value.hint


def test_a_file_system_without_direct_reads_is_named(disk, monkeypatch):
    real = os.open

    def refusing(path, flags, *mode, **options):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *mode, **options)

    monkeypatch.setattr(module.os, "open", refusing)
    with pytest.raises(UsageError, match="refuses direct reads"), opened(disk):
        pass
    assert list(disk.iterdir()) == []


def test_a_folder_that_is_none_is_refused(disk):
    with pytest.raises(UsageError, match="no such directory"):
        check_folder(disk / "none")


@pytest.mark.parametrize("signal", ["TERM", "INT"])
def test_a_signal_removes_the_file(disk, signal):
    code = f"""
import time
from pathlib import Path
from simio.calibrate import scratch_file as module
module.MIN_BYTES = 16 << 20
with module.scratch_file(Path({str(disk)!r}), 30.0, lambda a, b: None, 16 << 20):
    print("there", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        run.stdout.readline()
        assert (disk / NAME).exists()
        run.send_signal({"TERM": 15, "INT": 2}[signal])
        run.wait(20)
    assert list(disk.iterdir()) == []
