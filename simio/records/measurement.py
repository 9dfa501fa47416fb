"""What a real run showed, with the inputs it was run with kept apart from what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
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
