"""What a sweep keeps of every scenario: one row of numbers, and why there is none where it cannot run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simio.analytic.bounds import demand
from simio.predict.point import Point
from simio.records.prediction import TokenLatency

#: Columns of ``Outcome.numbers``; times in seconds, sizes in bytes.
COLUMNS = (
    "tokens_per_s", "ttft_s", "cold_start_s", "p50_s", "p95_s", "bytes_per_token", "hit_ratio", "cache_hit_ratio",
    "peak_ram_bytes", "bound_lower_s", "bound_upper_s", "run_s", "energy_j_per_token",
    "interval_low", "interval_high", "sim_difference",
)  # fmt: skip
NUMBER = {name: i for i, name in enumerate(COLUMNS)}


@dataclass(slots=True)
class Outcome:
    """Results of n scenarios: ``numbers`` n × columns (NaN: not known), the runtime chosen, and a reason where none."""

    numbers: NDArray[np.float64]
    runtime: NDArray[np.object_]
    reason: NDArray[np.object_]

    @classmethod
    def empty(cls, n: int) -> Outcome:
        """Nothing known yet."""
        return cls(np.full((n, len(COLUMNS)), np.nan), np.full(n, None, object), np.full(n, None, object))

    def put(self, rows: NDArray[np.int64], other: Outcome) -> None:
        """Take over ``other`` into ``rows``."""
        self.numbers[rows], self.runtime[rows], self.reason[rows] = other.numbers, other.runtime, other.reason

    def set(self, name: str, values: NDArray[np.float64] | float) -> None:
        """Fill a column."""
        self.numbers[:, NUMBER[name]] = values


def row_of(point: Point, energy_j_per_token: float | None) -> NDArray[np.float64]:
    """The numbers of one evaluated scenario; no energy where the device file has no powers."""
    decode, whole = demand(point.timed, point.plan.n_setup), demand(point.timed)
    latencies = point.token_latencies_s
    latency = TokenLatency.of(latencies)
    row = np.full(len(COLUMNS), np.nan)
    cached = point.plan.cache_hit_ratio
    found = {
        "tokens_per_s": point.tokens_per_s, "ttft_s": point.first_token_s - point.load_s,
        "cold_start_s": point.first_token_s, "p50_s": latency.p50, "p95_s": latency.p95,
        "bytes_per_token": decode.link_bytes / len(latencies), "hit_ratio": point.plan.hit_ratio,
        "cache_hit_ratio": np.nan if cached is None else cached, "peak_ram_bytes": float(point.plan.ram.peak),
        "bound_lower_s": whole.lower_s, "bound_upper_s": whole.upper_s, "run_s": point.pass_end_s[-1],
        "energy_j_per_token": np.nan if energy_j_per_token is None else energy_j_per_token,
    }  # fmt: skip
    for name, value in found.items():
        row[NUMBER[name]] = value
    return row
