"""llama-bench's JSON as rates of a device: generation → dequantize + GEMV of a core, prompt processing → flop/s.

The weights must have been in RAM. What a token reads is the model less its embedding table; where the model's file is
not at hand, the whole model is taken and the bounds reach down to what a table may take.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simio.errors import SimioError
from simio.importers.llama_bench import Entry, LlamaBench, entries
from simio.records.weight_types import WEIGHT_TYPES

#: The embedding table is at most about this share of a model that keeps it apart from its head.
TABLE_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class LlamaRate:
    """One test. ``rates``: of each repetition, all threads together."""

    kind: str  # "gemv" [bytes/s] or "prefill" [flop/s]
    weights: str  # class of the model's main type
    n_threads: int
    rates: tuple[float, ...]
    is_exact: bool  # the bytes a token reads are known, not estimated
    name: str


def read(path: Path) -> tuple[list[LlamaRate], list[str]]:
    """The rates in one file, and why other tests give none. Raises ``MeasurementFileError``."""
    runs = LlamaBench.read(path)
    rates: list[LlamaRate] = []
    skipped: list[str] = []
    for one, run in zip(entries(path), runs, strict=True):
        reason = run.unsupported or _unusable(one)
        if reason:
            skipped.append(f"{run.run_id}: {reason}")
        else:
            rates.append(_rate(one))
    return rates, skipped


def _unusable(one: Entry) -> str:
    if weight_class(one.text_of("model_type")) is None:
        return f"the weight type of '{one.text_of('model_type')}' is not known"
    if re.search(r"\bA\d|\d+x\d|MoE", one.text_of("model_type")):
        return "a mixture of experts: llama-bench does not say what a token reads"
    if one.count_of("n_depth", 0):
        return "measured behind a filled context"
    return ""


def weight_class(model_type: str) -> str | None:
    """The class of ``llama 8B Q4_K - Medium``: the main type, in the last words; nothing where it is unknown."""
    for word in reversed(re.findall(r"[A-Z][A-Z0-9_]+", model_type)):
        for name in (word, f"{word}_0"):
            if name in WEIGHT_TYPES:
                return WEIGHT_TYPES[name].gemv_class
    return None


def _rate(one: Entry) -> LlamaRate:
    n_gen, n_prompt = one.count_of("n_gen"), one.count_of("n_prompt")
    samples = one.fields.get("samples_ns") or [one.number_of("avg_ns", 1)]
    model = weight_class(one.text_of("model_type")) or ""
    if n_gen:
        table = _table_bytes(one)
        work = n_gen * (one.number_of("model_size", 1) - (table or 0))
        kind, is_exact = "gemv", table is not None
    else:
        work, kind, is_exact = 2.0 * n_prompt * one.number_of("model_n_params", 1), "prefill", False
    rates = tuple(work / (float(ns) / 1e9) for ns in samples)
    return LlamaRate(kind, model, one.count_of("n_threads", least=1), rates, is_exact, one.path.name)


def _table_bytes(one: Entry) -> int | None:
    """Bytes of the embedding table no token reads whole; nothing where the model's file is not here."""
    name = one.text_of("model_filename")
    for path in (Path(name), one.path.parent / Path(name).name) if name else ():
        if path.is_file():
            from simio.formats.opening import open_model

            try:
                model = open_model(path)
            except SimioError:  # not the file it was: estimate instead
                return None
            has_head = any(t.role == "head" and len(t.shape) > 1 for t in model.tensors)
            return sum(t.n_bytes for t in model.tensors if t.role == "embedding") if has_head else 0
    return None


def by_class(rates: Sequence[LlamaRate], kind: str) -> dict[str, list[LlamaRate]]:
    """The rates of ``kind`` of each class, fewest threads first."""
    found: dict[str, list[LlamaRate]] = {}
    for rate in sorted(rates, key=lambda rate: rate.n_threads):
        if rate.kind == kind:
            found.setdefault(rate.weights, []).append(rate)
    return found
