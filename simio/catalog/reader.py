"""Reads one device file key by key and remembers everything that is wrong with it, so that all of it can be told.

A table is asked for the keys it may have; what was not asked for is misspelt or unknown. After a problem the reader
goes on with a stand-in, which never leaves the room: a file with problems has no ``Device``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from simio.errors import UsageError
from simio.records.device import SOURCE_KINDS, Quantity, Source
from simio.units import parse_bytes, to_si, units_of

#: Bounds where a file gives none, as a share of the value (10th and 90th percentile). A measurement repeats to about
#: ±10 % (simio's own choice: eight repeated pairs of runs on one phone differ by 8 % on average); a datasheet's clock
#: or RAM size is exact. ``inferred``, ``fitted`` and ``assumed`` numbers must state their bounds.
DEFAULT_SPREAD = {"measured": 0.10, "review": 0.10, "datasheet": 0.0}

#: ``assumed`` bounds must reach at least this share of the value to each side.
ASSUMED_SPREAD = 0.30

#: How the ``url`` of a source may start.
_ORIGINS = ("https://", "http://", "traces/", "simio calibrate")

_QUANTITY_KEYS = ("value", "unit", "source", "low", "high", "note")
_EXAMPLE = '{ value = 2.0, unit = "GB/s", source = "fio-2025" }'


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a device file. ``where`` is ``table.key``."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Reader:
    """The problems found so far, the sources declared, and the ones used."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.sources: dict[str, Source] = {}
        self.used: set[str] = set()

    def problem(self, where: str, what: str, hint: str = "") -> None:
        """Note what is wrong at ``where``."""
        self.problems.append(Problem(where, what, hint))

    def keys(self, table: dict[str, Any], where: str, known: Iterable[str], optional: Iterable[str] = ()) -> None:
        """Every key of ``table`` is known and every known key that is not optional is there."""
        known, optional = list(known), list(optional)
        for key in table:
            if key not in known and key not in optional:
                close = difflib.get_close_matches(key, [*known, *optional], n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join([*known, *optional])}"
                self.problem(_join(where, key), "unknown key", hint)
        for key in known:
            if key not in table:
                self.problem(_join(where, key), "is missing", "every device file gives this key")

    def table(self, parent: dict[str, Any], where: str, key: str) -> dict[str, Any]:
        """The sub-table ``key``; a missing one is reported by ``keys``."""
        found = parent.get(key, {})
        if isinstance(found, dict):
            return found
        self.problem(_join(where, key), f"is {_kind_of(found)}, expected a table")
        return {}

    def tables(self, parent: dict[str, Any], where: str, key: str) -> list[tuple[str, dict[str, Any]]]:
        """The entries of ``[[where.key]]``, each with its place (``storage.curve[0]``). At least one."""
        found = parent.get(key, [])
        path = _join(where, key)
        if not isinstance(found, list) or any(not isinstance(entry, dict) for entry in found):
            self.problem(path, f"is {_kind_of(found)}, expected tables", f"write [[{path}]] above each entry")
            return []
        if key in parent and not found:
            self.problem(path, "is empty", f"give at least one [[{path}]]")
        return [(f"{path}[{i}]", entry) for i, entry in enumerate(found)]

    def text(self, table: dict[str, Any], where: str, key: str, known: Iterable[str] = ()) -> str:
        """A text that is not empty, one of ``known`` if given."""
        found, known = table.get(key, ""), list(known)
        path = _join(where, key)
        if key not in table:
            return ""
        if not isinstance(found, str) or not found.strip():
            self.problem(path, f"is {_kind_of(found)}, expected a text")
            return ""
        if known and found not in known:
            close = difflib.get_close_matches(found, known, n=1)
            self.problem(path, f"'{found}' is unknown", f"did you mean '{close[0]}'?" if close else f"use {_or(known)}")
        return found

    def size(self, table: dict[str, Any], where: str, key: str) -> int:
        """A size such as ``"128KiB"``. [bytes]"""
        found = self.text(table, where, key)
        if not found:
            return 0
        try:
            n_bytes = parse_bytes(found, key)
        except UsageError as error:
            self.problem(_join(where, key), error.message, error.hint)
            return 0
        if n_bytes <= 0:
            self.problem(_join(where, key), "must be larger than 0")
        return n_bytes

    def whole(self, table: dict[str, Any], where: str, key: str) -> int:
        """A plain positive whole number: a coordinate of a measurement, not a fact that needs a source."""
        found = table.get(key, 1)
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            self.problem(_join(where, key), f"is {_kind_of(found)} {found!r}, expected a whole number of at least 1")
            return 1
        return found

    def count(self, table: dict[str, Any], where: str, key: str) -> int:
        """A quantity of unit ``1`` that must be whole: cores, threads, queue slots."""
        quantity = self.quantity(table, where, key, "1")
        if not float(quantity.value).is_integer():
            self.problem(_join(where, key), f"{quantity.value} is not a whole number")
        return round(quantity.value)

    def quantity(self, table: dict[str, Any], where: str, key: str, dimension: str) -> Quantity:
        """``{ value, unit, source, low, high, note }`` in SI, with default bounds where its source allows them."""
        path, found = _join(where, key), table.get(key)
        if key not in table:
            return _stand_in(dimension)
        if not isinstance(found, dict):
            what = "a bare number" if _is_number(found) else _kind_of(found)
            self.problem(path, f"is {what}, expected a value with unit and source", f"write {_EXAMPLE}")
            return _stand_in(dimension)
        before = len(self.problems)
        self.keys(found, path, ("value", "unit", "source"), ("low", "high", "note"))
        numbers = {name: self._si(found, path, name, dimension) for name in ("value", "low", "high") if name in found}
        kind, note = self._kind(found, path), self._note(found, path)
        if len(self.problems) > before:
            return _stand_in(dimension)
        self._bounds(numbers, kind, note, path)
        spread = DEFAULT_SPREAD.get(kind, 0.0) * numbers["value"]
        low, high = numbers.get("low", numbers["value"] - spread), numbers.get("high", numbers["value"] + spread)
        return Quantity(numbers["value"], low, high, dimension, found["source"], kind, note)

    def _si(self, table: dict[str, Any], path: str, name: str, dimension: str) -> float:
        number, unit = table[name], table.get("unit")
        if not _is_number(number):
            self.problem(path, f"{name} is {_kind_of(number)} {number!r}, expected a number")
        elif not math.isfinite(number):
            self.problem(path, f"{name} is {number}, expected a finite number")
        elif number < 0 or (number == 0 and name != "low"):
            self.problem(path, f"{name} is {number}, expected a number larger than 0")
        elif isinstance(unit, str):
            return self._convert(number, unit, dimension, path, name)
        elif name == "value" and "unit" in table:
            hint = f"units of {dimension}: {', '.join(units_of(dimension))}"
            self.problem(path, f"unit is {_kind_of(unit)}, expected a text", hint)
        return 1.0

    def _convert(self, number: float, unit: str, dimension: str, path: str, name: str) -> float:
        try:
            return to_si(number, unit, dimension)
        except UsageError as error:
            if name == "value":  # the unit is shared: one complaint is enough
                self.problem(path, error.message, error.hint)
            return 1.0

    def _kind(self, table: dict[str, Any], path: str) -> str:
        source = table.get("source")
        if "source" not in table:
            return ""
        if not isinstance(source, str):
            self.problem(path, f"source is {_kind_of(source)}, expected the name of a [sources.*] table")
            return ""
        self.used.add(source)
        if source in self.sources:
            return self.sources[source].kind
        if source != "assumed":
            close = difflib.get_close_matches(source, [*self.sources, "assumed"], n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"add a table [sources.{source}]"
            self.problem(path, f"unknown source '{source}'", hint)
        return "assumed"

    def _note(self, table: dict[str, Any], path: str) -> str:
        note = table.get("note", "")
        if not isinstance(note, str):
            self.problem(path, f"note is {_kind_of(note)}, expected a text")
            return ""
        return note

    def _bounds(self, numbers: dict[str, float], kind: str, note: str, path: str) -> None:
        value = numbers["value"]
        if kind not in DEFAULT_SPREAD and not {"low", "high"} <= numbers.keys():
            self.problem(path, f"{kind} without low and high", "give the 10th and 90th percentile you believe in")
            return
        low, high = numbers.get("low", value), numbers.get("high", value)
        if not low <= value <= high:
            self.problem(path, f"low ≤ value ≤ high does not hold: {low:g}, {value:g}, {high:g}")
        elif kind == "assumed":
            self._assumed(low, value, high, note, path)

    def _assumed(self, low: float, value: float, high: float, note: str, path: str) -> None:
        if not note.strip():
            self.problem(path, "assumed without a note", "say in note why this value")
        if low > (1 - ASSUMED_SPREAD) * value * (1 + 1e-9) or high < (1 + ASSUMED_SPREAD) * value * (1 - 1e-9):
            self.problem(path, "assumed with bounds narrower than ±30 %", "widen low and high, or find a source")

    def read_sources(self, table: dict[str, Any]) -> None:
        """Fill ``sources`` from ``[sources.*]``; before any quantity is read."""
        for name, entry in table.items():
            path = f"sources.{name}"
            if not isinstance(entry, dict):
                self.problem(path, f"is {_kind_of(entry)}, expected a table", f"write [{path}] with kind and url")
                continue
            self.keys(entry, path, ("kind", "url"), ("note",))
            kind, url = self.text(entry, path, "kind", SOURCE_KINDS), self.text(entry, path, "url")
            if url and not url.startswith(_ORIGINS):
                hint = "https://…, a folder below traces/, or the `simio calibrate` command that measured"
                self.problem(f"{path}.url", f"'{url}' is no web address", hint)
            self.sources[name] = Source(name, kind, url, self._note(entry, path))

    def unused_sources(self) -> None:
        """A source nobody cites is a leftover or a misspelling; after all quantities are read."""
        for name in self.sources:
            if name not in self.used:
                self.problem(f"sources.{name}", "unused source", "cite it or delete it")


def _stand_in(dimension: str) -> Quantity:
    return Quantity(1.0, 1.0, 1.0, dimension, "", "", "")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind_of(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return "an empty text" if value == "" else kinds.get(type(value), "a date")


def _or(names: list[str]) -> str:
    return " or ".join(names)
