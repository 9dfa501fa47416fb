"""What a forward pass must know of a model beyond its tensors, from the model's own metadata.

Keys of GGUF are those of ``gguf.constants.Keys`` and their defaults those of llama.cpp's ``llama-hparams``; keys of
``config.json`` and their defaults are those of the configuration classes of the ``transformers`` library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from simio.errors import ModelFileError, UnknownNameError, UsageError
from simio.formats.damage import damaged
from simio.formats.gguf_header import read_metadata
from simio.formats.weights import read_bytes
from simio.records.model import Architecture, Model
from simio.runtime.scratch import FloatArray

#: ``Architecture.family`` → whether GGUF files of it rotate neighbours (``LLAMA_ROPE_TYPE_NORM``) or halves (``NEOX``).
FAMILIES = {"llama": "neighbours", "qwen2": "halves", "qwen3": "halves", "qwen3moe": "halves"}
#: ``rms_norm_eps`` or ``layer_norm_epsilon`` where ``config.json`` states none; 1e-6 for the other families.
_NORM_EPS = {"gpt2": 1e-5, "bitnet": 1e-5}
#: Families whose rotation the transformers library scales by default, or not at all.
_SCALINGS = ("none", "linear", "llama3")


class Source(Protocol):
    """The files a model came in: a ``simio.container`` container, or :class:`Files`."""

    def read_source(self, file: int, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` from ``start`` of a weights file."""

    def read_file(self, name: str) -> bytes:
        """A file such as ``config.json`` beside the weights; raises ``UnknownNameError`` when there is none."""


class Files:
    """The source of a model that lies in plain files."""

    def __init__(self, model: Model) -> None:
        self._files = [Path(file) for file in model.files]

    def read_source(self, file: int, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` from ``start`` of a weights file."""
        return read_bytes(self._files[file], start, n_bytes)

    def read_file(self, name: str) -> bytes:
        """A file beside the weights; raises ``UnknownNameError`` when there is none."""
        path = self._files[0].parent / name
        if not path.is_file():
            raise UnknownNameError("file", name, [p.name for p in path.parent.iterdir() if p.is_file()])
        return read_bytes(path, 0, path.stat().st_size)


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The shape of a decoder. ``head_dim`` values a head, of which ``n_rotated`` carry the position."""

    family: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    context_length: int  # tokens; 0 where the model states none
    norm_eps: float
    rope_base: float
    rope_style: str  # "neighbours" (2i, 2i+1), "halves" (i, i + n_rotated/2) or "none" (learned positions)
    n_rotated: int
    rope_scaling: tuple[float, ...] = ()  # () none, (factor,) linear, (factor, low, high, context) as Llama 3
    n_experts: int = 0
    n_experts_used: int = 0
    normalize_experts: bool = True  # the weights of the chosen experts sum to 1

    def rope_frequencies(self) -> FloatArray:
        """Angle per position of each rotated pair, ``(n_rotated / 2,)`` [rad]: RoFormer, arXiv 2104.09864, eq. 15."""
        frequencies = self.rope_base ** (-np.arange(0, self.n_rotated, 2) / self.n_rotated)
        if len(self.rope_scaling) == 1:
            frequencies = frequencies / self.rope_scaling[0]
        elif self.rope_scaling:
            frequencies = _llama3(frequencies, *self.rope_scaling)
        return frequencies.astype(np.float32)


def hyperparameters(model: Model, source: Source, families: Mapping[str, str] = FAMILIES) -> Hyperparameters:
    """The hyper-parameters of ``model``, read from its header or its ``config.json``.

    ``families`` are those the caller can compute, with the ``rope_style`` of their GGUF files. Raises ``UsageError``
    for an architecture that cannot be run, naming it and those that can, and ``ModelFileError`` where something needed
    is not stated.
    """
    family = model.architecture.family
    if family not in families:
        raise UsageError(
            f"{model.name}: architecture '{family or 'unknown'}' cannot be run",
            f"these can: {', '.join(sorted(families))} (Mistral and Mixtral are llama)",
        )
    if model.format == "gguf":
        return _from_gguf(model, gguf_metadata(model, source), families[family])
    if model.format == "llama2c":
        return _checked(model, _of(model.architecture, 1e-5, 10000.0, "neighbours", 0))
    return _from_config(model, source, "none" if families[family] == "none" else "halves")


def gguf_metadata(model: Model, source: Source, longest: int = 4096) -> dict[str, Any]:
    """The metadata of a GGUF model; arrays longer than ``longest`` come without their items."""
    n_bytes = min(s.offset for t in model.tensors for s in t.streams if s.file_index == 0)
    return read_metadata(Path(model.files[0]), source.read_source(0, 0, n_bytes), longest)


def _of(a: Architecture, norm_eps: float, rope_base: float, style: str, n_rotated: int, **more: Any) -> Hyperparameters:
    return Hyperparameters(
        a.family, a.n_layers, a.d_model, a.n_heads, a.n_kv_heads, a.head_dim, a.d_ff, a.vocab_size, a.context_length,
        norm_eps, rope_base, style, n_rotated or a.head_dim,
        n_experts=a.n_experts, n_experts_used=a.n_experts_used, **more,
    )  # fmt: skip


def _checked(model: Model, found: Hyperparameters) -> Hyperparameters:
    """Refuse what a forward pass would stumble over."""
    named = ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "vocab_size")
    missing = [name for name in named if not getattr(found, name)]
    if missing:
        raise ModelFileError(
            f"{model.name}: does not state {', '.join(missing)}", "keep config.json beside the weights"
        )
    fits = found.n_heads % found.n_kv_heads == 0 and found.n_rotated % 2 == 0 and found.n_rotated <= found.head_dim
    numbers = (found.norm_eps, found.rope_base, *found.rope_scaling)
    if not fits or not all(math.isfinite(x) and x > 0 for x in numbers):
        raise ModelFileError(f"{model.name}: its hyper-parameters do not fit each other: {found}")
    if found.n_experts and not 0 < found.n_experts_used <= found.n_experts:
        raise ModelFileError(f"{model.name}: uses {found.n_experts_used} of {found.n_experts} experts")
    return found


def _from_gguf(model: Model, metadata: dict[str, Any], style: str) -> Hyperparameters:
    family = model.architecture.family

    def number(key: str, default: float) -> float:
        value = metadata.get(f"{family}.{key}", default)
        if not isinstance(value, int | float):
            raise damaged(model.files[0], f"metadata '{family}.{key}' = {value!r} is not a number")
        return float(value)

    scaling = str(metadata.get(f"{family}.rope.scaling.type", "none"))
    factor = number("rope.scaling.factor", 1.0)
    if scaling not in _SCALINGS:
        raise UsageError(
            f"{model.name}: rotary scaling '{scaling}' cannot be run", f"these can: {', '.join(_SCALINGS)}"
        )
    norm_eps = number("attention.layer_norm_rms_epsilon", number("attention.layer_norm_epsilon", 0.0))
    found = _of(
        model.architecture, norm_eps, number("rope.freq_base", 10000.0), style, int(number("rope.dimension_count", 0)),
        rope_scaling=(factor,) if scaling == "linear" and factor > 0 else (),
    )  # fmt: skip
    return _checked(model, found)


def _from_config(model: Model, source: Source, style: str) -> Hyperparameters:
    try:
        config = json.loads(source.read_file("config.json"))
    except UnknownNameError as error:
        raise ModelFileError(f"{model.name}: has no config.json", "keep it beside the weights") from error
    except ValueError as error:
        raise ModelFileError(f"{model.name}: its config.json is not JSON ({error})") from error
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    default_eps = _NORM_EPS.get(model.architecture.family, 1e-6)
    found = _of(
        model.architecture, float(config.get("rms_norm_eps", config.get("layer_norm_epsilon", default_eps))),
        float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0), style, 0,
        rope_scaling=_scaling(model, rope),
        normalize_experts=config.get("model_type") != "qwen3_moe" or bool(config.get("norm_topk_prob", False)),
    )  # fmt: skip
    return _checked(model, _within(found, window))


def _within(found: Hyperparameters, window: Any) -> Hyperparameters:
    """Attention over a window is plain attention as long as the context fits into it."""
    from dataclasses import replace

    if not isinstance(window, int) or window <= 0:
        return found
    return replace(found, context_length=min(found.context_length or window, window))


def _scaling(model: Model, rope: dict[str, Any]) -> tuple[float, ...]:
    kind = str(rope.get("rope_type") or rope.get("type") or "none")
    if kind in ("none", "default"):
        return ()
    if kind == "linear":
        return (float(rope["factor"]),)
    if kind == "llama3":
        keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        return tuple(float(rope[key]) for key in keys)
    raise UsageError(f"{model.name}: rotary scaling '{kind}' cannot be run", f"these can: {', '.join(_SCALINGS)}")


def _llama3(frequencies: Any, factor: float, low: float, high: float, context: float) -> Any:
    """Slow rotations are slowed by ``factor``, fast ones kept, those between blended (Llama 3.1, ``apply_scaling``)."""
    turns = context * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequencies * (kept + (1 - kept) / factor)
