"""lzbench's CSV (``-o4``): decompression speed by compressor. https://github.com/inikep/lzbench"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from simio.errors import MeasurementFileError
from simio.importers import table
from simio.importers.table import Row

_NAME, _SPEED, _TIME, _SIZE = (
    "Compressor name", "Decompression speed", "Decompression time in us", "Original size",
)  # fmt: skip
#: How far the reference buffer may be from whatever was benchmarked: text decompresses unlike weights.
SPREAD = 0.4


@dataclass(frozen=True, slots=True)
class Decompression:
    """One compressor at one level."""

    codec: str  # key of cpu.decompress
    level: int
    name: str  # as lzbench writes it
    bytes_per_s: float
    of: str  # the file compressed


def sniff(path: Path) -> bool:
    """Whether ``path`` is lzbench's CSV."""
    return _NAME in table.header(path)


def read(path: Path) -> list[Decompression]:
    """The rows of codecs that device files know; raises ``MeasurementFileError`` naming row and column."""
    names = table.header(path)
    if _SPEED not in names and _TIME not in names:
        raise MeasurementFileError(f"{path}: row 1: column {_SPEED} is missing", "run lzbench with -o4")
    found = [one for row in table.rows(path, (_NAME,)) if (one := _decompression(row))]
    if not found:
        raise MeasurementFileError(f"{path}: no row of zstd, lz4 or brotli", "run lzbench -ezstd,1/lz4/brotli,1 -o4")
    return found


def _decompression(row: Row) -> Decompression | None:
    name = row.required(_NAME)
    match = re.fullmatch(r"(zstd|lz4|brotli)(?: v?[\d.]+\S*)?(?: (?:-|level )?(\d+))?", name)
    if not match:
        return None
    rate = row.positive(_SPEED)
    if rate is None and (time_us := row.positive(_TIME)) and (n_bytes := row.positive(_SIZE)):
        rate = n_bytes / time_us  # bytes/us are MB/s
    if rate is None:
        raise row.error(_SPEED, "is empty")
    return Decompression(match[1], int(match[2] or 1), name, rate * 1e6, row.text("Filename"))


def best_known(rows: list[Decompression]) -> dict[str, Decompression]:
    """For each codec the row of the lowest level: device files speak of level 1."""
    return {row.codec: row for row in sorted(rows, key=lambda row: -row.level)}
