"""A device as text: a row a number, with bounds and source."""

from __future__ import annotations

from collections.abc import Iterator

from simio.records.device import Device, Quantity
from simio.units import format_bytes, format_s


def describe(device: Device) -> str:
    """Every number of ``device``."""
    lines = [f"{device.name} ({device.id}), {device.soc}, {device.storage.kind}", ""]
    for name, quantity in quantities(device):
        bounds = f"{_number(quantity.low, quantity.unit)} – {_number(quantity.high, quantity.unit)}"
        value = _number(quantity.value, quantity.unit)
        lines.append(f"  {name:38} {value:>12}   {bounds:26} {quantity.kind}: {quantity.source}")
    lines += ["", "Sources:"]
    lines += [f"  {s.id}: {s.kind}, {s.url}{f' ({s.note})' if s.note else ''}" for s in device.sources]
    return "\n".join(lines)


def quantities(device: Device) -> Iterator[tuple[str, Quantity]]:
    """(dotted name, number) for every number of ``device``."""
    for p in device.storage.curve:
        yield f"storage {p.pattern} {p.block_bytes // 1024} KiB × {p.queue_depth}", p.bandwidth
    yield "storage.read_ahead", device.storage.read_ahead_bytes
    yield "storage.fault_overhead", device.storage.fault_overhead
    if device.storage.folio_bytes:
        yield "storage.folio", device.storage.folio_bytes
    if device.storage.fault_bandwidth:
        yield "storage.fault_bandwidth", device.storage.fault_bandwidth
    for c in device.cpu.clusters:
        yield f"cpu {c.n_cores}× {c.name} clock", c.clock
        yield f"cpu {c.n_cores}× {c.name} relative speed", c.relative_speed
    for table in ("gemv", "prefill", "decompress"):
        for key, quantity in getattr(device.cpu, table).items():
            yield f"cpu.{table}.{key}", quantity
    yield "cpu.layer_overhead", device.cpu.layer_overhead
    yield from _given("cpu", device.cpu, ("parallel_efficiency", "thread_efficiency", "handover"))
    yield "memory.total", device.memory.total
    yield "memory.usable", device.memory.usable
    yield "memory.read_bandwidth", device.memory.read_bandwidth
    yield from _given("memory", device.memory, ("reserve", "commit_bandwidth", "page_cache_share", "swap_fault"))
    if device.thermal:
        yield from _given("thermal", device.thermal, ("time_constant", "cpu_share", "storage_share", "cool", "hot"))
    if device.residual:
        yield "fit.residual", device.residual


def _given(table: str, record: object, names: tuple[str, ...]) -> Iterator[tuple[str, Quantity]]:
    """Those of the numbers ``names`` that the device file gives."""
    for name in names:
        if (quantity := getattr(record, name)) is not None:
            yield f"{table}.{name}", quantity


def _number(value: float, unit: str) -> str:
    shown = {
        "bytes": lambda: format_bytes(value),
        "bytes_per_s": lambda: format_bytes(value) + "/s",
        "s": lambda: format_s(value),
        "flop_per_s": lambda: f"{value / 1e9:.3g} Gflop/s",
        "hz": lambda: f"{value / 1e9:.3g} GHz",
        "degc": lambda: f"{value:.3g} °C",
    }
    return shown[unit]() if unit in shown else f"{value:.3g}"
