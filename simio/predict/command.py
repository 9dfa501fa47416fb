"""A scenario as the command that asks for it: what suggestions print and saved scenarios say."""

from __future__ import annotations

import shlex
from dataclasses import fields

from simio.records.scenario import Scenario
from simio.units import GB, MB, MIB

#: Scenario field → option of ``simio predict``. Sizes end in ``_bytes``.
OPTIONS = {
    "device": "--device", "model": "--model", "runtime": "--runtime", "codec": "--codec", "ram_bytes": "--ram",
    "prompt_tokens": "--prompt", "batch_tokens": "--batch", "n_tokens": "--tokens", "context_tokens": "--context",
    "kv_bytes_per_value": "--kv-bytes", "n_threads": "--threads", "n_workers": "--workers",
    "queue_depth": "--queue-depth", "read_bytes": "--read-size", "chunk_bytes": "--chunk-size",
    "prefetch_depth": "--prefetch", "staging_bytes": "--staging", "pinned_bytes": "--pin",
    "pinned_fraction": "--pin", "cache_policy": "--cache", "cache_bytes": "--cache-size", "cache_form": "--hold",
    "read_limit_bytes_per_s": "--read-limit", "read_ahead_bytes": "--read-ahead",
    "top_k": "--top-k", "available_bytes": "--available", "routing": "--routing",
    "expert_overlap": "--expert-overlap", "contiguous_experts": "--contiguous-experts",
    "expert_prefetch": "--expert-prefetch",
    "speculative_gate": "--speculative-gate", "drop_cold": "--drop-cold", "dense_weights": "--dense-weights",
    "entry_temperature_c": "--entry-temperature", "sustained_s": "--sustained", "seed": "--seed", "draws": "--draws",
}  # fmt: skip

#: Fields whose options are sizes with a unit.
SIZES = {"ram_bytes", "read_bytes", "chunk_bytes", "staging_bytes", "pinned_bytes", "cache_bytes", "read_ahead_bytes",
         "available_bytes"}  # fmt: skip


def command(scenario: Scenario) -> str:
    """``simio predict --device … --model …`` with every option that differs from its default."""
    words = ["simio", "predict"]
    for field in fields(Scenario):
        value = getattr(scenario, field.name)
        if value is not None and value != field.default:
            if isinstance(value, bool):
                words.append(OPTIONS[field.name] if value else OPTIONS[field.name].replace("--", "--no-", 1))
            else:
                words += [OPTIONS[field.name], _text(field.name, value)]
    return shlex.join(words)


def _text(name: str, value: float | str) -> str:
    if name == "pinned_fraction":
        return f"{100 * float(value):.15g}%"
    if name == "read_limit_bytes_per_s":
        return f"{float(value):.15g}B/s"
    if name not in SIZES:
        return str(value)
    n_bytes = int(value)
    for unit, size in (("GB", GB), ("MiB", MIB), ("MB", MB)):
        if n_bytes and n_bytes % size == 0:
            return f"{n_bytes // size}{unit}"
    return f"{n_bytes}B"
