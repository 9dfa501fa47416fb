"""Start from a device file that exists: its table, from which single numbers are replaced by measured ones."""

from __future__ import annotations

import tomllib
from typing import Any

from simio import catalog
from simio.calibrate.document import Table, source
from simio.calibrate.quantities import Entry

#: How far a number taken over from another device may be off, as a share to each side.
DOUBT = 0.4


class Draft:
    """The table of a device file in the making. ``changed`` names what has been replaced."""

    def __init__(self, base: str, stem: str) -> None:
        path = catalog.find(base)
        self.device = catalog.read(path)  # refuses a file that breaks the schema
        self.table: Table = tomllib.loads(path.read_text(encoding="utf-8"))
        self.table["id"] = stem
        self.table.pop("aliases", None)
        self.changed: list[str] = []

    def add_source(self, name: str, kind: str, url: str, note: str) -> str:
        """Add a source under ``name``, or a name like it that is free; the name."""
        sources = self.table.setdefault("sources", {})
        free = next(n for n in (name, *(f"{name}-{k}" for k in range(2, 1000))) if n not in sources and n != "assumed")
        sources[free] = source(kind, url, note)
        return free

    def replace(self, where: str, value: Any) -> None:
        """Put ``value`` at a dotted place such as ``cpu.gemv.q8_0``."""
        *path, key = where.split(".")
        table = self.table
        for name in path:
            table = table[name]
        table[key] = value
        self.changed.append(where)

    def replace_curve(self, points: list[Table], sizes: list[int]) -> None:
        """Measured ``points`` instead of the base's, except far away from every block size measured.

        A base point stays where its block is more than four times smaller or larger than any of ``sizes``.
        """
        kept = [
            table
            for table, point in zip(self.table["storage"]["curve"], self.device.storage.curve, strict=True)
            if not min(sizes) / 4 <= point.block_bytes <= 4 * max(sizes)
        ]
        self.table["storage"]["curve"] = points + kept
        self.changed.append(f"storage.curve ({len(points)} points, {len(kept)} of {self.device.id} kept)")

    def doubt(self, name: str, url: str, note: str) -> None:
        """Mark every number not replaced so far as inferred from the base, with wide bounds."""
        before = {source.id for source in self.device.sources} | {"assumed"}
        cited = self.add_source(name, "inferred", url, note)
        for quantity in _quantities(self.table):
            if quantity["source"] in before:
                _widen(quantity, cited)


def _quantities(value: Any) -> list[Entry]:
    if isinstance(value, list):
        return [q for item in value for q in _quantities(item)]
    if not isinstance(value, dict):
        return []
    if "value" in value:
        return [value]
    return [q for key, item in value.items() if key != "sources" for q in _quantities(item)]


def _widen(quantity: Entry, source: str) -> None:
    value = quantity["value"]
    quantity["source"] = source
    quantity["low"] = min(quantity.get("low", value), (1 - DOUBT) * value)
    quantity["high"] = max(quantity.get("high", value), (1 + DOUBT) * value)
