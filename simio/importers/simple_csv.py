"""The CSV any program can write: one row a run. docs/measurements.md lists the columns.

``run_id, device, model`` and ``ms_per_token`` or ``decode_tps``; any Scenario field under its own name; a few more
measured columns; whatever else was measured as ``measured_…``. Any other column is refused, so that a misspelt
setting is not silently ignored.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simio.errors import MeasurementFileError, UnknownNameError
from simio.importers import table
from simio.importers.scenario_cells import FIELDS, known_fields
from simio.importers.table import Row, UniqueIds
from simio.records.measurement import Measurement

_NAMES = ("run_id", "device", "model")
#: Digits a measurement is written with.
_DIGITS = 9
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


def to_text(runs: Sequence[Measurement], licence: str = "") -> str:
    """The file of ``runs``, as far as a row a run can say it: latencies of single tokens become their mean.

    Runs without a decode latency, and those that no Scenario expresses, have no row. Raises ``ValueError`` for a
    setting that is no Scenario field.
    """
    rows = [_row(run, licence) for run in runs if _ms(run) is not None and not run.unsupported]
    _name_repeats(rows)
    found = {name for row in rows for name, value in row.items() if value}
    measured = sorted(name for name in found if name.startswith("measured_"))
    columns = [*_NAMES, *FIELDS, *_MEASURED, *measured, *_ABOUT]
    text = io.StringIO()
    columns = [c for c in columns if c in found or c in (*_NAMES, "ms_per_token")]
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _ms(run: Measurement) -> float | None:
    seconds = sum(run.token_s) / len(run.token_s) if run.token_s else run.mean_token_s
    return None if seconds is None else 1e3 * seconds


def _row(run: Measurement, licence: str) -> dict[str, str]:
    if unknown := sorted(set(run.known) - set(FIELDS)):
        raise ValueError(f"no scenario fields: {', '.join(unknown)}")
    measured = {
        "ms_per_token": _ms(run),
        "prefill_tps": run.prefill_tokens_per_s,
        "load_s": run.load_s,
        "bytes_per_token": run.bytes_per_token,
        **{f"measured_{name}": value for name, value in run.counters.items()},
    }
    return {
        "run_id": run.run_id,
        "device": run.device,
        "model": run.model,
        **{name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in run.known.items()},
        **{name: f"{value:.{_DIGITS}g}" for name, value in measured.items() if value is not None},
        "kind": run.kind,
        "repeat_of": run.repeat_of,
        "source": run.source,
        "licence": licence,
        "note": run.note,
    }


def _name_repeats(rows: list[dict[str, str]]) -> None:
    """Call a group of repeats by its first run; a run without repeats has no group."""
    sizes = Counter(row["repeat_of"] for row in rows)
    names: dict[str, str] = {}
    for row in rows:
        group = row["repeat_of"]
        row["repeat_of"] = names.setdefault(group, row["run_id"]) if group and sizes[group] > 1 else ""
