"""The CSV any program can write: one row a run. docs/measurements.md lists the columns.

``run_id, device, model`` and ``ms_per_token`` or ``decode_tps``; any Scenario field under its own name; a few more
measured columns; whatever else was measured as ``measured_…``. Any other column is refused, so that a misspelt
setting is not silently ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simio.errors import MeasurementFileError, UnknownNameError
from simio.importers import table
from simio.importers.scenario_cells import FIELDS, known_fields
from simio.importers.table import Row, UniqueIds
from simio.records.measurement import Measurement

_NAMES = ("run_id", "device", "model")
_RATES = ("ms_per_token", "decode_tps")
_MEASURED = (*_RATES, "prefill_tps", "load_s", "bytes_per_token")
_ABOUT = ("kind", "repeat_of", "source", "licence", "note")


class SimpleCsv:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether the header has the names of run, device and model, and a rate."""
        columns = set(table.header(path))
        return columns.issuperset(_NAMES) and not columns.isdisjoint(_RATES)

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """Every row; raises ``MeasurementFileError`` naming row and column."""
        _check_columns(path)
        ids = UniqueIds()
        return [_measurement(row, ids.check(row, "run_id")) for row in table.rows(path, _NAMES)]


def _check_columns(path: Path) -> None:
    allowed = {*_NAMES, *_MEASURED, *_ABOUT, *FIELDS}
    for name in table.header(path):
        if name not in allowed and not name.startswith("measured_"):
            hint = UnknownNameError("column", name, allowed).hint
            raise MeasurementFileError(
                f"{path}: row 1, column {name}: unknown column", f"{hint} (other measurements: measured_{name})"
            )


def _measurement(row: Row, run_id: str) -> Measurement:
    ms, rate = row.positive("ms_per_token"), row.positive("decode_tps")
    device, model = row.required("device"), row.required("model")
    known: dict[str, Any] = known_fields(row)
    counters = {name: row.number(name, float("-inf")) for name in row.cells if name.startswith("measured_")}
    return Measurement(
        run_id=run_id,
        device=device,
        model=model,
        known=known,
        mean_token_s=ms / 1e3 if ms else 1 / rate if rate else None,
        prefill_tokens_per_s=row.positive("prefill_tps"),
        load_s=row.number("load_s"),
        bytes_per_token=row.number("bytes_per_token"),
        counters={name.removeprefix("measured_"): value for name, value in counters.items() if value is not None},
        repeat_of=row.text("repeat_of") or repr((device, model, row.text("kind"), sorted(known.items()))),
        source=row.text("source") or str(row.path),
        note=row.text("note"),
        kind=row.text("kind"),
    )
