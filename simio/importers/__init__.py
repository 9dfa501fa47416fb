"""Readers of other people's measurements. Each has ``sniff(path) -> bool`` and ``read(path) -> list[Measurement]``.

They are plug-ins of the group ``simio.importers``. The contract, in both directions:

- ``sniff`` is cheap, looks at names and the first bytes, and never raises for a file it does not know.
- ``read`` raises ``MeasurementFileError`` naming file, row and column; it never guesses.
- What a prediction may see goes into ``device``, ``model`` and ``known``; a measured column never does.
- ``repeat_of`` is made from inputs only.

Adding one is a module here and a line in pyproject.toml. docs/measurements.md describes the formats.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simio import registry
from simio.errors import MeasurementFileError, UsageError
from simio.records.measurement import Measurement


def read(path: Path) -> list[Measurement]:
    """Every run of ``path``, by the first importer that recognizes it.

    Raises ``UsageError`` where there is no such file and ``MeasurementFileError`` where it is malformed or unknown.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file", "give a file of measured runs, see docs/measurements.md")
    for name in registry.names("importers"):
        importer = registry.get("importers", name)
        if importer.sniff(path):
            runs: list[Measurement] = importer.read(path)
            return runs
    if _begins_with(path, b"# route_trace"):
        raise MeasurementFileError(
            f"{path}: a trace of the experts that a router chose, not a measured run: it has no times",
            f"replay it in a prediction: simio predict --device … --model … --routing {path}",
        )
    raise MeasurementFileError(
        f"{path}: no importer recognizes this file",
        f"importers: {', '.join(registry.names('importers'))}; docs/measurements.md has a CSV any program can write",
    )


def _begins_with(path: Path, start: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


def read_all(paths: list[Path]) -> list[Measurement]:
    """The runs of several files; an id met before gets its file's name in front."""
    runs: list[Measurement] = []
    seen: set[str] = set()
    for path in paths:
        for run in read(path):
            run_id = run.run_id if run.run_id not in seen else f"{path}/{run.run_id}"
            if run_id in seen:
                raise UsageError(f"{path} is given twice", "name each file of runs once")
            seen.add(run_id)
            runs.append(replace(run, run_id=run_id))
    return runs
