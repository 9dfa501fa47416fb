"""Facts of this machine that need no measuring: cores, clocks, RAM, the limit of a memory cgroup, versions."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from simio.errors import UsageError
from simio.units import KIB

_CPU = Path("/sys/devices/system/cpu")
#: Libraries whose version a measured rate depends on.
_LIBRARIES = ("numpy", "zstandard", "lz4", "brotli")


@dataclass(frozen=True, slots=True)
class CoreGroup:
    """Cores with the same highest clock. ``clock_hz``: 0 where the system does not say."""

    cpus: tuple[int, ...]
    clock_hz: float


def core_groups(sysfs: Path = _CPU, cpuinfo: Path = Path("/proc/cpuinfo")) -> list[CoreGroup]:
    """The cores this process may use, in groups by ``cpuinfo_max_freq``, fastest clock first."""
    usable = sorted(os.sched_getaffinity(0))
    clocks = {cpu: _max_clock_hz(sysfs, cpu) for cpu in usable}
    if not any(clocks.values()):
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        clocks = dict.fromkeys(usable, max(map(float, found), default=0.0) * 1e6)
    groups = [CoreGroup(tuple(c for c in usable if clocks[c] == clock), clock) for clock in set(clocks.values())]
    return sorted(groups, key=lambda group: -group.clock_hz)


def _max_clock_hz(sysfs: Path, cpu: int) -> float:
    path = sysfs / f"cpu{cpu}" / "cpufreq" / "cpuinfo_max_freq"
    return float(path.read_text()) * 1e3 if path.is_file() else 0.0


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


def versions() -> str:
    """Kernel, Python, libraries and the BLAS below numpy."""
    import numpy as np

    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"Linux {platform.release()}, Python {platform.python_version()}, {libraries}, {blas['name']}"
