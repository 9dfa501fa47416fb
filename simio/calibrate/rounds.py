"""Measure many things in turns: short rounds, spread over the whole time, in a new random order each sweep.

A machine drifts: a slow minute must not fall on one number alone. So every number is a median over rounds far apart,
and its bounds are the 10th and 90th percentile over rounds — what a run may meet, not the error of the mean.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: A round lasts this long where time suffices. [s]
ROUND_S = 0.3
_LEAST_ROUND_S = 0.01
MIN_SWEEPS, MAX_SWEEPS = 3, 12
#: A round's start and end cost about this share of it.
_BESIDE = 1.15

Series = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Probe:
    """Something to measure. ``measure(duration_s)`` gives one value for each series it feeds.

    ``every``: it takes part in each ``every``-th sweep. ``share``: its rounds are this part of ``ROUND_S``.
    ``extra_s``: what a round costs beside, for example the start of a process.
    """

    name: str
    measure: Callable[[float], Mapping[str, float]]
    every: int = 1
    share: float = 1.0
    extra_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many sweeps, and how long a whole round is. [s]"""

    n_sweeps: int
    round_s: float


def schedule(probes: Sequence[Probe], budget_s: float) -> Schedule:
    """As many sweeps of full rounds as fit; shorter rounds where even the fewest do not."""
    for n_sweeps in range(MAX_SWEEPS, MIN_SWEEPS - 1, -1):
        if _planned_s(probes, n_sweeps, ROUND_S) <= budget_s:
            return Schedule(n_sweeps, ROUND_S)
    fixed_s = _planned_s(probes, MIN_SWEEPS, 0.0)
    per_round = (_planned_s(probes, MIN_SWEEPS, ROUND_S) - fixed_s) / ROUND_S
    return Schedule(MIN_SWEEPS, max(_LEAST_ROUND_S, (budget_s - fixed_s) / per_round))


def _planned_s(probes: Sequence[Probe], n_sweeps: int, round_s: float) -> float:
    return sum(n_visits(p, n_sweeps) * (_BESIDE * p.share * round_s + p.extra_s) for p in probes)


def n_visits(probe: Probe, n_sweeps: int) -> int:
    """Rounds of ``probe`` in ``n_sweeps``; never fewer than the fewest sweeps have."""
    return max(MIN_SWEEPS, -(-n_sweeps // probe.every))


def measure_all(
    probes: Sequence[Probe],
    deadline_s: float,
    plan: Schedule,
    progress: Callable[[int, int], None],
    seed: int = 0,
    load: Callable[[], Callable[[], bool]] = lambda: lambda: False,
) -> Series:
    """Every probe's values, by series, in the order measured.

    ``deadline_s`` is on the clock of ``time.monotonic``: after it, only probes that have no value yet are measured.
    ``load()`` begins to watch other processes, and what it returns says whether they disturbed. Disturbed rounds are
    repeated while time is left, and do not count where a series has enough others.
    """
    rng, kept = random.Random(seed), _Kept()
    visits = _visits(probes, plan.n_sweeps, rng)
    waiting: list[Probe] = []
    for done, probe in enumerate(visits):
        progress(done, len(visits))
        if (time.monotonic() < deadline_s or probe.name not in kept.names) and not kept.measure(probe, plan, load):
            waiting.append(probe)
    rng.shuffle(waiting)
    while waiting and time.monotonic() + plan.round_s < deadline_s:
        probe = waiting.pop(0)
        if not kept.measure(probe, plan, load):
            waiting.append(probe)
    progress(len(visits), len(visits))
    return kept.series()


class _Kept:
    """Values by series, those of disturbed rounds apart."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._quiet = Series()
        self._disturbed = Series()

    def measure(self, probe: Probe, plan: Schedule, load: Callable[[], Callable[[], bool]]) -> bool:
        """One round; whether it was quiet."""
        watch = load()
        found = probe.measure(probe.share * plan.round_s)
        is_quiet = not watch()
        self.names.add(probe.name)
        for name, value in found.items():
            (self._quiet if is_quiet else self._disturbed).setdefault(name, []).append(value)
        return is_quiet

    def series(self) -> Series:
        """Quiet rounds alone where there are at least ``MIN_SWEEPS``, else all."""
        found = Series()
        for name in self._quiet.keys() | self._disturbed.keys():
            quiet = self._quiet.get(name, [])
            found[name] = quiet if len(quiet) >= MIN_SWEEPS else quiet + self._disturbed.get(name, [])
        return found


def _visits(probes: Sequence[Probe], n_sweeps: int, rng: random.Random) -> list[Probe]:
    """The order of rounds: each probe's visits evenly over the sweeps, each sweep shuffled."""
    sweeps: list[list[Probe]] = [[] for _ in range(n_sweeps)]
    for number, probe in enumerate(probes):
        n = n_visits(probe, n_sweeps)
        for visit in range(n):
            sweeps[(visit * n_sweeps // n + number % max(1, n_sweeps // n)) % n_sweeps].append(probe)
    for sweep in sweeps:
        rng.shuffle(sweep)
    return [probe for sweep in sweeps for probe in sweep]
