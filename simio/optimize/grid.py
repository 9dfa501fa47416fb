"""The scenarios that are tried first: a grid over what the user left open, by the compiled loops of a sweep.

Mapped and resident runs, streams under every codec, pinned or not; of a mixture, cache sizes, lanes and overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from simio.optimize.trying import Trials
from simio.pareto import pareto_front
from simio.predict.resolve import Resolved
from simio.records.device import Device
from simio.records.optimum import GOALS, Configuration, Goal
from simio.records.scenario import Scenario
from simio.service_times import n_cores
from simio.sweep import frames
from simio.sweep.axes import Axis
from simio.sweep.outcome import COLUMNS, NUMBER
from simio.sweep.study import Study

#: Shares of the RAM budget that are tried beside all of it.
RAM_SHARES = (0.25, 0.5, 0.75)
#: Shares of it for the cache of experts.
CACHE_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PREFETCH_DEPTHS = (1, 2, 4)
LANES = (1, 2, 4, 8)

#: Best rows of each study, and most rows of its front, that are predicted again one by one.
_N_BEST, _MOST_FRONT = 3, 10
#: What is minimised → its column, where a sweep calls it otherwise.
_COLUMN_OF = {"ram": "peak_ram_bytes"}

_Table = dict[str, Any]


def grid(base: Scenario, one: Resolved, codecs: Sequence[str]) -> list[Study]:
    """What is tried of ``base``, ``one`` being it as a stream; ``codecs`` as in a scenario, ``raw`` among them."""
    fixed = {name: value for name, value in base.to_json().items() if value is not None}
    fixed |= {"draws": 0}
    fixed.pop("runtime", None) if base.runtime == "auto" else None
    budget = one.scenario.ram_bytes or 0
    tables = _of_mixture(budget) if one.layout.n_experts else _of_dense(one.device, budget, codecs)
    threads = _thread_counts(one.device)
    found = []
    for table in (*tables, {"runtime": "mmap", "n_threads": threads}, {"runtime": "resident", "n_threads": threads}):
        study = _study(fixed, table)
        if study is not None:
            found.append(study)
    return found


def _of_dense(device: Device, budget: int, codecs: Sequence[str]) -> Iterator[_Table]:
    common = {"runtime": "stream", "n_threads": _thread_counts(device), "prefetch_depth": PREFETCH_DEPTHS}
    ram = [round(budget * share) for share in RAM_SHARES]
    for codec in codecs:
        packed = {} if codec == "raw" else {"n_workers": _worker_counts(device)}
        yield common | packed | {"codec": codec}
        yield common | packed | {"codec": codec, "ram_bytes": ram}
        yield common | packed | {"codec": codec, "pinned_bytes": 0}
        if packed:
            yield common | packed | {"codec": codec, "cache_form": "compressed"}


def _of_mixture(budget: int) -> Iterator[_Table]:
    cache = [round(budget * share) for share in CACHE_SHARES]
    common: _Table = {"runtime": "stream", "queue_depth": LANES, "expert_overlap": (True, False)}
    yield common | {"cache_policy": ("lru",), "cache_bytes": cache}
    yield common | {"cache_policy": ("lru",)}  # all that is free, but for what the system wants left
    yield common | {"cache_policy": "none"}


def _thread_counts(device: Device) -> list[int]:
    cores = n_cores(device.cpu)
    return sorted({device.cpu.default_threads, max(1, cores // 2), max(1, cores - 1)})


def _worker_counts(device: Device) -> list[int]:
    cores = n_cores(device.cpu)
    return sorted({1, max(1, cores // 2), cores})


def _study(fixed: Mapping[str, Any], table: _Table) -> Study | None:
    """``table`` (values, or one value) on top of ``fixed``; None where the user asked for something else."""
    if any(
        name in fixed and not isinstance(value, list | tuple) and fixed[name] != value for name, value in table.items()
    ):
        return None
    axes = tuple(
        Axis(name, tuple(values)) for name, values in table.items()
        if isinstance(values, list | tuple) and (name not in fixed or name == "ram_bytes")
    )  # fmt: skip
    base = {name: value for name, value in table.items() if not isinstance(value, list | tuple)}
    whole = dict(fixed) | base
    for one in axes:
        whole.pop(one.name, None)
        if one.name == "ram_bytes":
            whole.pop("available_bytes", None)
    return Study(whole, axes, n_checked=0)


def best_of(studies: Sequence[Study], goal: Goal, trials: Trials, tick: Any) -> list[Configuration]:
    """The rows that matter, predicted one by one: the best and the front of each study."""
    found: list[Configuration] = []
    for study in studies:
        numbers = np.arange(study.n)
        rows = np.full((study.n, len(COLUMNS)), np.nan)
        for places, frame in study.frames(numbers):
            rows[places] = frames.run(frame).numbers
        trials.n += study.n
        values = study.values(numbers)
        for i in _worth(rows, goal):
            fields = {name: _plain(column[i]) for name, column in values.items()}
            one = trials.of(Scenario.of(None, **{**study.base, **fields}))
            if one is not None:
                found.append(one)
        tick()
    return found


def _worth(rows: np.ndarray[Any, Any], goal: Goal) -> list[int]:
    """Row numbers: the best for the goal, and those on the front of speed, RAM and bytes read."""
    columns = np.column_stack(
        [-rows[:, NUMBER["tokens_per_s"]], rows[:, NUMBER["peak_ram_bytes"]], rows[:, NUMBER["bytes_per_token"]]]
    )
    front = np.flatnonzero(pareto_front(columns))
    by_goal = np.argsort(rows[:, NUMBER[_COLUMN_OF.get(goal.minimise, GOALS[goal.minimise])]], kind="stable")[:_N_BEST]
    spread = front[np.unique(np.linspace(0, len(front) - 1, min(len(front), _MOST_FRONT)).astype(int))]
    known = ~np.isnan(columns).any(axis=1)
    return [int(i) for i in dict.fromkeys([*by_goal, *spread]) if known[i]]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
