"""Facts of this machine that need no measuring: cores, clocks, RAM, the limit of a memory cgroup, versions."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

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


def versions() -> str:
    """Kernel, Python, libraries and the BLAS below numpy."""
    import numpy as np

    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"Linux {platform.release()}, Python {platform.python_version()}, {libraries}, {blas['name']}"
