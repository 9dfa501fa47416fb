"""A device as plain JSON: every number with its unit, bounds, source and kind beside it (``devices show --json``)."""

from __future__ import annotations

import dataclasses
from typing import Any

from simio.records.device import Device, Quantity


def to_json(device: Device) -> dict[str, Any]:
    """``device`` as nested dicts and lists; ``sources`` becomes an object keyed by source id."""
    tree = {field.name: _plain(getattr(device, field.name)) for field in dataclasses.fields(device)}
    tree["sources"] = {
        source.id: {"kind": source.kind, "url": source.url, "note": source.note} for source in device.sources
    }
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, Quantity):
        shown = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return shown if value.note else {key: shown[key] for key in shown if key != "note"}
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
