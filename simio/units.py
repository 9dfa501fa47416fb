"""Parse and print quantities; the only module that knows 1000 from 1024.

SI inside simio: seconds, bytes, bytes/s, flop/s, hertz, kelvin-free °C. ``kB MB GB TB`` are powers of 1000,
``KiB MiB GiB TiB`` powers of 1024; anything else (``gb``, ``M``, ``K``, a bare number) is refused.
"""

from __future__ import annotations

import math
import re

from simio.errors import UsageError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
KB = 1000
MB = 1000**2
GB = 1000**3

_SIZE = {"B": 1, "kB": KB, "MB": MB, "GB": GB, "TB": 1000**4, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024**4}

#: unit → (dimension, factor to SI). Small prefixes are divided, so that ``90 us`` is exactly ``90 / 1e6``.
_UNITS: dict[str, tuple[str, float, float]] = {
    **{u: ("bytes", float(f), 1.0) for u, f in _SIZE.items()},
    **{f"{u}/s": ("bytes_per_s", float(f), 1.0) for u, f in _SIZE.items()},
    "min": ("s", 60.0, 1.0),
    "s": ("s", 1.0, 1.0),
    "ms": ("s", 1.0, 1e3),
    "us": ("s", 1.0, 1e6),
    "ns": ("s", 1.0, 1e9),
    "flop/s": ("flop_per_s", 1.0, 1.0),
    "Gflop/s": ("flop_per_s", 1e9, 1.0),
    "Tflop/s": ("flop_per_s", 1e12, 1.0),
    "Hz": ("hz", 1.0, 1.0),
    "MHz": ("hz", 1e6, 1.0),
    "GHz": ("hz", 1e9, 1.0),
    "W": ("w", 1.0, 1.0),
    "mW": ("w", 1.0, 1e3),
    "J/GB": ("j_per_byte", 1.0, 1e9),
    "pJ/bit": ("j_per_byte", 8.0, 1e12),
    "degC": ("degc", 1.0, 1.0),
    "1": ("1", 1.0, 1.0),
    "%": ("1", 1.0, 100.0),
}

_QUANTITY = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z/%]+)\s*$")


def to_si(value: float, unit: str, dimension: str) -> float:
    """Convert ``value`` in ``unit`` to SI.

    Raises ``UsageError`` for an unknown unit, another dimension, or a value that is not finite.

    >>> to_si(90, "us", "s") == 90 / 1e6
    True
    """
    if unit not in _UNITS:
        raise UsageError(f"unknown unit '{unit}'", f"units of {dimension}: {', '.join(units_of(dimension))}")
    found, multiply, divide = _UNITS[unit]
    if found != dimension:
        raise UsageError(
            f"unit '{unit}' measures {found}, expected {dimension}", f"use one of {', '.join(units_of(dimension))}"
        )
    if not math.isfinite(value):
        raise UsageError(f"{value} is not a finite number")
    converted = value * multiply / divide
    if not math.isfinite(converted):
        raise UsageError(f"{value} {unit} is not a finite quantity")
    return converted


def units_of(dimension: str) -> list[str]:
    """The unit names that measure ``dimension``."""
    return [u for u, (d, _, _) in _UNITS.items() if d == dimension]


def parse(text: str, dimension: str, what: str = "value") -> float:
    """Parse ``'3.5GB'`` or ``'400 MB/s'`` into SI; ``what`` names the argument in the error.

    >>> parse("1.5 GiB", "bytes")
    1610612736.0
    """
    match = _QUANTITY.match(text)
    example = {"bytes": "4GB or 512MiB", "bytes_per_s": "400MB/s", "s": "90us"}.get(dimension, "a number and a unit")
    if not match:
        raise UsageError(f"{what} '{text}' is not a quantity with a unit", f"write for example {example}")
    try:
        value = to_si(float(match[1]), match[2], dimension)
    except UsageError as error:
        raise UsageError(f"{what} '{text}': {error.message}", error.hint or f"write for example {example}") from None
    if value < 0:
        raise UsageError(f"{what} '{text}' is negative", f"write for example {example}")
    return value


def parse_bytes(text: str, what: str = "size") -> int:
    """Parse a size such as ``4GB`` or ``512MiB`` into whole bytes."""
    return round(parse(text, "bytes", what))


def format_bytes(n_bytes: float) -> str:
    """``1610612736`` → ``'1.61 GB'`` (powers of 1000)."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(n_bytes) >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def format_s(seconds: float) -> str:
    """``0.0123`` → ``'12.3 ms'``."""
    if seconds == 0:
        return "0 s"
    if seconds >= 1000:
        return f"{seconds:.0f} s"
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
