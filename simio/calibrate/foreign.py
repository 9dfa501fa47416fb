"""What other processes do to the processor meanwhile: a round beside a busy neighbour says little about the machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

#: A round is disturbed when others used more than this share of all CPUs.
DISTURBED = 0.1


@dataclass(frozen=True, slots=True)
class Clock:
    """Processor time of everything and of this process with its ended children, and the time of day. [s]"""

    busy_s: float
    own_s: float
    now_s: float


def now() -> Clock:
    """The clocks now. Source of the fields: proc(5), /proc/stat; its ticks are usually 10 ms."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:4]]  # user, nice, system
    own = os.times()
    own_s = own.user + own.system + own.children_user + own.children_system
    return Clock(sum(ticks) / os.sysconf("SC_CLK_TCK"), own_s, time.monotonic())


def cpus_since(begin: Clock) -> float:
    """Processors' worth of time that other processes have used since ``begin``."""
    end = now()
    others_s = (end.busy_s - begin.busy_s) - (end.own_s - begin.own_s)
    return max(0.0, others_s) / max(1e-9, end.now_s - begin.now_s)


def is_disturbed(cpus: float) -> bool:
    """Whether ``cpus`` of foreign work disturb a round on this machine."""
    return cpus > DISTURBED * (os.cpu_count() or 1)
