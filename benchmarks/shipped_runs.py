"""Write the measured runs that simio comes with: ``python benchmarks/shipped_runs.py ../shared``.

Facts only, a line a run: what was set, what was measured, and where it stands. Rows that no Scenario expresses, and
devices and models that simio does not know, are left out.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from simio.importers import read, simple_csv
from simio.paths import write_whole
from simio.records.measurement import Measurement
from simio.validate.compare import catalogued

TRACES = Path(__file__).parent.parent / "traces"
#: The commit whose docs/bench-data the runs of the phone stand in, and its licence.
BIGMOE = "https://github.com/Helldez/BigMoeOnEdge/tree/2d4f2b1/docs/bench-data"
BIGMOE_LICENCE = "Apache-2.0"


def main(shared: Path) -> None:
    """Write every table."""
    phone = [_at(run, BIGMOE) for run in read(shared / "traces" / "oneplus15r" / "runs.csv")]
    _write("oneplus15r", phone, BIGMOE_LICENCE)
    # notes of published runs are their sources' words; which of them repeat each other follows from the inputs
    published = [replace(_at(run, run.source), repeat_of="") for run in read(shared / "measured" / "runs.csv")]
    _write("published", published, "")


def _at(run: Measurement, source: str) -> Measurement:
    return replace(run, source=source, note="")


def _write(folder: str, runs: list[Measurement], licence: str) -> None:
    (TRACES / folder).mkdir(exist_ok=True)
    chosen = catalogued(runs)
    write_whole(TRACES / folder / "runs.csv", simple_csv.to_text(chosen, licence))
    print(f"{folder}: {len(chosen)} of {len(runs)} runs have names that simio knows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
