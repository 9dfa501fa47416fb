"""Numbers as a device file writes them: a value with unit, source, bounds and, where it helps, a note."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Entry = dict[str, Any]

#: Scales in which numbers are written: dimension → (unit, factor from SI), largest first.
_WRITTEN = {
    "bytes_per_s": (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)),
    "flop_per_s": (("Tflop/s", 1e12), ("Gflop/s", 1e9)),
    "s": (("ms", 1e-3), ("us", 1e-6)),
    "hz": (("GHz", 1e9), ("MHz", 1e6)),
    "bytes": (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
    "1": (("1", 1.0),),
}
_DIGITS = 4
#: An assumed number reaches at least this far to each side (``catalog.reader.ASSUMED_SPREAD`` is the least).
ASSUMED = 0.4


#: A run lasts longer than a round and comes later, when neighbours may weigh on caches, memory and disk. Chosen by eye
#: on one virtual machine, from calibrations and runs within two hours; a stale calibration can be farther off.
SLOWER, FASTER = 0.85, 1.05


def entry(value: float, low: float, high: float, dimension: str, source: str, note: str = "") -> Entry:
    """``value`` in SI with its bounds, which are widened to hold the value."""
    low, high = min(low, value), max(high, value)
    scales = _WRITTEN[dimension]
    unit, factor = next((scale for scale in scales if value >= scale[1]), scales[-1])
    written = {"value": _rounded(value / factor), "unit": unit, "source": source,
               "low": _rounded(low / factor), "high": _rounded(high / factor)}  # fmt: skip
    return written | ({"note": note} if note else {})


def of_rounds(values: Sequence[float], dimension: str, source: str, note: str = "", least: float = 0.0) -> Entry:
    """The median of ``values``; their 10th and 90th percentile, widened by what time brings, as bounds. [SI]

    A time grows where a rate falls; a share (dimension 1), measured within a round, stays. None is below ``least``.
    """
    slower, faster = {"s": (1 / FASTER, 1 / SLOWER), "1": (1.0, 1.0)}.get(dimension, (SLOWER, FASTER))
    low, high = slower * percentile(values, 10), faster * percentile(values, 90)
    return entry(max(least, statistics.median(values)), max(least / 10, low), max(least, high), dimension, source, note)


def exactly(value: float, dimension: str, source: str, note: str = "") -> Entry:
    """A number that does not vary: cores, bytes of RAM."""
    return entry(value, value, value, dimension, source, note)


def size(n_bytes: int, source: str, note: str = "") -> Entry:
    """A number of bytes that is exact to the byte: a window, a folio."""
    unit, factor = next((u, f) for u, f in (("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)) if n_bytes % f == 0)
    whole = n_bytes // factor
    written: Entry = {"value": whole, "unit": unit, "source": source, "low": whole, "high": whole}
    return written | ({"note": note} if note else {})


def assumed(value: float, dimension: str, note: str, low: float | None = None, high: float | None = None) -> Entry:
    """A number nobody measured here, with the wide bounds such a number must have."""
    low = (1 - ASSUMED) * value if low is None else low
    return entry(value, low, (1 + ASSUMED) * value if high is None else high, dimension, "assumed", note)


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of ``values``, interpolated between the two nearest."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _rounded(value: float) -> float:
    """Four digits: more than any of these repeats to; whole numbers without a point."""
    short = float(f"{value:.{_DIGITS}g}")
    exact = value if value == int(value) and abs(value) < 1e15 else short
    return int(exact) if exact == int(exact) else exact
