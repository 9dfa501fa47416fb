"""How BigMoeOnEdge was set, as Scenario fields: one table for its index of runs and for the headers of a token file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simio.importers.scenario_cells import check
from simio.importers.table import Row
from simio.units import MIB

#: The engine's names of policies and ours.
POLICIES = {"lru": "lru", "lfu": "lfu", "layer-lru": "layer_lru", "layer-lfu": "layer_lfu", "none": "none"}
RUNTIMES = {"mmap": "mmap", "stream": "stream"}


@dataclass(frozen=True, slots=True)
class Names:
    """What one of the two kinds of file calls a setting; empty where it never states it."""

    top_k: str
    cache: str
    queue_depth: str
    n_threads: str
    n_tokens: str = ""
    prompt_tokens: str = ""
    temperature: str = ""
    available: str = ""


INDEX = Names(
    "top_k", "cache_mib", "io_lanes", "threads", "n_tokens", "n_prompt", "cpu_temp_start_c", "mem_available_start_mib"
)
HEADERS = Names("n_expert_used", "cache_mb", "io_threads", "threads")


def settings(row: Row, names: Names, runtime: str, policy: str = "") -> dict[str, Any]:
    """Scenario fields of a row; raises ``MeasurementFileError`` naming the column.

    ``policy`` is the cache policy where the row has no column for it. What only explicit reads have is left out of a
    mapped run: there it says nothing.
    """
    settings = _Settings(row)
    settings.put("runtime", "engine", runtime)
    settings.count("top_k", names.top_k)
    settings.count("n_threads", names.n_threads)
    settings.count("n_tokens", names.n_tokens)
    settings.count("prompt_tokens", names.prompt_tokens)
    settings.put("entry_temperature_c", names.temperature, row.number(names.temperature, float("-inf")))
    available = row.positive(names.available)
    settings.put("available_bytes", names.available, None if available is None else round(available * MIB))
    if runtime == "stream":
        _stream(settings, names, policy)
    return settings.known


def _stream(settings: _Settings, names: Names, policy: str) -> None:
    row = settings.row
    settings.count("queue_depth", names.queue_depth)
    settings.put("expert_overlap", "overlap", row.flag("overlap"))
    settings.put("expert_prefetch", "prefetch", row.count("prefetch", least=0) or None)
    settings.put("speculative_gate", "spec_gate", row.flag("spec_gate") or None)
    settings.put("drop_cold", "drop_cold", row.number("drop_cold") or None)
    settings.put("dense_weights", "dense_weights", row.text("dense_weights") or None)
    cache_mib = row.number(names.cache)
    name = (row.text("cache_policy") or policy).lower()
    if name and name not in POLICIES:
        raise row.error("cache_policy", f"'{name}' is none of {', '.join(POLICIES)}")
    if cache_mib and name == "none":
        raise row.error("cache_policy", f"is none, but {names.cache} is {row.text(names.cache)}")
    if cache_mib == 0:
        settings.known["cache_policy"] = "none"
    elif cache_mib is not None:
        settings.known["cache_policy"] = POLICIES[name or "lru"]
        settings.put("cache_bytes", names.cache, round(cache_mib * MIB))
    elif name:
        settings.known["cache_policy"] = POLICIES[name]


class _Settings:
    """Scenario fields found so far in one row."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.known: dict[str, Any] = {}

    def put(self, name: str, column: str, value: Any) -> None:
        """Keep a value that is stated, and that Scenario does not refuse."""
        if value is not None:
            check(self.row, column, name, value)
            self.known[name] = value

    def count(self, name: str, column: str) -> None:
        """Keep a whole number of at least 1."""
        self.put(name, column, self.row.count(column) if column else None)
