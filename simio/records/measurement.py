"""What a real run showed, with the inputs it was run with kept apart from what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured run. Only ``device``, ``model`` and ``known`` may enter a prediction; all else is measured.

    ``known`` holds Scenario fields (``n_threads``, ``ram_bytes``, ``runtime`` …) that the source states. ``repeat_of``
    is equal for runs that repeat each other: their spread is the noise floor. An importer that cannot express an input
    as a Scenario field says so in ``unsupported``, and the run is skipped with that reason.
    """

    run_id: str
    device: str  # as the source calls it
    model: str  # as the source calls it, quantization after a colon
    known: dict[str, Any]
    token_s: tuple[float, ...] = ()  # latency of every decoded token, where recorded [s]
    mean_token_s: float | None = None  # mean (or median) latency of a decoded token [s]
    prefill_tokens_per_s: float | None = None
    load_s: float | None = None
    bytes_per_token: float | None = None  # read from storage
    counters: dict[str, float] = field(default_factory=dict)  # anything else measured, in SI
    per_token: dict[str, tuple[float, ...]] = field(default_factory=dict)  # the same, an entry per decoded token
    repeat_of: str = ""
    unsupported: str = ""
    source: str = ""  # URL or file
    note: str = ""
    kind: str = ""  # as the source sorts its runs: in_ram, flash_bound …; `simio validate --kind` filters by it

    def to_json(self) -> dict[str, Any]:
        """All fields that are set, by name, as plain JSON types."""
        found: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, "", (), {})}

    @classmethod
    def from_json(cls, table: Any) -> Measurement:
        """The measurement of ``to_json``; raises ``ValueError`` saying what is missing, unknown or of a wrong type."""
        if not isinstance(table, dict):
            raise ValueError("is no table")
        if unknown := sorted(set(table) - {f.name for f in fields(cls)}):
            raise ValueError(f"unknown: {', '.join(unknown)}")
        found: dict[str, Any] = {name: str(table.get(name, "")) for name in _TEXTS}
        found |= {name: None if table.get(name) is None else float(table[name]) for name in _NUMBERS}
        if not (found["run_id"] and found["device"] and found["model"]) or not isinstance(table.get("known"), dict):
            raise ValueError("run_id, device, model and known are needed")
        return cls(
            **found,
            known=dict(table["known"]),
            token_s=tuple(map(float, table.get("token_s", ()))),
            counters={str(name): float(value) for name, value in dict(table.get("counters", {})).items()},
            per_token={str(k): tuple(map(float, v)) for k, v in dict(table.get("per_token", {})).items()},
        )


_TEXTS = ("run_id", "device", "model", "repeat_of", "unsupported", "source", "note", "kind")
_NUMBERS = ("mean_token_s", "prefill_tokens_per_s", "load_s", "bytes_per_token")
