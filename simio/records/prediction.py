"""The answer: times, where they go, how sure we are, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from simio.records.plan import RamUse
from simio.records.scenario import Scenario


@dataclass(frozen=True, slots=True)
class TokenLatency:
    """Over the decoded tokens. [s]"""

    mean: float
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, latencies_s: Sequence[float]) -> TokenLatency:
        """Mean and quantiles (nearest rank)."""
        ordered = sorted(latencies_s)

        def rank(q: float) -> float:
            return ordered[ceil(q * len(ordered)) - 1]

        return cls(sum(ordered) / len(ordered), rank(0.5), rank(0.95), ordered[-1])


@dataclass(frozen=True, slots=True)
class Interval:
    """Of a predicted number, from the device file's bounds."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What limits decoding: ``share`` is each resource's demand ÷ servers ÷ time; ``next`` binds after ``limit``."""

    limit: str
    next: str
    share: dict[str, float]
    overlap_efficiency: float  # busiest resource's demand ÷ time; 1 = perfect overlap


@dataclass(frozen=True, slots=True)
class Check:
    """One law: ``left`` and ``right`` are the two numbers compared."""

    law: str
    statement: str
    left: float
    right: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Confidence:
    """``label`` is high, medium or low; ``basis`` says which numbers it rests on."""

    label: str
    basis: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One change, its command, and what it would give."""

    change: str
    command: str
    tokens_per_s: float
    gain: float  # new ÷ old tokens/s
    note: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result of ``predict``; ``to_json`` has stable keys."""

    tokens_per_s: float
    ttft_s: float
    cold_start_s: float
    token_latency_s: TokenLatency
    interval: Interval  # of tokens per second
    energy_j_per_token: float | None  # mean of the decoded tokens; None: the device file has no [power]
    energy_interval: Interval | None  # of it, from the bounds of the powers alone: times as predicted
    bytes_per_token: float
    hit_ratio: float
    cache_hit_ratio: float | None  # of the experts that decoded tokens look up in the weight cache
    peak_ram_bytes: int
    ram: RamUse
    bottleneck: Bottleneck
    busy_s: dict[str, float]  # per resource, whole run
    bounds_s: dict[str, float]  # lower, upper: of the whole run
    checks: tuple[Check, ...]
    confidence: Confidence
    suggestions: tuple[Suggestion, ...]
    scenario: Scenario  # as asked
    resolved: Scenario  # with everything simio chose
    model: dict[str, Any]  # name, bytes, bits per weight, source
    compression: dict[str, Any]  # codec, ratio, bound, basis
    token_latencies_s: tuple[float, ...]
    notes: tuple[str, ...]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain types, stable keys."""
        table = {name: _plain(getattr(self, name)) for name in self.__slots__}
        table["scenario"] = self.scenario.to_json()
        table["resolved"] = self.resolved.to_json()
        return table


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value
