"""The probe plan for a phone: shell commands that need no root, and how their answers read.

docs/calibrate.md lists the same commands for use by hand in Termux.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from simio.calibrate.direct_reads import Access
from simio.units import KIB, MIB

FOLDER = "/data/local/tmp"
SCRATCH = f"{FOLDER}/simio-calibrate.scratch"
SCRATCH_MIB = 512
#: Where a fio for the phone may lie: pushed by hand, or Termux's where its app may be entered.
FIO_PLACES = (f"{FOLDER}/fio", "run-as com.termux files/usr/bin/fio", "/data/data/com.termux/files/usr/bin/fio")

PROPERTIES = "getprop"
MEMORY = "cat /proc/meminfo"
CPU = "cat /proc/cpuinfo"
CLOCKS = "for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do echo $f $(cat $f); done"
READ_AHEAD = (
    "for f in /sys/block/sd[a-z]/queue/read_ahead_kb /sys/block/mmcblk0/queue/read_ahead_kb; do echo $f $(cat $f); done"
)
WRITE = f"dd if=/dev/urandom of={SCRATCH} bs={MIB} count={SCRATCH_MIB} && sync"
REMOVE = f"rm -f {SCRATCH}"

#: Reads made with fio and with dd, which reads in order only; three rounds of each.
FIO_READS = tuple(
    Access(pattern, block, depth)
    for pattern in ("sequential", "random")
    for block, depth in ((4 * KIB, 1), (4 * KIB, 8), (64 * KIB, 1), (MIB, 1), (MIB, 4), (4 * MIB, 1), (4 * MIB, 4))
)
DD_READS = tuple(Access("sequential", block, depth) for block in (4 * KIB, 64 * KIB, MIB, 4 * MIB) for depth in (1, 4))
ROUNDS = 3
#: How much dd reads: about as long as a round of fio.
_DD_BYTES = {4 * KIB: 16 * MIB, 64 * KIB: 128 * MIB}


def has_fio(place: str) -> str:
    """Says ``fio-3.xx`` where ``place`` is a fio that runs."""
    return f"{place} --version"


def fio(place: str, access: Access) -> str:
    """One round of fio: a waiting thread for each read in flight, which every Android allows."""
    rw = "randread" if access.pattern == "random" else "read"
    share = SCRATCH_MIB // access.queue_depth
    return (
        f"{place} --name=simio --filename={SCRATCH} --rw={rw} --bs={access.block_bytes} --direct=1 --ioengine=psync "
        f"--thread --numjobs={access.queue_depth} --group_reporting --size={share}m --offset_increment={share}m "
        "--time_based --runtime=1 --readonly --invalidate=0 --output-format=json"
    )


def dd(access: Access, number: int) -> str:
    """One round of toybox's dd: ``queue_depth`` of them side by side, each on its own part of the file."""
    n_bytes = _DD_BYTES.get(access.block_bytes, SCRATCH_MIB * MIB // 4) // access.queue_depth
    count = max(1, n_bytes // access.block_bytes)
    part = SCRATCH_MIB * MIB // access.queue_depth // access.block_bytes
    skip = number * count % max(1, part - count)
    words = f"if={SCRATCH} of=/dev/null iflag=direct bs={access.block_bytes} count={count}"
    one = [f"dd {words} skip={k * part + skip} &" for k in range(access.queue_depth)]
    return " ".join(one) + " wait"


def dd_bandwidth(text: str, access: Access) -> float | None:
    """Bytes per second of all the dd's of one round, by the slowest; nothing where one of them failed.

    toybox and coreutils both end in ``N bytes (…) copied, S s, …``.
    """
    found = re.findall(r"^(\d+) bytes .*copied, ([\d.]+) s", text, re.MULTILINE)
    if len(found) != access.queue_depth:
        return None
    return sum(int(n) for n, _ in found) / max(1e-9, *(float(s) for _, s in found))


def properties(text: str) -> dict[str, str]:
    """``[ro.product.model]: [Pixel 8]`` lines."""
    return dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]*)\]", text, re.MULTILINE))


def clocks_hz(text: str) -> list[float]:
    """The highest clock of each core, fastest first; empty where the phone does not say."""
    return sorted(
        (float(khz) * 1e3 for khz in re.findall(r"cpuinfo_max_freq (\d+)\s*$", text, re.MULTILINE)), reverse=True
    )


def n_processors(text: str) -> int:
    """Cores that /proc/cpuinfo lists."""
    return len(re.findall(r"^processor\s*:", text, re.MULTILINE))


def read_ahead_bytes(text: str) -> int | None:
    """The largest ``read_ahead_kb``; nothing where it may not be read."""
    found = [int(kib) * KIB for kib in re.findall(r"read_ahead_kb (\d+)\s*$", text, re.MULTILINE)]
    return max(found, default=0) or None


def hand_plan(place: str = "fio") -> Sequence[str]:
    """Every command, in order, as a person would type them."""
    return (PROPERTIES, MEMORY, CPU, CLOCKS, READ_AHEAD, WRITE, *(fio(place, a) for a in FIO_READS), REMOVE)
