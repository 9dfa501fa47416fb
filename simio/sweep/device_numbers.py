"""Numbers of a device file by name: ``device.storage.curve``, ``device.cpu.gemv.q4_k``, ``device.memory.usable`` …

Rates that every equation meets in one place are multiplied there (``service_times.Factors``) and leave the plan alone;
the other numbers are changed in the device, with their bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from simio.errors import UnknownNameError, UsageError
from simio.records.device import Cluster, Device, Quantity

PREFIX = "device."

#: Number of a device file → what multiplies it. Those of a table are multiplied together.
FACTORS = {
    "storage.curve": "storage", "storage.fault_overhead": "fault_overhead", "memory.read_bandwidth": "memory",
    "memory.commit_bandwidth": "commit", "memory.fresh_page": "fresh", "memory.swap_fault": "swap",
    "cpu.gemv": "gemv", "cpu.prefill": "prefill", "cpu.decompress": "decompress",
    "cpu.layer_overhead": "layer_overhead", "cpu.handover": "handover",
    "cpu.parallel_efficiency": "parallel", "cpu.thread_efficiency": "threads",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """``path`` (without ``device.``) becomes ``number`` in SI, or that many times itself."""

    path: str
    number: float
    is_factor: bool


def changed(device: Device, change: Change) -> Device:
    """``device`` with one number changed. Raises ``UsageError`` for one it does not have."""
    result: Device = _replaced(device, change.path.split("."), change, device)
    return result


def factor_of(device: Device, change: Change) -> float:
    """What multiplies a rate of ``FACTORS`` so that it becomes what ``change`` says."""
    if change.is_factor:
        return change.number
    found = _at(device, change.path.split("."), device)
    if not isinstance(found, Quantity):
        raise UsageError(f"device.{change.path} has many numbers", "give factors, for example 0.5x,1x,2x")
    return change.number / found.value


def dimension_of(device: Device, path: str) -> str | None:
    """The SI dimension of the number at ``path``; None for a table. Raises ``UsageError`` where there is none."""
    found = _at(device, path.split("."), device)
    return found.unit if isinstance(found, Quantity) else None


def names(device: Device) -> list[str]:
    """Every number of ``device`` that can be varied."""
    found = [path for path in FACTORS if _exists(device, path)]
    return sorted({*found, *_paths(device, "")})


def _exists(device: Device, path: str) -> bool:
    try:
        return _at(device, path.split("."), device) is not None
    except UnknownNameError:
        return False


def _paths(node: Any, prefix: str) -> list[str]:
    found: list[str] = []
    for name, child in _children(node):
        path = f"{prefix}.{name}" if prefix else name
        found += [path] if isinstance(child, Quantity) else _paths(child, path)
    return found


def _children(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return list(node.items())
    if is_dataclass(node):
        return [(f.name, getattr(node, f.name)) for f in fields(node) if getattr(node, f.name) is not None]
    if isinstance(node, tuple) and node and isinstance(node[0], Cluster):
        return [(cluster.name, cluster) for cluster in node]
    return []


def _at(node: Any, path: list[str], device: Device) -> Any:
    for name in path:
        children = dict(_children(node))
        if name not in children:
            raise UnknownNameError(f"number of {device.id}", ".".join(path), names_quietly(device))
        node = children[name]
    return node


def names_quietly(device: Device) -> list[str]:
    """The numbers of ``device`` without looking any of them up."""
    return sorted({*FACTORS, *_paths(device, "")})


def _replaced(node: Any, path: list[str], change: Change, device: Device) -> Any:
    if not path:
        if not isinstance(node, Quantity):
            raise UsageError(f"device.{change.path} is no number", f"one of {', '.join(names_quietly(device)[:8])} …")
        ratio = change.number if change.is_factor else change.number / node.value if node.value else 1.0
        value = node.value * change.number if change.is_factor else change.number
        return replace(node, value=value, low=node.low * ratio, high=node.high * ratio)
    child = _at(node, path[:1], device)
    new = _replaced(child, path[1:], change, device)
    if isinstance(node, dict):
        return {**node, path[0]: new}
    if isinstance(node, tuple):
        return tuple(new if c is child else c for c in node)
    return replace(node, **{path[0]: new})
