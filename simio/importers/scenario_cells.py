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
        if annotation.startswith("str"):
            known[name] = row.text(name)
        else:
            known[name] = row.number(name) if "float" in annotation else row.count(name, least=0)
        try:
            Scenario.from_json({"device": "any", "model": "any", name: known[name]}, row.path.name)
        except SimioError as error:
            raise row.error(name, error.message) from None
    return known
