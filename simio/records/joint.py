"""What a joint choice found: tensor by tensor, beside the best single choice, and how both are predicted to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simio.records.codec_profile import CodecProfile


@dataclass(frozen=True, slots=True)
class JointRow:
    """One tensor: what was chosen, what it takes and costs."""

    tensor: str
    layer: int | None
    role: str
    quant: str
    codec: str
    residency: str
    n_weights: int
    raw_bytes: int
    stored_bytes: int
    cost: float

    @property
    def bits_per_weight(self) -> float:
        """Of the layout, before the codec."""
        return 8 * self.raw_bytes / max(1, self.n_weights)

    def to_json(self) -> dict[str, Any]:
        """Every field, and the bits."""
        return {name: getattr(self, name) for name in self.__slots__} | {"bits_per_weight": self.bits_per_weight}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One selection: the linear model's latency with its proven bound, and the prediction's. [s per token]

    ``predicted_s`` is the mean decoded token by the recurrence; ``ram_bytes`` the peak that the planner counts.
    """

    rows: tuple[JointRow, ...]
    cost: float
    model_s: float
    bound_s: float
    predicted_s: float
    ram_bytes: int
    profile: CodecProfile

    @property
    def gap(self) -> float:
        """How far the linear model's optimum may still be below, as a share."""
        return max(0.0, 1 - self.bound_s / self.model_s) if self.model_s > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything but the profile."""
        return {
            "tokens_per_s": 1 / self.predicted_s,
            "predicted_s": self.predicted_s,
            "model_s": self.model_s,
            "bound_s": self.bound_s,
            "gap": self.gap,
            "cost": self.cost,
            "ram_bytes": self.ram_bytes,
            "weights_bytes": sum(row.raw_bytes for row in self.rows),
            "stored_bytes": sum(row.stored_bytes for row in self.rows),
        }


@dataclass(frozen=True, slots=True)
class SingleChoice:
    """One quantizer and codec for all tensors, with the best place for each; ``spread_s`` as predicted when RAM is
    shared out evenly over the layers instead (None: does not fit)."""

    quant: str
    codec: str
    outcome: Outcome
    spread_s: float | None

    @property
    def best_s(self) -> float:
        """The better of the two. [s per token]"""
        return min(self.outcome.predicted_s, self.spread_s or self.outcome.predicted_s)


@dataclass(frozen=True, slots=True)
class JointPlan:
    """The joint choice for one device, with the single choices that keep the same budgets, best first."""

    model: str
    device: str
    measure: str
    cost_budget: float
    ram_budget: int
    outcome: Outcome
    singles: tuple[SingleChoice, ...]
    notes: tuple[str, ...]

    @property
    def factor(self) -> float | None:
        """How much faster a token is than under the best single choice; None where no single choice fits."""
        return self.singles[0].best_s / self.outcome.predicted_s if self.singles else None

    def to_json(self) -> dict[str, Any]:
        """The document of ``simio study joint --json``."""
        return {
            "model": self.model,
            "device": self.device,
            "measure": self.measure,
            "cost_budget": self.cost_budget,
            "ram_budget_bytes": self.ram_budget,
            **self.outcome.to_json(),
            "factor": self.factor,
            "singles": [
                {"quant": s.quant, "codec": s.codec, "spread_s": s.spread_s, "best_s": s.best_s, **s.outcome.to_json()}
                for s in self.singles
            ],
            "tensors": [row.to_json() for row in self.outcome.rows],
            "notes": list(self.notes),
        }
