"""Predictions beside measurements: the rows, what was left out and why, and how large the errors are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

#: fitted: the device file has numbers fitted to published runs, maybe to this one; cited: it takes numbers from the
#: page, repository or folder that this run comes from; apart: neither, the closest to held out.
RELATIONS = ("fitted", "cited", "apart")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measured run and what simio says of it. Times are of one decoded token, in ms as people quote them."""

    run_id: str
    measured_ms: float
    predicted_ms: float
    low_ms: float  # 1000 ÷ the upper end of the 80 % interval of tokens/s
    high_ms: float | None  # 1000 ÷ its lower end; None where that is 0 tokens/s
    device: str  # catalogue id
    model: str
    kind: str
    relation: str  # how this run relates to the device file, one of RELATIONS
    baseline_bytes: float  # what `validate.baseline` explains the time with
    peer_ms: float  # bytes one token multiplies ÷ bandwidth of the RAM: what calculators of fit and speed assume
    predicted: dict[str, Any] = field(default_factory=dict)  # everything else predicted, plain types
    measured: dict[str, float] = field(default_factory=dict)  # everything else measured
    repeat_of: str = ""

    @property
    def error(self) -> float:
        """Signed: predicted ÷ measured − 1."""
        return self.predicted_ms / self.measured_ms - 1

    @property
    def is_covered(self) -> bool:
        """Whether the measured time lies in the 80 % interval."""
        return self.low_ms <= self.measured_ms and (self.high_ms is None or self.measured_ms <= self.high_ms)

    @property
    def load_error(self) -> float | None:
        """Signed error of the time to load; None where it was not measured."""
        measured_s = self.measured.get("load_s")
        return self.predicted["load_s"] / measured_s - 1 if measured_s else None

    @property
    def p95_error(self) -> float | None:
        """Signed error of the 95th percentile of token latencies; None where it was not measured."""
        return self._share_off("p95_token_s")

    @property
    def bytes_error(self) -> float | None:
        """Signed error of the bytes read per token; None where none were measured."""
        return self._share_off("bytes_per_token")

    @property
    def hit_error(self) -> float | None:
        """Predicted − measured hit ratio; None where it was not measured."""
        measured = self.measured.get("hit_ratio")
        return None if measured is None else float(self.predicted["hit_ratio"]) - measured

    def _share_off(self, name: str) -> float | None:
        measured = self.measured.get(name)
        return float(self.predicted[name]) / measured - 1 if measured else None

    def to_json(self) -> dict[str, Any]:
        """Plain types, stable keys, with the errors."""
        errors = ("error", "load_error", "p95_error", "bytes_error", "hit_error")
        table = asdict(self) | {name: getattr(self, name) for name in errors}
        for inner in ("repeat_of", "baseline_bytes"):
            del table[inner]
        return table


@dataclass(frozen=True, slots=True)
class Skipped:
    """A run that was not compared."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors of ms per token, as shares of the measured time; None where nothing can be said."""

    n: int
    median_error: float | None  # signed: which way predictions lean
    median_abs_error: float | None
    mean_abs_error: float | None
    p90_abs_error: float | None
    max_abs_error: float | None
    coverage: float | None  # share of runs whose measured time lies in the 80 % interval
    noise_floor: float | None  # median difference of two runs that repeat each other
    baseline_median_abs_error: float | None  # of `C + bytes/bandwidth`, each run predicted from the others
    peer_median_abs_error: float | None  # of `bytes/bandwidth of the RAM`, as peers estimate
    n_loads: int = 0  # runs whose time to load was measured
    median_abs_load_error: float | None = None
    max_abs_load_error: float | None = None
    n_p95: int = 0  # runs whose token latencies were measured
    median_abs_p95_error: float | None = None
    n_bytes: int = 0  # runs whose bytes per token were measured
    median_abs_bytes_error: float | None = None
    max_abs_bytes_error: float | None = None
    n_hits: int = 0  # runs whose hit ratio was measured
    max_abs_hit_error: float | None = None  # in points: of a share between 0 and 1


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one device, one model, one kind or one relation."""

    name: str
    summary: Summary
    relation: str  # of all its runs, or "mixed"


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of ``validate``; ``to_json`` has stable keys."""

    rows: tuple[Comparison, ...]
    skipped: tuple[Skipped, ...]
    summary: Summary
    by_kind: tuple[Group, ...] = ()
    by_device: tuple[Group, ...] = ()
    by_model: tuple[Group, ...] = ()
    by_relation: tuple[Group, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "skipped": [asdict(s) for s in self.skipped],
            "summary": asdict(self.summary),
            "by_kind": [_group(g) for g in self.by_kind],
            "by_device": [_group(g) for g in self.by_device],
            "by_model": [_group(g) for g in self.by_model],
            "by_relation": [_group(g) for g in self.by_relation],
        }


def _group(group: Group) -> dict[str, Any]:
    return {"name": group.name, "relation": group.relation} | asdict(group.summary)
