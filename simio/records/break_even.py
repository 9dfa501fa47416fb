"""From which storage and decompression rates on a codec pays: in closed form, and as simulated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from simio.records.scenario import Scenario


@dataclass(frozen=True, slots=True)
class GainPoint:
    """Tokens/s of raw and of compressed weights at one rate of the resource that is varied."""

    bytes_per_s: float
    raw_tokens_per_s: float
    tokens_per_s: float
    closed_form_gain: float  # E1

    @property
    def gain(self) -> float:
        """Compressed ÷ raw, as simulated."""
        return self.tokens_per_s / self.raw_tokens_per_s


@dataclass(frozen=True, slots=True)
class Curve:
    """``points`` by rising rate; ``break_even`` is where the simulated gain crosses 1, None where it does not."""

    points: tuple[GainPoint, ...]
    break_even: float | None  # [bytes/s]


@dataclass(frozen=True, slots=True)
class BreakEvenStudy:
    """A codec on a device: of the weights that are read, ``ratio`` and ``share`` (chunks that shrank).

    ``storage`` and ``decompress`` are the device's rates, the latter of all workers. The closed-form break-evens are
    ``storage_limit`` (compression pays below it) and ``decompress_limit`` (pays above it), pipelined and in series;
    None stands for infinity. [bytes/s]
    """

    scenario: Scenario  # with everything simio chose
    ratio: float
    share: float
    storage: float
    decompress: float
    gain: float  # closed form, pipelined, at the device's own rates
    simulated_gain: float
    storage_limit: float | None
    serial_storage_limit: float | None
    decompress_limit: float
    serial_decompress_limit: float | None
    over_storage: Curve
    over_decompress: Curve
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain types, stable keys."""
        table = {name: getattr(self, name) for name in self.__slots__}
        table["scenario"] = self.scenario.to_json()
        table["notes"] = list(self.notes)
        for name in ("over_storage", "over_decompress"):
            curve: Curve = getattr(self, name)
            points = [{**asdict(p), "gain": p.gain} for p in curve.points]
            table[name] = {"break_even": curve.break_even, "points": points}
        return table


def finite(value: float) -> float | None:
    """``value``, or None where it is infinite."""
    return value if isfinite(value) else None
