"""Every choice of one prediction, and the only configuration object. Saved, it repeats a result bit for bit."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from simio.errors import UnknownNameError, UsageError

RUNTIMES = ("auto", "resident", "mmap", "stream")
CACHE_FORMS = ("raw", "compressed")
#: Read into buffers of the app's own; mapped and left to the page cache; mapped and read once beforehand.
DENSE_WEIGHTS = ("anon", "mmap", "warm")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to predict. ``None`` means: let simio choose, and say in the prediction what it chose.

    A sweep is ``dataclasses.replace(scenario, queue_depth=…)``.
    """

    device: str  # catalogue id, or path of a device file
    model: str  # path of a model or stored profile, or preset "name:quant"
    runtime: str = "auto"  # one of RUNTIMES
    codec: str | None = None  # default: a stored profile's, else raw
    ram_bytes: int | None = None  # what the app may use; default: the device's usable RAM
    available_bytes: int | None = None  # RAM found free at the start (MemAvailable); more may be taken from other apps
    prompt_tokens: int = 128
    batch_tokens: int = 512  # prompt tokens per prefill pass (llama.cpp's n_ubatch)
    n_tokens: int = 64  # generated tokens
    context_tokens: int | None = None  # KV cells allocated; default prompt + generated
    kv_bytes_per_value: float = 2.0
    n_threads: int | None = None  # compute threads; default: the device's
    n_workers: int | None = None  # decompression workers; default: spare cores, at least half
    queue_depth: int | None = None  # reads in flight; default: the device's best
    read_bytes: int | None = None  # size of one read request; default 4 MiB
    chunk_bytes: int | None = None  # unit compressed; default: a stored profile's, else 1 MiB
    prefetch_depth: int | None = None  # steps read ahead of compute; 0 = serial; default 1
    staging_bytes: int | None = None  # buffers between flash and compute; default: as much as the prefetch can use
    pinned_bytes: int | None = None  # weights kept in RAM under `stream`; default: whatever is free
    pinned_fraction: float | None = None  # the same as a share of the dense weights
    cache_policy: str | None = None  # for weights that are not pinned; default: lru for experts, none for dense
    cache_bytes: int | None = None
    cache_form: str | None = None  # how pinned and cached weights are held; default raw
    read_limit_bytes_per_s: float | None = None  # storage throttled to this rate, as a blkio cgroup does
    read_ahead_bytes: int | None = None  # kernel read-ahead under `mmap` (read_ahead_kb); default: the device's
    top_k: int | None = None  # experts per token; default: the model's
    routing: str | None = None  # file of a routing trace to replay; default: seeded draws
    expert_overlap: bool | None = None  # experts are multiplied as their slices arrive; default: yes with a cache
    contiguous_experts: bool | None = None  # the slices of an expert lie together and are read at once; default: no
    expert_prefetch: int | None = None  # per layer, experts of the last token read again ahead of the router; default 0
    speculative_gate: bool | None = None  # the router of the next layer is guessed early and its guesses read
    drop_cold: float | None = None  # share of the router's weight below which experts not in RAM are left out
    dense_weights: str | None = None  # where a streamed mixture keeps the rest, one of DENSE_WEIGHTS; default anon
    entry_temperature_c: float | None = None  # of the CPU when the run starts; default: cool
    sustained_s: float | None = None  # predict a run that comes after this long a load; default: none before
    seed: int = 0
    draws: int = 200  # Monte Carlo draws behind the interval

    def __post_init__(self) -> None:
        """Refuse values that mean nothing. Raises ``UsageError`` or ``UnknownNameError``."""
        if self.runtime not in RUNTIMES:
            raise UnknownNameError("runtime", self.runtime, RUNTIMES)
        if self.cache_form is not None and self.cache_form not in CACHE_FORMS:
            raise UnknownNameError("cache form", self.cache_form, CACHE_FORMS)
        if self.dense_weights is not None and self.dense_weights not in DENSE_WEIGHTS:
            raise UnknownNameError("way to keep dense weights", self.dense_weights, DENSE_WEIGHTS)
        if self.pinned_fraction is not None and not 0 <= self.pinned_fraction <= 1:
            raise UsageError(f"pinned_fraction is {self.pinned_fraction}", "give a share between 0 and 1")
        if self.pinned_fraction is not None and self.pinned_bytes is not None:
            raise UsageError("both pinned_bytes and pinned_fraction are given", "give one of them")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not math.isfinite(value) or value < least:
                raise UsageError(f"{name} is {value}", f"give at least {least}")
            if value > _MOST.get(name, _MOST_BYTES):
                raise UsageError(f"{name} is {value:.4g}", f"give at most {_MOST.get(name, _MOST_BYTES)}")
        if self.context_tokens is not None and self.context_tokens < self.prompt_tokens + self.n_tokens:
            raise UsageError(
                f"context_tokens is {self.context_tokens}, below the {self.prompt_tokens} prompt tokens and "
                f"{self.n_tokens} generated ones",
                "give a longer context, or leave it out",
            )
        if self.cache_policy == "none" and self.cache_bytes:
            raise UsageError("cache_bytes is given, but the cache policy is none", "leave one of them out")

    def to_json(self) -> dict[str, Any]:
        """All fields that are set, by name."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    @classmethod
    def of(cls, scenario: Scenario | None = None, **changed: Any) -> Scenario:
        """``scenario`` with some fields changed, or a new one of ``changed`` alone; raises as ``from_json`` does.

        >>> Scenario.of(device="pixel8", model="llama-3.2-1b:q4_0", n_tokens=8).n_tokens
        8
        """
        if scenario is not None and not isinstance(scenario, cls):
            raise UsageError(f"{scenario!r} is not a Scenario", 'name fields: device="pixel8", model="…"')
        saved = {} if scenario is None else scenario.to_json()
        if {"pinned_bytes", "pinned_fraction"} & set(changed):
            saved = {k: v for k, v in saved.items() if k not in ("pinned_bytes", "pinned_fraction")}
        given = saved | changed
        return cls.from_json({name: value for name, value in given.items() if value is not None})

    @classmethod
    def from_json(cls, table: dict[str, Any], where: str = "scenario") -> Scenario:
        """Build from a mapping; raises ``UsageError`` naming an unknown key, a missing one or a wrong type."""
        known = {f.name: str(f.type) for f in fields(cls)}
        for key, value in table.items():
            if key not in known:
                error = UnknownNameError("key", key, known)
                raise UsageError(f"{where}: {error.message}", error.hint)
            if not _fits(value, known[key]):
                raise UsageError(
                    f"{where}: {key} = {value!r} is not of type {known[key]}", "see `simio predict --help`"
                )
        for key in ("device", "model"):
            if key not in table:
                raise UsageError(f"{where}: no {key}", f'add {key} = "…"')
        return cls(**table)


_LEAST = {
    "ram_bytes": 1, "prompt_tokens": 1, "batch_tokens": 1, "n_tokens": 2, "context_tokens": 1,
    "kv_bytes_per_value": 0.0625,
    "n_threads": 1, "n_workers": 1, "queue_depth": 1, "read_bytes": 4096, "chunk_bytes": 4096, "prefetch_depth": 0,
    "staging_bytes": 1, "pinned_bytes": 0, "cache_bytes": 0, "read_limit_bytes_per_s": 1.0,
    "read_ahead_bytes": 4096, "top_k": 1, "seed": 0, "draws": 0, "expert_prefetch": 0, "drop_cold": 0.0,
    "available_bytes": 1, "entry_temperature_c": -40.0, "sustained_s": 0.0,
}  # fmt: skip

#: Beyond these a run means nothing and would not end.
_MOST_BYTES = 1 << 50
_MOST = {
    "prompt_tokens": 10**6, "batch_tokens": 10**6, "n_tokens": 10**6, "context_tokens": 10**8, "n_threads": 10**4,
    "kv_bytes_per_value": 16, "n_workers": 10**4, "queue_depth": 10**4, "prefetch_depth": 10**4, "top_k": 10**4,
    "seed": 1 << 63, "draws": 10**5, "expert_prefetch": 10**4, "drop_cold": 1.0, "entry_temperature_c": 150.0,
    "sustained_s": 10**7,
}  # fmt: skip

#: Choices that only explicit reads have; asking for one asks for the runtime ``stream``.
STREAM_ONLY = ("prefetch_depth", "staging_bytes", "pinned_bytes", "pinned_fraction", "cache_policy", "cache_bytes",
               "cache_form", "expert_overlap", "contiguous_experts", "expert_prefetch", "speculative_gate",
               "drop_cold", "dense_weights")  # fmt: skip
#: Choices that only a mixture of experts has.
MOE_ONLY = ("top_k", "routing", "expert_overlap", "contiguous_experts", "expert_prefetch", "speculative_gate",
            "drop_cold", "dense_weights")  # fmt: skip
#: Choices that only a mapped file has.
MMAP_ONLY = ("read_ahead_bytes",)
#: Choices that mean nothing to a mapped file.
NOT_MMAP = (*STREAM_ONLY, "queue_depth", "read_bytes", "n_workers")


def _fits(value: Any, annotation: str) -> bool:
    if isinstance(value, bool):
        return annotation.startswith("bool")
    if annotation.startswith("bool"):
        return False
    if "float" in annotation:
        return isinstance(value, (int, float))
    return isinstance(value, int if annotation.startswith("int") else str)
