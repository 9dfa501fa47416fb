"""What can be chosen for each tensor, from the records of a compressibility study: sizes, rates and quality costs."""

from __future__ import annotations

from dataclasses import dataclass

from simio.errors import UsageError
from simio.plan.layout import head_names, idle_names
from simio.records.model import Model, Tensor
from simio.records.weight_types import WEIGHT_TYPES
from simio.study.study_file import Record


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
    measure: str  # what costs are counted in: a key of records
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
            raise UsageError(f"the study has no quantizer '{quant}' with {self.measure}", f"it has {known}")
        return sum(cost or 0.0 for cost in found)


def multiplied(model: Model) -> list[Tensor]:
    """The matrices that every token multiplies, in file order."""
    heads, idle = head_names(model), idle_names(model)
    return [
        t
        for t in model.tensors
        if len(t.shape) > 1 and t.name not in idle and (t.role != "embedding" or t.name in heads)
    ]


def option_of(record: Record, tensor: Tensor, measure: str, n_weights: int) -> Option:
    """What ``record`` offers to ``tensor``, one of matrices of ``n_weights`` weights together."""
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
    """What ``record`` costs in ``measure``: KL adds up, relative errors are weighted by the ``share`` of weights."""
    value: float = getattr(record, measure)
    return max(0.0, value if measure == "kl" else value * share)


def as_stored(tensor: Tensor) -> Option:
    """``tensor`` as its file has it."""
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
