"""Runs that ``simio run -o FILE`` measured: JSON, one run or a list of them."""

from __future__ import annotations

import json
from pathlib import Path

from simio.errors import MeasurementFileError
from simio.records.measurement import Measurement

#: The key that says what the file is, and the version of its fields.
KEY, VERSION = "simio_runs", 1


class SimioRun:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether the file begins like one of ours."""
        if not path.is_file() or path.suffix != ".json":
            return False
        with path.open("rb") as file:
            return f'"{KEY}"'.encode() in file.read(64)

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """Every run; raises ``MeasurementFileError`` naming the run."""
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise MeasurementFileError(f"{path}: damaged, not JSON ({error})", "run the measurement again") from error
        if not isinstance(table, dict) or table.get(KEY) != VERSION or not isinstance(table.get("runs"), list):
            raise MeasurementFileError(f"{path}: no runs of version {VERSION}", "update simio, or measure again")
        return [_measurement(path, number, run) for number, run in enumerate(table["runs"], start=1)]


def _measurement(path: Path, number: int, run: object) -> Measurement:
    try:
        return Measurement.from_json(run)
    except (ValueError, TypeError) as error:
        raise MeasurementFileError(f"{path}: run {number}: {error}", "run the measurement again") from error


def to_text(runs: list[Measurement]) -> str:
    """The file of ``runs``."""
    return json.dumps({KEY: VERSION, "runs": [run.to_json() for run in runs]}, indent=1, allow_nan=False) + "\n"
