"""How much RAM this machine has, and how much of it one process can still take."""

from __future__ import annotations

import re
from pathlib import Path

from simio.errors import UsageError
from simio.units import KIB


def memory_bytes(meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """(total, available to one process): ``MemTotal``, and ``MemAvailable`` or a cgroup's limit where that is lower."""
    fields = parse_meminfo(meminfo.read_text())
    total, available = fields["MemTotal"], fields["MemAvailable"]
    return total, min(available, *_cgroup_limits(cgroups))


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes; raises ``UsageError`` where ``MemTotal`` or ``MemAvailable`` is missing."""
    fields = {name: int(n) * KIB for name, n in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    if "MemTotal" not in fields or "MemAvailable" not in fields:
        raise UsageError("/proc/meminfo does not say MemTotal and MemAvailable", "they are there since Linux 3.14")
    return fields


def _cgroup_limits(root: Path) -> list[int]:
    """Limits of the memory cgroups this process is in, of both versions; empty lines of the path upwards included."""
    limits = [1 << 62]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        base, name = (root, "memory.max") if number == "0" else (root / "memory", "memory.limit_in_bytes")
        if number != "0" and "memory" not in controllers.split(","):
            continue
        place = base / path.lstrip("/")
        for folder in (place, *place.parents):
            file = folder / name
            if file.is_file() and (text := file.read_text().strip()).isdigit():
                limits.append(int(text))
            if folder == base:
                break
    return limits
