"""Which numbers move an answer: one at a time between its bounds, and as shares of the variance of all together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from simio.records.device import Quantity
from simio.records.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Sobol:
    """Shares of the variance of tokens/s: of a number by itself (``first``) and with all it acts together with
    (``total``); ± half the width of their 95 % confidence interval."""

    first: float
    first_error: float
    total: float
    total_error: float


@dataclass(frozen=True, slots=True)
class Influence:
    """One number: tokens/s with it at its low and at its high bound, the others at their values."""

    name: str
    quantity: Quantity
    at_low: float
    at_high: float
    sobol: Sobol | None
    how: str  # how to measure it

    @property
    def swing(self) -> float:
        """Distance of the two. [tokens/s]"""
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """``influences`` of the numbers that this run meets, the most influential first."""

    scenario: Scenario  # with everything simio chose
    tokens_per_s: float
    influences: tuple[Influence, ...]
    n_idle: int  # numbers with bounds that this run does not meet
    n_samples: int  # base samples behind the Sobol indices; 0: none
    n_evaluations: int

    @property
    def measure_next(self) -> tuple[Influence, ...]:
        """Up to three numbers worth measuring, the best first: those that move a tenth of what the first does."""
        ranked = self.influences[:3]
        return tuple(i for i in ranked if i.swing > 0 and i.swing >= ranked[0].swing / 10)

    def to_json(self) -> dict[str, Any]:
        """Plain types, stable keys."""
        return {
            "scenario": self.scenario.to_json(),
            "tokens_per_s": self.tokens_per_s,
            "influences": [
                {"name": i.name, **asdict(i.quantity), "tokens_per_s_low": i.at_low, "tokens_per_s_high": i.at_high,
                 "sobol": asdict(i.sobol) if i.sobol else None, "how": i.how}
                for i in self.influences
            ],
            "measure_next": [i.name for i in self.measure_next],
            "n_idle": self.n_idle,
            "n_samples": self.n_samples,
            "n_evaluations": self.n_evaluations,
        }  # fmt: skip
