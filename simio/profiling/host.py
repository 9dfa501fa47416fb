"""This machine as a measurement records it."""

from __future__ import annotations

import os
import platform
import re
from datetime import date
from pathlib import Path

from simio.records.codec_profile import HostFacts

_CPUINFO = Path("/proc/cpuinfo")


def host_facts(library: str) -> HostFacts:
    """CPU, cores this process may use, compression library and today's date."""
    return HostFacts(cpu_name(), n_usable_cpus(), library, date.today().isoformat())


def n_usable_cpus() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """The CPU as the system names it, for example ``AMD EPYC``; the instruction set where it has no name."""
    if _CPUINFO.is_file():
        text = _CPUINFO.read_text(errors="replace")
        for key in ("model name", "Hardware", "Model"):
            if match := re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE):
                return match[1].strip()
    return platform.processor() or platform.machine()
