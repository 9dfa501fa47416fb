"""Every number of a device, by the name it is shown under, and the device with some of them changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from simio.records.device import Device, Quantity

#: Where a number lies in a ``Device``: attributes, keys of tables, places in lists.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a device file."""

    name: str  # as `simio devices show` prints it
    path: Path
    quantity: Quantity


def numbers(device: Device) -> list[Number]:
    """Every number of ``device`` in the order of the file."""
    return [Number(_name(device, path), path, quantity) for path, quantity in _walk(device, ())]


def with_numbers(device: Device, changed: Mapping[Path, Any]) -> Device:
    """``device`` with the numbers at some paths given other values: SI floats, or arrays with one entry per draw.

    Bounds stay as they are.

    >>> from simio import catalog
    >>> pixel = catalog.load("pixel8")
    >>> with_numbers(pixel, {("memory", "usable"): 3e9}).memory.usable.value
    3000000000.0
    """
    return _changed(device, (), changed)  # type: ignore[no-any-return]


def _walk(record: Any, path: Path) -> Iterator[tuple[Path, Quantity]]:
    if isinstance(record, Quantity):
        yield path, record
    else:
        for key, inner in _parts(record):
            yield from _walk(inner, (*path, key))


def _parts(record: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(record, dict):
        yield from record.items()
    elif isinstance(record, tuple):
        yield from enumerate(record)
    elif is_dataclass(record):
        yield from ((f.name, getattr(record, f.name)) for f in fields(record))


def _changed(record: Any, path: Path, values: Mapping[Path, Any]) -> Any:
    depth = len(path)
    if not any(at[:depth] == path for at in values):
        return record
    if isinstance(record, Quantity):
        return replace(record, value=values[path])
    new = {key: _changed(inner, (*path, key), values) for key, inner in _parts(record)}
    if isinstance(record, dict):
        return new
    if isinstance(record, tuple):
        return tuple(new.values())
    return replace(record, **{str(key): value for key, value in new.items()})


def _name(device: Device, path: Path) -> str:
    special: dict[tuple[str | int, ...], Callable[..., str]] = {
        ("storage", "curve"): _point, ("cpu", "clusters"): _core, ("residual",): lambda *_: "fit.residual"
    }  # fmt: skip
    for start, name in special.items():
        if path[: len(start)] == start:
            return name(device, *path[len(start) :])
    return ".".join(str(key).removesuffix("_bytes") for key in path)


def _point(device: Device, index: int, _: str) -> str:
    p = device.storage.curve[index]
    return f"storage {p.pattern} {p.block_bytes // 1024} KiB × {p.queue_depth}"


def _core(device: Device, index: int, what: str) -> str:
    c = device.cpu.clusters[index]
    return f"cpu {c.n_cores}× {c.name} {what.replace('_', ' ')}"
