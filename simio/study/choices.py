"""What can be chosen for each tensor, from the rows of ``simio study compressibility``: sizes, rates and quality costs.

A study of another model gives each tensor the means of its role: so real weights of a small model stand for those of a
large one of which only the shapes are known.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simio.errors import UsageError
from simio.plan.layout import head_names, idle_names
from simio.records.model import Model, Tensor
from simio.records.weight_types import WEIGHT_TYPES

#: What a quality budget can be counted in; see :func:`costed`.
MEASURES = ("weight_error", "output_error", "kl")

_HINT = "make it with: simio study compressibility MODEL --json > study.json"


@dataclass(frozen=True, slots=True)
class Record:
    """One tensor under one quantizer and codec.

    ``raw_bytes`` of all its streams become ``stored_bytes``; ``compressed_share`` of them lies in chunks that shrank.
    ``relative_rate`` is their decompression rate ÷ that of the codec on the reference buffer, same machine. Errors are
    ``‖W − Wq‖² / ‖W‖²`` and ``‖X(W − Wq)ᵀ‖² / ‖XWᵀ‖²``, ``kl`` what this tensor adds [nats/token]; None: not measured.
    """

    tensor: str
    role: str
    quant: str
    codec: str
    n_weights: int
    raw_bytes: int
    stored_bytes: int
    compressed_share: float = 1.0
    relative_rate: float = 1.0
    weight_error: float | None = None
    output_error: float | None = None
    kl: float | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A quantizer and a codec for one tensor; ``dtype`` (a key of ``WEIGHT_TYPES``) says which kernel multiplies it."""

    quant: str
    codec: str
    dtype: str
    raw_bytes: int
    stored_bytes: int
    compressed_share: float
    relative_rate: float
    cost: float

    @property
    def label(self) -> tuple[str, str]:
        """Quantizer and codec."""
        return self.quant, self.codec


@dataclass(frozen=True, slots=True)
class TensorChoice:
    """A tensor that every token multiplies: ``kept`` as it is stored, or one of ``options``."""

    tensor: Tensor
    kept: Option
    options: tuple[Option, ...]

    def under(self, label: tuple[str, str]) -> Option:
        """The option of ``label``; as stored where the layout does not take this tensor."""
        return next((option for option in self.options if option.label == label), self.kept)


@dataclass(frozen=True, slots=True)
class ChoiceTable:
    """All choices of a model; other tensors (norms, biases, embedding rows) stay as they are."""

    model: Model
    choices: tuple[TensorChoice, ...]
    measure: str  # one of MEASURES
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[tuple[str, str]]:
        """Every pair of quantizer and codec, in the order of the study."""
        return list(dict.fromkeys(option.label for choice in self.choices for option in choice.options))

    def cost_of(self, quant: str) -> float:
        """The quality cost of ``quant`` everywhere; raises ``UsageError`` where the study does not have it."""
        found = [next((o.cost for o in c.options if o.quant == quant), None) for c in self.choices]
        if all(cost is None for cost in found):
            known = ", ".join(dict.fromkeys(q for q, _ in self.labels))
            raise UsageError(f"the study has no quantizer '{quant}'", f"it has {known}")
        return sum(cost or 0.0 for cost in found)


def read_study(path: Path) -> list[Record]:
    """The records in the JSON (``rows`` with ``tensors``) or Parquet (a row per tensor) of the compressibility study.

    Raises ``UsageError`` for a file that is none.
    """
    try:
        if path.suffix == ".parquet":
            import pandas  # type: ignore[import-untyped,unused-ignore]

            rows: list[dict[str, Any]] = pandas.read_parquet(path).to_dict("records")
            return [_record(row, row) for row in rows]
        return records_of(json.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", _HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = str(error)[:80] if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise UsageError(f"{path}: not a compressibility study ({what})", _HINT) from error


def records_of(document: dict[str, Any]) -> list[Record]:
    """The records of a study's JSON document.

    The KL divergence is measured of a layout as a whole. It is shared out over the layout's tensors in proportion to
    weights × output error (weight error where that was not measured), so that a layout used everywhere costs what was
    measured: to second order the divergence is a sum of squared perturbations (HAWQ-V2, arXiv 1911.03852).
    """
    found: list[Record] = []
    kl_of = {row["quant"]: row["kl"] for row in document["rows"] if row.get("kl") is not None}  # no codec changes it
    for row in document["rows"]:
        own = [_record(row, tensor) for tensor in row["tensors"]]
        total = sum(_error(r) * r.n_weights for r in own)
        kl = kl_of.get(row["quant"])
        if kl is not None:
            own = [r if r.kl is not None else replace(r, kl=kl * _share_of_error(r, total)) for r in own]
        found += own
    return found


def _share_of_error(record: Record, total: float) -> float:
    return _error(record) * record.n_weights / total if total > 0 else 0.0


def _record(row: dict[str, Any], tensor: dict[str, Any]) -> Record:
    rate = _number(row.get("relative_rate"))
    return Record(
        tensor=str(tensor["tensor"]),
        role=str(tensor["role"]),
        quant=str(row["quant"]),
        codec=str(row["codec"]),
        n_weights=int(tensor["n_weights"]),
        raw_bytes=int(tensor["raw_bytes"]),
        stored_bytes=int(tensor["stored_bytes"]),
        compressed_share=float(tensor.get("compressed_share", 1.0)),
        relative_rate=1.0 if rate is None else rate,
        weight_error=_number(tensor.get("weight_mse")),
        output_error=_number(tensor.get("output_error")),
        kl=_number(tensor.get("kl")) if tensor is not row else None,
    )


def _number(value: Any) -> float | None:
    """Absent numbers are None in JSON and NaN in Parquet."""
    return None if value is None or math.isnan(value) else float(value)


def _error(record: Record) -> float:
    return record.output_error if record.output_error is not None else record.weight_error or 0.0


def table(model: Model, records: Iterable[Record], measure: str) -> ChoiceTable:
    """The choices of ``model``; raises ``UsageError`` where ``measure`` was not measured or nothing fits the model."""
    if measure not in MEASURES:
        raise UsageError(f"'{measure}' is no measure of quality", f"use one of {', '.join(MEASURES)}")
    if any(t.role == "expert" for t in model.tensors):
        raise UsageError(f"{model.name} has routed experts", "joint plans are for dense models")
    records = list(records)
    if all(getattr(r, measure) is None for r in records):
        other = next((m for m in MEASURES if any(getattr(r, m) is not None for r in records)), None)
        hint = f"use --measure {other}, or run it with --quality" if other else "run it with --quality"
        raise UsageError(f"the study has no {measure}", hint)
    tensors = multiplied(model)
    if not tensors:
        raise UsageError(f"{model.name} has no matrices", "give a decoder")
    n_weights = sum(t.n_weights for t in tensors)
    by_name = {(r.tensor, r.n_weights, r.quant, r.codec): r for r in records}
    by_role = dict(_by_role(records))
    labels = list(dict.fromkeys((r.quant, r.codec) for r in records))
    known = {(r.tensor, r.n_weights) for r in records}
    is_own = any((t.name, t.n_weights) in known for t in tensors)
    choices, borrowed = [], 0
    for tensor in tensors:
        own = [by_name.get((tensor.name, tensor.n_weights, *label)) for label in labels]
        if not is_own:
            own = [_scaled(by_role.get((tensor.role, *label)), tensor) for label in labels]
            borrowed += any(own)
        options = tuple(_option(r, tensor, measure, n_weights) for r in own if r is not None)
        choices.append(TensorChoice(tensor, as_stored(tensor), options))
    if not any(choice.options for choice in choices):
        raise UsageError(f"the study has no tensor of {model.name}, nor of its roles", "give the study of this model")
    notes = (f"{borrowed} of {len(choices)} tensors take the means of their role in the study",) if borrowed else ()
    return ChoiceTable(model, tuple(choices), measure, (*notes, *_not_everywhere(choices)))


def _not_everywhere(choices: list[TensorChoice]) -> list[str]:
    """A note on every quantizer that does not take all the tensors (rows that are no whole groups, say)."""
    n_taken = Counter(quant for choice in choices for quant in {option.quant for option in choice.options})
    return [
        f"{quant} takes {n} of {len(choices)} tensors in the study; the others stay as they are stored beside it"
        for quant, n in sorted(n_taken.items())
        if n < len(choices)
    ]


def multiplied(model: Model) -> list[Tensor]:
    """The matrices that every token multiplies, in file order."""
    heads, idle = head_names(model), idle_names(model)
    return [
        t
        for t in model.tensors
        if len(t.shape) > 1 and t.name not in idle and (t.role != "embedding" or t.name in heads)
    ]


def _by_role(records: list[Record]) -> Iterator[tuple[tuple[str, str, str], Record]]:
    """Sums of bytes and means of errors by role, quantizer and codec; an embedding also stands for a head."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for r in records:
        groups.setdefault((r.role, r.quant, r.codec), []).append(r)
    for (role, quant, codec), group in list(groups.items()):
        other = {"embedding": "head", "head": "embedding"}.get(role)
        if other is not None:
            groups.setdefault((other, quant, codec), group)
    for key, group in groups.items():
        n = sum(r.n_weights for r in group)
        raw = sum(r.raw_bytes for r in group)
        share = sum(r.compressed_share * r.raw_bytes for r in group) / max(1, raw)
        yield (
            key,
            replace(
                group[0],
                n_weights=n,
                raw_bytes=raw,
                stored_bytes=sum(r.stored_bytes for r in group),
                compressed_share=share,
                weight_error=_mean([(r.weight_error, r.n_weights) for r in group]),
                output_error=_mean([(r.output_error, r.n_weights) for r in group]),
                kl=None if any(r.kl is None for r in group) else sum(r.kl or 0.0 for r in group),
            ),
        )


def _mean(values: list[tuple[float | None, int]]) -> float | None:
    known = [(value, n) for value, n in values if value is not None]
    return sum(value * n for value, n in known) / sum(n for _, n in known) if known else None


def _scaled(role: Record | None, tensor: Tensor) -> Record | None:
    """``role``'s means for as many weights as ``tensor`` has; KL by the share of weights."""
    if role is None:
        return None
    share = tensor.n_weights / role.n_weights
    raw = -(-role.raw_bytes * tensor.n_weights // role.n_weights)
    stored = min(raw, -(-role.stored_bytes * tensor.n_weights // role.n_weights))
    kl = None if role.kl is None else role.kl * share
    return replace(role, tensor=tensor.name, n_weights=tensor.n_weights, raw_bytes=raw, stored_bytes=stored, kl=kl)


def _option(record: Record, tensor: Tensor, measure: str, n_weights: int) -> Option:
    return Option(
        quant=record.quant,
        codec=record.codec,
        dtype=dtype_of(record.quant, 8 * record.raw_bytes / record.n_weights),
        raw_bytes=record.raw_bytes,
        stored_bytes=record.stored_bytes,
        compressed_share=record.compressed_share,
        relative_rate=record.relative_rate,
        cost=costed(record, measure, tensor.n_weights / n_weights),
    )


def costed(record: Record, measure: str, share: float) -> float:
    """What ``record`` costs in ``measure``: KL adds up as it is, relative errors weighted by the ``share`` of weights.

    Raises ``UsageError`` where this tensor was not measured.
    """
    value: float | None = getattr(record, measure)
    if value is None:
        raise UsageError(f"{record.tensor} has no {measure} under {record.quant}", "measure all tensors alike")
    return max(0.0, value if measure == "kl" else value * share)


def as_stored(tensor: Tensor) -> Option:
    """A tensor left as the model has it, raw."""
    return Option(tensor.dtype.lower(), "raw", tensor.dtype, tensor.n_bytes, tensor.n_bytes, 0.0, 1.0, 0.0)


#: Layouts without a stored type of their own, by the head of their name.
_KERNELS = {"nf4": "BNB_NF4", "fp4": "BNB_FP4", "nvfp4": "NVFP4", "mxfp4": "MXFP4"}


def dtype_of(quant: str, bits_per_weight: float) -> str:
    """The stored type whose kernel multiplies ``quant``: its own, or integers about as wide.

    >>> dtype_of("q4_k", 4.5), dtype_of("int4:group32", 4.5), dtype_of("squeezellm3", 3.3)
    ('Q4_K', 'INT4', 'INT4')
    """
    head = quant.partition(":")[0]
    for name in (_KERNELS.get(head, ""), head.upper()):
        if name in WEIGHT_TYPES:
            return name
    return "F16" if bits_per_weight > 10 else "INT8" if bits_per_weight > 5.5 else "INT4"
