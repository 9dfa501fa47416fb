"""How a mapped file is read on this machine: the kernel's read-ahead, and what a page fault costs beyond the read."""

from __future__ import annotations

import mmap
import os
import platform
import random
import re
import time
from pathlib import Path

from simio.calibrate.rounds import Probe
from simio.calibrate.scratch_file import ScratchFile, file_system
from simio.units import KIB, MIB

PAGE_BYTES = mmap.PAGESIZE
FAULT, MAPPED = "fault", "mapped"
#: ext4 keeps large folios in the page cache since Linux 6.16 (fs/ext4, "enable large folio for regular file").
_EXT4_FOLIOS = (6, 16)
FOLIO_BYTES = 2 * MIB
#: Where the block device does not say: VM_READAHEAD_PAGES of Linux, 128 KiB.
DEFAULT_READ_AHEAD = 128 * KIB


def read_ahead_bytes(folder: Path, sysfs: Path = Path("/sys/dev/block")) -> int | None:
    """``read_ahead_kb`` of the block device ``folder`` lies on, or of the disk a partition is part of. [bytes]"""
    device = os.stat(folder).st_dev
    place = sysfs / f"{os.major(device)}:{os.minor(device)}"
    for queue in (place / "queue", place / ".." / "queue", place / "bdi"):
        found = queue / "read_ahead_kb"
        if found.is_file():
            return int(found.read_text()) * KIB
    return None


def folio_bytes(folder: Path) -> int | None:
    """The largest folio of the page cache on ``folder``'s file system, where simio knows it. [bytes]"""
    numbers = re.match(r"(\d+)\.(\d+)", platform.release())
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    return FOLIO_BYTES if version >= _EXT4_FOLIOS and file_system(folder) == "ext4" else None


def probes(file: ScratchFile, seed: int = 2) -> list[Probe]:
    """The extra time of a fault, and the bandwidth of faulting through the file in order."""
    rng = random.Random(seed)
    return [
        Probe(FAULT, lambda duration_s: {FAULT: fault_overhead_s(file, duration_s, rng)}),
        Probe(MAPPED, lambda duration_s: {MAPPED: mapped_bandwidth(file, duration_s, rng)}),
    ]


def fault_overhead_s(file: ScratchFile, duration_s: float, rng: random.Random) -> float:
    """Time of a fault on one cold page minus that of a direct read of it, alternately in one round; may be negative."""
    faults: list[float] = []
    reads: list[float] = []
    with _Opened(file, os.O_DIRECT) as direct, _Opened(file) as plain, mmap.mmap(-1, PAGE_BYTES) as buffer:
        os.posix_fadvise(plain, 0, 0, os.POSIX_FADV_RANDOM)
        with mmap.mmap(plain, file.n_bytes, prot=mmap.PROT_READ) as mapped:
            mapped.madvise(mmap.MADV_RANDOM)
            end_s = time.perf_counter() + duration_s
            while not faults or time.perf_counter() < end_s:
                for offset in _cold_pages(plain, file, rng):
                    start_s = time.perf_counter()
                    mapped[offset]
                    faults.append(time.perf_counter() - start_s)
                    start_s = time.perf_counter()
                    os.preadv(direct, [buffer], _page(file, rng))
                    reads.append(time.perf_counter() - start_s)
    return _median(faults) - _median(reads)


def _cold_pages(handle: int, file: ScratchFile, rng: random.Random) -> list[int]:
    """Some pages, out of the page cache."""
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    return [_page(file, rng) for _ in range(64)]


def mapped_bandwidth(file: ScratchFile, duration_s: float, rng: random.Random) -> float:
    """Bandwidth of touching every page of the cold file in order, announced as sequential, as llama.cpp does. [bytes/s]

    Source: src/llama-mmap.cpp, ``posix_fadvise(POSIX_FADV_SEQUENTIAL)``.
    """
    with _Opened(file) as handle:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        with mmap.mmap(handle, file.n_bytes, prot=mmap.PROT_READ) as mapped:
            start = rng.randrange(file.n_bytes // 2) // MIB * MIB
            begin_s = time.perf_counter()
            for offset in range(start, file.n_bytes, MIB):
                mapped[offset : offset + MIB : PAGE_BYTES]
                if time.perf_counter() - begin_s > duration_s:
                    break
            return (offset + MIB - start) / (time.perf_counter() - begin_s)


class _Opened:
    """A descriptor of the file for a ``with``."""

    def __init__(self, file: ScratchFile, flags: int = 0) -> None:
        self._handle = os.open(file.path, os.O_RDONLY | flags)

    def __enter__(self) -> int:
        return self._handle

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _page(file: ScratchFile, rng: random.Random) -> int:
    return rng.randrange(file.n_bytes // PAGE_BYTES) * PAGE_BYTES


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
