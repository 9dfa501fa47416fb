"""The file that storage is measured on: incompressible, locked, written once, removed at the end.

Ctrl-C and SIGTERM remove it too. SIGKILL cannot: then a file called ``simio-calibrate.scratch`` stays, which the next
run in that folder uses again, or writes anew where it is not complete. The lock is on the file itself (flock(2)), so it
ends with the process that holds it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simio.errors import UsageError, WriteError
from simio.units import GIB, MIB, format_bytes

NAME = "simio-calibrate.scratch"
MAX_BYTES = GIB
MIN_BYTES = 64 * MIB
#: At most this share of the free space is taken.
_SHARE_OF_FREE = 0.5
_PIECE = 8 * MIB
_COMPLETE = b"simio calibrate scratch file, safe to delete\n"
#: File systems that live in RAM: they take O_DIRECT (or refuse it) and measure memory.
_IN_RAM = ("tmpfs", "ramfs", "devtmpfs", "hugetlbfs")


@dataclass(frozen=True, slots=True)
class ScratchFile:
    """A complete test file and how much of it may be read."""

    path: Path
    n_bytes: int


@contextmanager
def scratch_file(
    folder: Path, write_s: float, progress: Callable[[int, int], None], max_bytes: int = MAX_BYTES
) -> Iterator[ScratchFile]:
    """A test file in ``folder``, removed on leaving. Writing stops after ``write_s``, if ``MIN_BYTES`` are there.

    Raises ``UsageError`` for a folder without storage behind it or O_DIRECT, or in use by another calibration;
    ``WriteError`` where the file cannot be written or does not fit.
    """
    path = folder / NAME
    check_folder(folder)
    with _terminating(), _locked(path) as handle:
        try:
            n_bytes = _complete_size(handle) or _fill(handle, folder, write_s, progress, max_bytes)
            _check_direct(path, folder)
            yield ScratchFile(path, n_bytes)
        finally:
            path.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is none, may not be written to, or lies in RAM."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such directory", "name a folder on the storage to measure with --folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"{folder}: no permission to write there", "name another folder with --folder")
    kind = file_system(folder)
    if kind in _IN_RAM:
        raise UsageError(
            f"{folder} is on {kind}, which is RAM and not storage", "name a folder on a disk or flash with --folder"
        )


def file_system(folder: Path) -> str:
    """The type of the file system ``folder`` is on (``ext4``), empty where the system does not say (proc(5))."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    mounts = [line.split() for line in lines if line.split()[2:3] == [wanted]]
    return mounts[-1][mounts[-1].index("-") + 1] if mounts else ""


@contextmanager
def _terminating() -> Iterator[None]:
    """SIGTERM ends the program as an exception would, so that files are removed on the way."""

    def stop(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: the program's own business
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror}", "name another folder with --folder") from error
    try:
        _lock(handle, path)
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    busy = UsageError(
        f"{path.parent}: another calibration is running there", "wait for its end: two at once disturb each other"
    )
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    if os.fstat(handle).st_nlink == 0:  # its owner removed it between our opening and our locking
        raise busy


def _complete_size(handle: int) -> int:
    """How many bytes of a file left by a killed run can be read; 0 where it is not complete."""
    size = os.fstat(handle).st_size
    is_ours = size > MIN_BYTES and os.pread(handle, len(_COMPLETE), size - len(_COMPLETE)) == _COMPLETE
    return (size - len(_COMPLETE)) // MIB * MIB if is_ours else 0


def _fill(handle: int, folder: Path, write_s: float, progress: Callable[[int, int], None], max_bytes: int) -> int:
    """Write the file; its readable size. Random bytes, so that no compressing drive can cheat."""
    free = shutil.disk_usage(folder).free
    wanted = min(max_bytes, int(free * _SHARE_OF_FREE)) // _PIECE * _PIECE
    if wanted < MIN_BYTES:
        raise WriteError(
            f"{folder}: {format_bytes(free)} free, and the test file needs {format_bytes(2 * MIN_BYTES)}",
            "free some space, or name another folder with --folder",
        )
    import numpy as np

    rng = np.random.default_rng()
    os.ftruncate(handle, 0)
    written, end_s = 0, time.monotonic() + write_s
    try:
        while written < wanted and (written < MIN_BYTES or time.monotonic() < end_s):
            _write_all(handle, rng.bytes(_PIECE), written)
            written += _PIECE
            if written % (8 * _PIECE) == 0:
                os.fdatasync(handle)
            progress(written, wanted)
        _write_all(handle, _COMPLETE, written)
        os.fsync(handle)
    except OSError as error:
        reason = "no space left" if error.errno == errno.ENOSPC else error.strerror
        raise WriteError(f"{folder / NAME}: {reason}", "name another folder with --folder") from error
    return written


def _write_all(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(handle, view, offset)
        view, offset = view[n:], offset + n


def _check_direct(path: Path, folder: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError as error:
        raise UsageError(
            f"{folder}: this file system ({file_system(folder) or 'unknown'}) refuses direct reads (O_DIRECT): "
            f"{error.strerror}",
            "name a folder on ext4, xfs, f2fs or btrfs with --folder",
        ) from None
