"""Cells and TOML values that are Scenario fields, under the names they have there."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from simio.errors import SimioError
from simio.importers.table import Row
from simio.records.scenario import Scenario

#: name → annotation of every Scenario field a source may state.
FIELDS: dict[str, str] = {f.name: str(f.type) for f in fields(Scenario) if f.name not in ("device", "model")}


def known_fields(row: Row) -> dict[str, Any]:
    """The Scenario fields a row states; raises ``MeasurementFileError`` for a value Scenario refuses."""
    known: dict[str, Any] = {}
    for name, annotation in FIELDS.items():
        if not row.text(name):
            continue
        known[name] = _value(row, name, annotation)
        check(row, name, name, known[name])
    return known


def check(row: Row, column: str, name: str, value: Any) -> None:
    """Raise ``MeasurementFileError`` where Scenario refuses ``value`` as its field ``name``."""
    try:
        Scenario.from_json({"device": "any", "model": "any", name: value}, row.path.name)
    except SimioError as error:
        raise row.error(column, error.message) from None


def _value(row: Row, name: str, annotation: str) -> Any:
    if annotation.startswith("str"):
        return row.text(name)
    if annotation.startswith("bool"):
        return row.flag(name)
    return row.number(name, float("-inf")) if "float" in annotation else row.count(name, least=0)
