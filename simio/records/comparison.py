"""Things side by side: what each would do, and how sure it is that one beats another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from simio.records.prediction import Prediction
from simio.records.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the things compared. ``prediction`` is None where it cannot run; ``problem`` says why."""

    label: str
    scenario: Scenario  # as asked
    prediction: Prediction | None
    problem: str = ""

    @property
    def tokens_per_s(self) -> float:
        """0 where it cannot run."""
        return self.prediction.tokens_per_s if self.prediction else 0.0


@dataclass(frozen=True, slots=True)
class Odds:
    """``first`` against ``second``, by their labels.

    ``share`` of the draws in which ``first`` is faster (ties count half); ``ratio`` of their tokens/s, and its 80 %
    interval over the draws; None where ``second`` does not run. ``same_draws``: the numbers of the device they share
    were drawn once for both; otherwise independently.
    """

    first: str
    second: str
    share: float
    ratio: float | None
    low: float | None
    high: float | None
    n_draws: int
    same_draws: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """``contenders`` in the order asked; ``odds`` of every pair, the earlier first."""

    contenders: tuple[Contender, ...]
    odds: tuple[Odds, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain types, stable keys."""
        return {
            "contenders": [
                {
                    "label": c.label,
                    "problem": c.problem,
                    "scenario": c.scenario.to_json(),
                    "prediction": c.prediction.to_json() if c.prediction else None,
                }
                for c in self.contenders
            ],
            "odds": [asdict(o) for o in self.odds],
        }
