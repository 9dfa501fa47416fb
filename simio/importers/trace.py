"""A recorded trace: a folder with ``meta.toml`` (what was run) and ``data.csv`` (a row a token).

docs/measurements.md describes both files. Name the folder or its ``meta.toml``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from simio.errors import MeasurementFileError, SimioError, UnknownNameError
from simio.importers import table
from simio.importers.scenario_cells import FIELDS
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario

_ABOUT = ("source", "licence", "note", "kind", "repeat_of")
#: Optional columns of data.csv; their means become ``counters``.
_SPENT = ("read_s", "decompress_s", "compute_s", "stall_s", "hit_ratio", "n_major_faults")


class Trace:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether this is a folder with meta.toml and data.csv, or the meta.toml of one."""
        folder = path.parent if path.name == "meta.toml" else path
        return (folder / "meta.toml").is_file() and (folder / "data.csv").is_file()

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """The one run of the folder; raises ``MeasurementFileError`` naming file and key, or row and column."""
        folder = path.parent if path.name == "meta.toml" else path
        meta = _meta(folder / "meta.toml")
        known = {name: value for name, value in meta.items() if name in FIELDS}
        rows = list(table.rows(folder / "data.csv", ("token", "wall_s")))
        walls = [row.positive("wall_s") for row in rows]
        for row, wall in zip(rows, walls, strict=True):
            if wall is None:
                raise row.error("wall_s", "is empty")
        return [
            Measurement(
                run_id=folder.name,
                device=meta["device"],
                model=meta["model"],
                known=known,
                token_s=tuple(wall for wall in walls if wall is not None),
                bytes_per_token=_mean(rows, "read_bytes"),
                counters={c: mean for c in _SPENT if (mean := _mean(rows, c)) is not None},
                repeat_of=meta.get("repeat_of", repr((meta["device"], meta["model"], sorted(known.items())))),
                source=meta.get("source", str(folder)),
                note=meta.get("note", ""),
                kind=meta.get("kind", ""),
            )
        ]


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MeasurementFileError(f"{path}: not valid TOML: {error}", "see docs/measurements.md") from None
    allowed = {"device", "model", *_ABOUT, *FIELDS}
    for name, value in meta.items():
        if name not in allowed:
            error_hint = UnknownNameError("key", name, allowed).hint
            raise MeasurementFileError(f"{path}: {name}: unknown key", error_hint)
        if name not in FIELDS and not isinstance(value, str):
            raise MeasurementFileError(f"{path}: {name}: {value!r} is not text", "put it in quotes")
    try:
        Scenario.from_json({name: value for name, value in meta.items() if name not in _ABOUT}, path.name)
    except SimioError as error:
        raise MeasurementFileError(f"{path}: {error.message}", error.hint) from None
    return meta


def _mean(rows: list[table.Row], column: str) -> float | None:
    values = [value for row in rows if (value := row.number(column)) is not None]
    return sum(values) / len(values) if values else None
