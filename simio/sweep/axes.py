"""What a sweep varies: ``ram=1GB:8GB:0.5GB``, ``codec=raw,lz4,zstd:1``, ``device.cpu.gemv=0.5x:2x``.

A range with a step and a list are points; a range without a step is sampled (Latin hypercube). Sizes and rates carry
their unit, factors of a device's own number an ``x``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from simio.errors import UnknownNameError, UsageError
from simio.predict.command import OPTIONS
from simio.records.device import Device
from simio.records.scenario import Scenario
from simio.sweep import device_numbers
from simio.sweep.device_numbers import PREFIX, Change
from simio.units import parse, parse_bytes

#: Most points a range with a step may have.
_MOST_POINTS = 10**6


@dataclass(frozen=True, slots=True)
class Axis:
    """``name``: a field of ``Scenario``, or ``device.…``. Either ``values``, or everything from ``low`` to ``high``.

    ``is_factor``: numbers multiply the device's own.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_factor: bool = False

    @property
    def is_range(self) -> bool:
        """Whether it has no points of its own."""
        return not self.values

    @property
    def of_device(self) -> bool:
        """Whether it is a number of the device file."""
        return self.name.startswith(PREFIX)

    @property
    def path(self) -> str:
        """The number's name in the device file."""
        return self.name.removeprefix(PREFIX)

    @property
    def is_whole(self) -> bool:
        """Whether its values are integers."""
        return not self.of_device and _kind(self.name).startswith("int")

    def change(self, value: float) -> Change:
        """The device number set to ``value``."""
        return Change(self.path, value, self.is_factor)


def _kind(name: str) -> str:
    return next(str(f.type) for f in fields(Scenario) if f.name == name)


def field_named(text: str) -> str:
    """A scenario's field by its name or by its option without dashes; ``device.…`` as it is."""
    name = text.strip().removeprefix("--")
    if name.startswith(PREFIX):
        return name
    known = {f.name for f in fields(Scenario)}
    by_option = {option.removeprefix("--"): field for field, option in OPTIONS.items() if field != "pinned_fraction"}
    found = name if name in known else by_option.get(name.replace("_", "-"))
    if found is None:
        numbers = ("device.storage.curve", "device.memory.read_bandwidth", "device.cpu.gemv")
        raise UnknownNameError("thing to vary", name, {*known, *by_option, *numbers})
    return found


def parse_axis(text: str, device: Device | None) -> Axis:
    """``name=values`` as an axis. ``device``: any of those swept, for the units of its numbers.

    Raises ``UsageError``.
    """
    name, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise UsageError(f"--vary '{text}' does not say what is varied", "write for example ram=1GB:8GB:0.5GB")
    return axis(name, values, device)


def axis(name: str, values: str | Sequence[Any], device: Device | None) -> Axis:
    """The axis ``name`` with ``values`` as typed, or as a list in a study file."""
    field = field_named(name)
    items = _split(values) if isinstance(values, str) else list(values)
    if not items:
        raise UsageError(f"{name} has no values", "give at least one")
    if field == "pinned_bytes" and all(isinstance(i, str) and i.endswith("%") for i in _ends(items)):
        field = "pinned_fraction"
    reader = _Reader(field, device)
    if len(items) == 1 and isinstance(items[0], str) and _is_range(field, items[0]):
        return reader.range_of(items[0])
    found = tuple(reader.value(item) for item in items)
    if len(set(found)) < len(found):
        raise UsageError(f"{name} repeats a value", "give each value once")
    return Axis(field, found, is_factor=reader.is_factor)


def _split(text: str) -> list[str]:
    """At commas that are not inside brackets."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text)]


def _ends(items: Sequence[Any]) -> list[Any]:
    return items[0].split(":")[:2] if len(items) == 1 and isinstance(items[0], str) else list(items)


def _is_range(field: str, text: str) -> bool:
    is_number = field.startswith(PREFIX) or not _kind(field).startswith(("str", "bool"))
    return is_number and ":" in text


class _Reader:
    """Reads the values of one axis."""

    def __init__(self, field: str, device: Device | None) -> None:
        self.field = field
        self.is_factor = False
        self._kind = "float" if field.startswith(PREFIX) else _kind(field)
        self._device = device
        self._n_plain = 0

    def value(self, item: Any) -> Any:  # noqa: PLR0911 - one for each kind of field
        """One value, in SI."""
        if self.field.startswith(PREFIX):
            return self._of_device(str(item))
        if not isinstance(item, str):
            return self._typed(item)
        if self._kind.startswith("str"):
            return item
        if self._kind.startswith("bool"):
            if item not in ("true", "false"):
                raise UsageError(f"{self.field} '{item}' is neither true nor false", "write true or false")
            return item == "true"
        if self.field.endswith("_bytes"):
            return parse_bytes(item, self.field)
        if self.field.endswith("bytes_per_s"):
            return parse(item, "bytes_per_s", self.field)
        return self._typed(_number(item, self.field))

    def range_of(self, text: str) -> Axis:
        """``low:high`` or ``low:high:step``."""
        parts = text.split(":")
        if len(parts) not in (2, 3):
            raise UsageError(f"{self.field} '{text}' is not a range", "write low:high:step, or low:high to sample it")
        low, high, *step = (self.value(part) for part in parts)
        if not low < high:
            raise UsageError(f"{self.field} '{text}' does not rise", "write low:high:step")
        if not step:
            return Axis(self.field, (), float(low), float(high), self.is_factor)
        if step[0] <= 0 or (high - low) / step[0] > _MOST_POINTS:
            raise UsageError(f"{self.field} '{text}' has no end", "give a larger step")
        n = int((high - low) / step[0] * (1 + 1e-12) + 1e-9)
        return Axis(self.field, tuple(self._typed(low + k * step[0]) for k in range(n + 1)), is_factor=self.is_factor)

    def _typed(self, value: Any) -> Any:
        if self._kind.startswith("int"):
            if isinstance(value, bool) or value != int(value):
                raise UsageError(f"{self.field} is {value}", "give a whole number")
            return int(value)
        return float(value) if self._kind.startswith("float") and not isinstance(value, bool) else value

    def _of_device(self, item: str) -> float:
        path = self.field.removeprefix(PREFIX)
        dimension = None if self._device is None else device_numbers.dimension_of(self._device, path)
        is_factor = item.endswith("x")
        if self._n_plain and is_factor != self.is_factor:
            raise UsageError(f"{self.field} mixes factors and values", "give all with an x, or none")
        self._n_plain, self.is_factor = self._n_plain + 1, is_factor
        if is_factor:
            value = _number(item[:-1], self.field)
        elif dimension is None:
            raise UsageError(f"{self.field} '{item}': it is a table", "give factors, for example 0.5x,1x,2x")
        elif dimension == "1":
            value = _number(item, self.field)
        else:
            value = parse(item, dimension, self.field)
        if value <= 0 or value > 1e18:
            raise UsageError(f"{self.field} '{item}'", "give a number above 0")
        return value


def _number(text: str, what: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError(f"{what} '{text}' is not a number", "") from None
    if not isfinite(value):
        raise UsageError(f"{what} '{text}' is not a finite number", "")
    return value
