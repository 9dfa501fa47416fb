"""A device as text: a row a number, with bounds and source."""

from __future__ import annotations

from collections.abc import Iterator

from simio.catalog.numbers import numbers
from simio.records.device import Device, Quantity
from simio.units import format_bytes, format_s


def describe(device: Device) -> str:
    """Every number of ``device``."""
    lines = [f"{device.name} ({device.id}), {device.soc}, {device.storage.kind}", ""]
    for name, quantity in quantities(device):
        bounds = f"{number_text(quantity.low, quantity.unit)} – {number_text(quantity.high, quantity.unit)}"
        value = number_text(quantity.value, quantity.unit)
        lines.append(f"  {name:38} {value:>12}   {bounds:26} {quantity.kind}: {quantity.source}")
    lines += ["", "Sources:"]
    lines += [f"  {s.id}: {s.kind}, {s.url}{f' ({s.note})' if s.note else ''}" for s in device.sources]
    return "\n".join(lines)


def quantities(device: Device) -> Iterator[tuple[str, Quantity]]:
    """(dotted name, number) for every number of ``device``."""
    yield from ((number.name, number.quantity) for number in numbers(device))


def number_text(value: float, unit: str) -> str:
    """A number in SI as people write it."""
    shown = {
        "bytes": lambda: format_bytes(value),
        "bytes_per_s": lambda: format_bytes(value) + "/s",
        "s": lambda: format_s(value),
        "flop_per_s": lambda: f"{value / 1e9:.3g} Gflop/s",
        "hz": lambda: f"{value / 1e9:.3g} GHz",
        "degc": lambda: f"{value:.3g} °C",
        "w": lambda: f"{value:.3g} W",
        "j_per_byte": lambda: f"{value * 1e12 / 8:.3g} pJ/bit",
    }
    return shown[unit]() if unit in shown else f"{value:.3g}"
