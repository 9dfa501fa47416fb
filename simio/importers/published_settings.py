"""What a published row says of how it was run, as Scenario fields, and which engines simio does not model.

Settings hide in free text; each pattern below reads one of them. Figures that were measured (hit ratios, bytes per
token, seconds) stand in the same text and are never read.
"""

from __future__ import annotations

import re
from typing import Any

from simio.importers.table import Row

#: Of a run that the source says had everything in RAM: whether it fits is not the question then.
PLENTY_BYTES = 10**12
MIB = 1024**2

#: Engines by the start of their name, and why simio says nothing of them.
_FOREIGN = (
    ("T-MAC", "T-MAC multiplies by table look-up, with kernels of its own"),
    ("PowerInfer", "PowerInfer skips weights by predicted activation (sparsity)"),
    ("LLMFlash", "LLM in a flash reads only neurons predicted to be active (sparsity)"),
    ("LLM in a flash", "LLM in a flash reads only neurons predicted to be active (sparsity)"),
    ("naive: ", "the source states the type computed with, not the stored one"),
    ("hybrid: ", "the source states the type computed with, not the stored one"),
)
#: Engines that keep the dense weights in RAM and read experts into an LRU cache as large as the RAM they got.
#: Sources: docs/ENVIRONMENT.md of github.com/JustVugg/colibri (RAM_GB, PIPE); docs/ENGINE.md of
#: github.com/sqliteai/waste.
_EXPERT_STREAMERS = ("colibri", "colibrì", "waste")
_LLAMA_CPP = ("llama.cpp", "llama-cpp-python", "llama_sdk", "ollama", "ChatterUI")


class Unsupported(Exception):
    """An input that no Scenario expresses; the message is the reason the run is skipped with."""


def settings(row: Row) -> dict[str, Any]:
    """Scenario fields of a row. Raises ``Unsupported`` with the reason, ``MeasurementFileError`` for a bad cell."""
    budget_gb, threads = row.positive("ram_budget_gb"), row.count("threads")
    backend, engine, note = row.text("backend"), row.text("engine"), row.text("note")
    if not backend.startswith("CPU") or "NPU" in backend or "GPU" in backend:
        raise Unsupported(f"ran on {backend or 'an unknown backend'}; simio models CPUs")
    for start, reason in _FOREIGN:
        if engine.startswith(start):
            raise Unsupported(reason)
    known: dict[str, Any] = {} if threads is None else {"n_threads": threads}
    known |= _lengths(row.text("context"), note)
    budget = None if budget_gb is None else round(budget_gb * _unit(budget_gb, note))
    if row.text("kind") == "in_ram":
        return known | {"runtime": "resident", "ram_bytes": PLENTY_BYTES}
    return known | _past_ram(engine, note, budget) | _drive(row)


def _unit(budget_gb: float, note: str) -> int:
    """Bytes in a unit of the budget: ``limit 8G`` is a setting of the kernel, which counts in GiB."""
    return 1024**3 if re.search(rf"\blimit {budget_gb:g}G\b", note) else 10**9


def _drive(row: Row) -> dict[str, Any]:
    """What the source says its drive reads: the device file may know a faster one, never does a run read faster."""
    drive = row.positive("storage_read_MBps")
    return {} if drive is None else {"read_limit_bytes_per_s": round(drive * 1e6)}


def _lengths(context: str, note: str) -> dict[str, Any]:
    """Prompt, generated tokens and KV cells. A ``ppN/tgM`` benchmark generates from an empty context."""
    known: dict[str, Any] = {}
    if match := re.search(r"n_ctx (\d+)", context):
        known["context_tokens"] = int(match[1])
    if match := re.search(r"\bpp\d+\s*/\s*tg(\d+)", context):
        known |= {"prompt_tokens": 1, "n_tokens": int(match[1])}
    elif match := re.fullmatch(r"(\d+)\+(\d+)", context):
        known |= {"prompt_tokens": int(match[1]), "n_tokens": int(match[2])}
    elif match := re.search(r"prompt (\d+)|(\d+)-token prompt", context):
        known["prompt_tokens"] = int(match[1] or match[2])
        if generated := re.search(r"(\d+) tokens", context):
            known["n_tokens"] = int(generated[1])
    if match := re.search(r"(\d+)-tok(?:en)? greedy decode", note):
        known["n_tokens"] = int(match[1])
    return known


def _past_ram(engine: str, note: str, budget_bytes: int | None) -> dict[str, Any]:
    """How the weights come from storage."""
    if re.search(r"\d+ ?% of FFN weights|% FFN offload", note):
        raise Unsupported("the RAM limit is stated as a share of FFN weights, which no Scenario field expresses")
    if engine.startswith("bmoe"):
        return _expert_streaming(note, budget_bytes)
    if engine.lower().startswith(_EXPERT_STREAMERS):
        return _expert_cache(engine, note, budget_bytes)
    if "mmap" in engine or engine.startswith((*_LLAMA_CPP, "LiteRT")):
        return {"runtime": "mmap"} | ({} if budget_bytes is None else {"ram_bytes": budget_bytes})
    raise Unsupported(f"how {engine or 'an unnamed engine'} reads its weights is not known to simio")


def _expert_cache(engine: str, note: str, budget_bytes: int | None) -> dict[str, Any]:
    """colibrì and WASTE: the budget is for everything, unless the source says it is the cache's.

    WASTE reads ahead unless it is said to read synchronously, and counts in GiB; colibrì computes when the experts of
    a layer have come, unless ``PIPE`` is said to be on.
    """
    waste = engine.lower().startswith("waste")
    reads_ahead = "synchronous" not in engine if waste else bool(re.search(r"\bPIPE(?!=0)|URING", f"{engine} {note}"))
    known: dict[str, Any] = {"runtime": "stream", "pinned_fraction": 1.0, "prefetch_depth": int(reads_ahead)}
    known["cache_policy"] = "lru"
    if budget_bytes is None:
        return known
    if waste:
        budget_bytes = round(budget_bytes / 1e9 * 1024**3)
    if "expert-cache budget" in note or re.search(r"\(cache [\d.]+ GB", engine):
        return known | {"ram_bytes": PLENTY_BYTES, "cache_bytes": budget_bytes}
    return known | {"ram_bytes": budget_bytes}


def _expert_streaming(note: str, budget_bytes: int | None) -> dict[str, Any]:
    """BigMoeOnEdge: dense weights are mapped, experts come through an LRU cache; ``lanes`` are reads in flight.

    Its RAM budget is the expert cache's. Source: docs/benchmarks.md of github.com/Helldez/BigMoeOnEdge.
    """
    if re.search(r"\bmmap\b", note):
        return {"runtime": "mmap"}
    cache = re.search(r"cache (?:capped )?(\d+)(?: MiB)?", note)
    cache_bytes = int(cache[1]) * MIB if cache else budget_bytes or 0
    overlaps = "overlap" in note and "no overlap" not in note
    known: dict[str, Any] = {"runtime": "stream", "dense_weights": "mmap", "expert_overlap": overlaps}
    known |= {"cache_policy": "lru", "cache_bytes": cache_bytes} if cache_bytes else {"cache_policy": "none"}
    if match := re.search(r"(\d+) lanes", note):
        known["queue_depth"] = int(match[1])
    if match := re.search(r"experts_per_tok=(\d+)", note):
        known["top_k"] = int(match[1])
    return known
