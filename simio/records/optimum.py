"""The best way to run a model on a device that was found, and the ways that no other beats in everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from simio.records.codec_profile import CodecProfile
from simio.records.prediction import Interval
from simio.records.scenario import Scenario

#: What can be minimised → the number of a ``Configuration`` it is.
GOALS = {"p50": "p50_s", "p95": "p95_s", "ram": "ram_bytes", "energy": "energy_j_per_token"}


@dataclass(frozen=True, slots=True)
class Goal:
    """One of ``GOALS`` to minimise, and what must hold. RAM is limited by the scenario, quality by the choice."""

    minimise: str = "p50"
    least_tokens_per_s: float = 0.0
    most_p95_s: float = float("inf")
    most_energy_j: float = float("inf")  # per token

    def value(self, found: Configuration) -> float:
        """The number that is minimised; infinite where it is not known."""
        number = getattr(found, GOALS[self.minimise])
        return float("inf") if number is None else float(number)

    def holds(self, found: Configuration) -> bool:
        """Whether every limit is kept."""
        energy = found.energy_j_per_token
        return (
            found.tokens_per_s >= self.least_tokens_per_s
            and found.p95_s <= self.most_p95_s
            and (self.most_energy_j == float("inf") or (energy is not None and energy <= self.most_energy_j))
        )

    def order(self, found: Configuration) -> tuple[bool, float, float, int, int]:
        """Sorts the best first: limits kept, the goal, then the faster, the smaller in RAM and on flash."""
        return (
            not self.holds(found), self.value(found), -found.tokens_per_s, found.ram_bytes, found.stored_bytes,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Configuration:
    """A scenario, with a plan of what lies where or without one, and what is predicted of it.

    ``stored_bytes`` is what lies on flash, ``flash_bytes_per_token`` what is read of it; ``cost`` is counted in the
    measure of the quality table (0: the weights as they are).
    """

    scenario: Scenario
    plan: CodecProfile | None
    runtime: str  # that was chosen
    tokens_per_s: float
    p50_s: float
    p95_s: float
    ram_bytes: int
    flash_bytes_per_token: float
    stored_bytes: int
    cost: float = 0.0
    energy_j_per_token: float | None = None

    @property
    def label(self) -> str:
        """What sets it apart, in a few words."""
        chosen = self.scenario
        words = [self.runtime, *([] if self.plan else [chosen.codec or "raw"])]
        words += [f"held {chosen.cache_form}"] if chosen.cache_form == "compressed" else []
        words += ["nothing pinned"] if chosen.pinned_bytes == 0 else []
        words += [f"cache {chosen.cache_policy}"] if chosen.cache_policy else []
        if self.plan is not None:
            words += ["plan:", ", ".join(f"{100 * share:.0f} % {what}" for what, share in _shares(self.plan))]
        return " ".join(words)

    def to_json(self) -> dict[str, Any]:
        """The numbers, the scenario, and the plan tensor by tensor."""
        table = {name: getattr(self, name) for name in self.__slots__ if name not in ("scenario", "plan")}
        plan = None if self.plan is None else {
            one.tensor: {"quant": one.quant, "codec": one.codec, "residency": one.residency} for one in self.plan.plan
        }  # fmt: skip
        return table | {"label": self.label, "scenario": self.scenario.to_json(), "tensor_plan": plan}


def _shares(plan: CodecProfile) -> list[tuple[str, float]]:
    """The three choices of most bytes, each with its share of what a plan places."""
    size = {t.tensor: sum(t.raw_bytes) for t in plan.tensors}
    bytes_of: Counter[str] = Counter()
    for one in plan.plan:
        bytes_of[f"{one.codec} {_PLACES[one.residency]}"] += size[one.tensor]
    total = max(1, bytes_of.total())
    return [(what, n / total) for what, n in bytes_of.most_common(3) if n >= 0.005 * total]


_PLACES = {"ram": "in RAM", "ram-compressed": "compressed in RAM", "flash": "on flash"}


@dataclass(frozen=True, slots=True)
class Optimum:
    """What was found for ``goal``.

    ``bound_s``: no placement has a faster token in the linear program of the best plan's settings (None: nothing was
    solved). ``baseline`` is the best scenario with one codec (and quantizer) and nothing pinned, ``usual`` what
    ``simio predict`` makes of the scenario as asked. ``sim_difference`` is the largest relative difference of SimPy
    from what is claimed. ``runtime_flags`` are the nearest ones of llama.cpp.
    """

    model: str
    device: str
    goal: Goal
    best: Configuration
    front: tuple[Configuration, ...]
    baseline: Configuration | None
    usual: Configuration | None
    bound_s: float | None
    n_evaluated: int
    sim_difference: float
    interval: Interval  # of the best's tokens/s
    runtime_flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> float | None:
        """How far the best plan's mean token may be above the least there is, as a share; None for a search."""
        return None if self.bound_s is None else max(0.0, 1 - self.bound_s * self.best.tokens_per_s)

    @property
    def factor(self) -> float | None:
        """Tokens/s of the best ÷ of the baseline."""
        return self.best.tokens_per_s / self.baseline.tokens_per_s if self.baseline else None

    def to_json(self) -> dict[str, Any]:
        """The document of ``simio optimize --json``."""
        return {
            "model": self.model,
            "device": self.device,
            "minimise": self.goal.minimise,
            "best": self.best.to_json(),
            "interval": {"low": self.interval.low, "high": self.interval.high, "level": self.interval.level},
            "factor": self.factor,
            "gap": self.gap,
            "bound_s": self.bound_s,
            "baseline": self.baseline.to_json() if self.baseline else None,
            "usual": self.usual.to_json() if self.usual else None,
            "front": [one.to_json() | {"tensor_plan": None} for one in self.front],
            "n_evaluated": self.n_evaluated,
            "sim_difference": self.sim_difference,
            "runtime_flags": list(self.runtime_flags),
            "notes": list(self.notes),
        }
