"""Read a container past the page cache, at most at a given rate, into buffers that are used again."""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from simio.errors import ContainerError
from simio.units import MIB

_DIRECT = getattr(os, "O_DIRECT", 0)


class Pacer:
    """A link of ``bytes_per_s`` that serves one read after the other and gives no credit for idle time.

    A read that arrives at ``t`` ends no earlier than ``max(t, end of the read before) + n/rate``: a rate-limited
    server without a bucket of tokens. (A blkio cgroup saves up tokens while idle, so serial and overlapped reads look
    alike under it.)
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def reserve(self, n_bytes: int) -> float:
        """Take the next turn; when it ends, on the clock of ``time.perf_counter``. [s]"""
        now_s = time.perf_counter()
        if self._bytes_per_s is None:
            return now_s
        with self._lock:
            self._free_s = max(now_s, self._free_s) + n_bytes / self._bytes_per_s
            return self._free_s

    def wait_until(self, end_s: float) -> None:
        """Return at ``end_s``, what ``reserve`` said; at once when that has passed or the link has been stopped."""
        left_s = end_s - time.perf_counter()
        if left_s > 0:
            self._stopped.wait(left_s)

    def stop(self) -> None:
        """Nobody waits for the link any more: the run has been given up."""
        self._stopped.set()


class DirectFile:
    """One file read with O_DIRECT, from any thread; a context manager. ``note`` says so, or what is read instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = "O_DIRECT"
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise ContainerError(f"{path}: cannot be read: {error.strerror}", "check the path") from error

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags | _DIRECT)
            if file_system := _in_memory(descriptor):
                self.note = f"through the page cache: {file_system} has no storage"
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            descriptor = os.open(self.path, flags)
            self.note = "through the page cache: its file system refuses O_DIRECT"
        return descriptor

    def __enter__(self) -> DirectFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def read_into(self, buffer: memoryview, offset: int, read_bytes: int) -> None:
        """Fill ``buffer`` (page-aligned, whole pages) from byte ``offset``, at most ``read_bytes`` (pages) at a time.

        Raises ``ContainerError`` if it cannot.
        """
        done = 0
        while done < len(buffer):
            try:
                n = os.preadv(self._descriptor, [buffer[done : done + read_bytes]], offset + done)
            except OSError as error:
                raise ContainerError(
                    f"{self.path}: cannot be read at byte {offset + done}: {error.strerror}", "check the disk"
                ) from error
            if n == 0:
                raise ContainerError(f"{self.path}: ends at byte {offset + done}", "copy or pack the container again")
            done += n


def _in_memory(descriptor: int) -> str | None:
    """The file system of an open file if its files are nothing but page cache; Linux 6.6 lets O_DIRECT pass there."""
    device = os.fstat(descriptor).st_dev
    wanted, mounts = f"{os.major(device)}:{os.minor(device)}", Path("/proc/self/mountinfo")  # see proc(5)
    for line in mounts.read_text().splitlines() if mounts.is_file() else ():
        fields = line.split()
        file_system = fields[fields.index("-") + 1]
        if fields[2] == wanted and file_system in ("tmpfs", "ramfs"):
            return file_system
    return None


class Buffers:
    """Page-aligned memory, given back after use: fresh pages cost a fault each.

    Sizes are rounded up to powers of two, so that few are lost to others; what is never written takes no RAM.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> mmap.mmap:
        """A buffer of at least ``n_bytes``, with any content."""
        size = 1 << max(12, (n_bytes - 1).bit_length())
        with self._lock:
            free = self._free[size]
            return free.pop() if free else _fresh(size)

    def give(self, buffer: mmap.mmap) -> None:
        """Return a buffer for the next reader."""
        with self._lock:
            self._free[len(buffer)].append(buffer)


def _fresh(n_bytes: int) -> mmap.mmap:
    """Private memory, in huge pages where the system has them: a direct read then pins few pages instead of many."""
    buffer = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if n_bytes >= 2 * MIB and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer
