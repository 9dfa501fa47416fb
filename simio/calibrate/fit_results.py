"""What a fit of a device file and its cross-validation leave behind, and the errors they are judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import log
from statistics import median
from typing import Any

import numpy as np

from simio.calibrate.fit_runs import FitRun
from simio.records.device import Device
from simio.records.validation import Skipped


@dataclass(frozen=True, slots=True)
class Found:
    """One parameter after the fit. ``factor`` and its bounds (10th, 90th percentile) multiply the file's numbers."""

    name: str
    places: tuple[str, ...]
    meaning: str
    is_fitted: bool
    response: float  # largest |d log time / d log factor| over the runs, at the file's values
    factor: float = 1.0
    low: float = 1.0
    high: float = 1.0
    prior_low: float = 1.0
    prior_high: float = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """A run predicted from a fit that has not seen it. Intervals are 80 %, by linear propagation. [ms]"""

    run_id: str
    group: str
    measured_ms: float
    predicted_ms: float
    low_ms: float
    high_ms: float
    before_ms: float
    before_low_ms: float
    before_high_ms: float
    baseline_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Errors |predicted/measured − 1| of some runs; ``coverage`` of the 80 % interval, None where there is none."""

    median: float
    p90: float
    worst: float
    coverage: float | None


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Runs left out in groups, each predicted from a fit on the others, beside the file as it was and a line."""

    by: str
    n_groups: int
    rows: tuple[Held, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def fitted(self) -> Figures:
        """Errors of the fits that left the runs out."""
        return _figures(self.rows, lambda r: r.predicted_ms, lambda r: r.low_ms <= r.measured_ms <= r.high_ms)

    @property
    def before(self) -> Figures:
        """Errors of the device file as it was given."""
        return _figures(
            self.rows, lambda r: r.before_ms, lambda r: r.before_low_ms <= r.measured_ms <= r.before_high_ms
        )

    @property
    def baseline(self) -> Figures:
        """Errors of ``ms = C + bytes/bandwidth``, fitted per model on the same runs as the fit."""
        return _figures(self.rows, lambda r: r.baseline_ms, None)

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        figures = {name: asdict(getattr(self, name)) for name in ("fitted", "before", "baseline")}
        return {"by": self.by, "n_groups": self.n_groups, **figures, "rows": [asdict(row) for row in self.rows]}


@dataclass(frozen=True, slots=True)
class Fit:
    """The result on all runs. ``residual``: standard deviation of log time that no parameter explains."""

    device: Device  # with the fitted values, not yet their sources
    parameters: tuple[Found, ...]
    residual: float
    runs: tuple[FitRun, ...]
    predicted_ms: tuple[float, ...]
    before_ms: tuple[float, ...]
    skipped: tuple[Skipped, ...]

    @property
    def logs(self) -> dict[str, float]:
        """Logarithm of each fitted factor."""
        return {p.name: log(p.factor) for p in self.parameters if p.is_fitted}

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        rows = zip(self.runs, self.predicted_ms, self.before_ms, strict=True)
        return {
            "parameters": [asdict(p) for p in self.parameters],
            "residual": self.residual,
            "runs": [
                {"run_id": r.run_id, "measured_ms": r.measured_ms, "predicted_ms": p, "before_ms": b}
                for r, p, b in rows
            ],
            "skipped": [asdict(s) for s in self.skipped],
        }


def _figures(rows: Sequence[Held], ms: Callable[[Held], float], is_covered: Callable[[Held], bool] | None) -> Figures:
    errors = [abs(ms(row) / row.measured_ms - 1) for row in rows]
    coverage = None if is_covered is None else sum(map(is_covered, rows)) / len(rows)
    return Figures(median(errors), float(np.quantile(errors, 0.9)), max(errors), coverage)
