"""Predicted against measured llama.cpp under a memory limit and a throttled disk, row by row.

    python benchmarks/mmap_truth.py RUNS.csv [--device DEVICE]

RUNS.csv is in the format of ``simio.importers.llamacpp_host``. Predictions see the inputs only.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from simio.importers.llamacpp_host import LlamaCppHost
from simio.predict import predict
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Row:
    """One run, what was measured and what simio says of it."""

    run: Measurement
    ms: float
    low_ms: float
    high_ms: float
    bytes_per_token: float

    @property
    def measured_ms(self) -> float:
        """Median latency of a token."""
        return 1e3 * (self.run.mean_token_s or 0.0)

    @property
    def error(self) -> float:
        """Predicted ÷ measured − 1."""
        return self.ms / self.measured_ms - 1

    @property
    def bytes_error(self) -> float | None:
        """The same of bytes per token; none where nothing was read."""
        return self.bytes_per_token / self.run.bytes_per_token - 1 if self.run.bytes_per_token else None

    @property
    def covered(self) -> bool:
        """Whether the 80 % interval holds the measurement."""
        return self.low_ms <= self.measured_ms <= self.high_ms


def compare(path: Path, device: str | None = None) -> list[Row]:
    """Predict every run of ``path`` from its inputs."""
    rows = []
    for run in LlamaCppHost.read(path):
        p = predict(Scenario(device=device or run.device, model=run.model, **run.known), suggestions=False)
        median = 1e3 * p.token_latency_s.p50
        mean = 1e3 / p.tokens_per_s
        rows.append(
            Row(run, mean, min(median, 1e3 / p.interval.high), max(median, 1e3 / p.interval.low), p.bytes_per_token)
        )
    return rows


def report(rows: list[Row]) -> str:
    """The table and the figures of acceptance."""
    lines = [
        "| run | kind | ms measured | predicted | 80 % interval | error | MB measured | predicted | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        kind = "not scored" if r.run.unsupported else r.run.kind
        off = "" if r.bytes_error is None else f"{r.bytes_error:+.0%}"
        lines.append(
            f"| {r.run.run_id} | {kind} | {r.measured_ms:.1f} | {r.ms:.1f} | {r.low_ms:.1f}–{r.high_ms:.1f} | "
            f"{r.error:+.0%} | {(r.run.bytes_per_token or 0) / 1e6:.0f} | {r.bytes_per_token / 1e6:.0f} | {off} |"
        )
    scored = [r for r in rows if not r.run.unsupported]
    lines.append("")
    for name, kinds in (
        ("strict", ("in_ram", "strict")),
        ("in RAM", ("in_ram",)),
        ("half and three quarters", ("strict",)),
    ):
        chosen = [r for r in scored if r.run.kind in kinds]
        lines.append(f"{name}, {len(chosen)} rows: {_errors(chosen, lambda r: r.error)} of ms per token; ")
        lines.append(f"    {_errors(chosen, lambda r: r.bytes_error)} of bytes per token; {_coverage(chosen)}")
    lines.append(f"bands, {_coverage([r for r in scored if r.run.kind == 'band'])}")
    return "\n".join(lines)


def _errors(rows: Iterable[Row], error: Callable[[Row], float | None]) -> str:
    found = sorted(abs(e) for r in rows if (e := error(r)) is not None)
    return f"median error {statistics.median(found):.1%}, worst {found[-1]:.1%}" if found else "nothing"


def _coverage(rows: list[Row]) -> str:
    inside = sum(r.covered for r in rows)
    return f"{inside} of {len(rows)} rows inside the 80 % interval"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--device")
    chosen = parser.parse_args()
    print(report(compare(chosen.runs, chosen.device)))
