"""Which quantities of a device file a fit may move: a table, a line a parameter.

A parameter multiplies all numbers at its places by one factor, so a fit keeps the shape of a read curve and the ratios
between kernels, and has a handful of unknowns whatever the file holds. Places a device file does not have are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, log
from statistics import median
from typing import Any

from simio.calibrate.document import Table
from simio.calibrate.quantities import Entry
from simio.records.device import Device, Quantity, ReadPoint

#: Standard normal quantile of 90 %: ``low`` and ``high`` of a device file lie there.
Z90 = 1.2815515655446004
#: No number of a device file is believed closer than this before a fit (standard deviation of its logarithm).
LEAST_SPREAD = 0.05


@dataclass(frozen=True, slots=True)
class Parameter:
    """One factor. ``places`` are tables or numbers of a device file; ``moves_plan`` where bytes depend on it, too."""

    name: str
    places: tuple[str, ...]
    meaning: str
    moves_plan: bool = False


PARAMETERS = (
    Parameter("storage", ("storage.curve", "storage.fault_bandwidth"), "all read rates"),
    Parameter("gemv", ("cpu.gemv",), "dequantize + multiply, all kernels"),
    Parameter("layer_overhead", ("cpu.layer_overhead",), "barriers and dispatch of a layer"),
    Parameter("read_bandwidth", ("memory.read_bandwidth",), "RAM that all threads read"),
    Parameter("commit_bandwidth", ("memory.commit_bandwidth",), "pages a weight cache lets go for new ones"),
    Parameter("handover", ("cpu.handover",), "waking threads that wait for reads of experts"),
    Parameter("swap_fault", ("memory.swap_fault",), "a page that comes back from swap"),
    Parameter("fresh_page", ("memory.fresh_page",), "a page that a lane is the first to touch"),
    Parameter("fault_overhead", ("storage.fault_overhead",), "CPU time of a page fault"),
)


def present(device: Device) -> tuple[Parameter, ...]:
    """The parameters whose quantities ``device`` has."""
    return tuple(p for p in PARAMETERS if any(_has(device, place) for place in p.places))


def quantities(device: Device, parameter: Parameter) -> list[Quantity]:
    """Every number that ``parameter`` multiplies, in the order of the file."""
    return [q for place in parameter.places for q in _numbers(_at(device, place))]


def spread(device: Device, parameter: Parameter) -> tuple[float, float]:
    """Standard deviations of the logarithm to the slow and the fast side, from the file's own bounds.

    Of many numbers the middle one: they move together.
    """
    found = quantities(device, parameter)
    down = median(log(q.value / q.low) if q.low > 0 else Z90 for q in found) / Z90
    up = median(log(q.high / q.value) for q in found) / Z90
    return max(LEAST_SPREAD, down), max(LEAST_SPREAD, up)


def scaled(device: Device, logs: Mapping[str, float]) -> Device:
    """``device`` with the numbers of each parameter named in ``logs`` times e to that power, bounds included."""
    for parameter in PARAMETERS:
        if factor := logs.get(parameter.name, 0.0):
            for place in parameter.places:
                device = _put(device, place, _times(exp(factor)))
    return device


def one_scaled(device: Device, parameter: Parameter, index: int, by_log: float) -> Device:
    """``device`` with only the number ``quantities(device, parameter)[index]`` times e to ``by_log``."""
    count = iter(range(10**6))
    factor = _times(exp(by_log))
    for place in parameter.places:
        device = _put(device, place, lambda q: factor(q) if next(count) == index else q)
    return device


def entries(table: Table, parameter: Parameter) -> list[Entry]:
    """The same numbers, in the same order, in a device file's table; they may be changed in place."""
    found: list[Entry] = []
    for place in parameter.places:
        value: Any = table
        for key in place.split("."):
            value = value.get(key, {})
        found += _entries(value)
    return found


def _entries(value: Any) -> list[Entry]:
    if isinstance(value, list):
        return [point["bandwidth"] for point in value]
    return [value] if "value" in value else [item for item in value.values() if isinstance(item, dict)]


def _attribute(owner: Any, key: str) -> str:
    """A record's name of a key: its unit may stand behind it."""
    return next((name for name in (key, f"{key}_bytes", f"{key}_s") if hasattr(owner, name)), "")


def _has(device: Device, place: str) -> bool:
    return any(q.value > 0 for q in _numbers(_at(device, place)))


def _at(device: Device, place: str) -> Any:
    found: Any = device
    for key in place.split("."):
        name = _attribute(found, key)
        found = getattr(found, name) if name else None
    return found


def _numbers(value: Any) -> list[Quantity]:
    if isinstance(value, Quantity):
        return [value]
    if isinstance(value, dict):
        return list(value.values())
    return [point.bandwidth for point in value or ()]


def _put(device: Device, place: str, change: Callable[[Quantity], Quantity]) -> Device:
    room, key = place.split(".")
    inner: Any = getattr(device, room)
    name = _attribute(inner, key)
    if not name or getattr(inner, name) is None:
        return device
    changed = replace(inner, **{name: _changed(getattr(inner, name), change)})
    return replace(device, **{room: changed})


def _changed(value: Any, change: Callable[[Quantity], Quantity]) -> Any:
    if isinstance(value, Quantity):
        return change(value)
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    points: tuple[ReadPoint, ...] = value
    return tuple(replace(point, bandwidth=change(point.bandwidth)) for point in points)


def _times(factor: float) -> Callable[[Quantity], Quantity]:
    return lambda q: replace(q, value=q.value * factor, low=q.low * factor, high=q.high * factor)
