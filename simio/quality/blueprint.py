"""Which decoders can be measured, and what sets them apart beside their hyper-parameters.

Llama, Mistral, Qwen 2 and 3 as ``simio run`` computes them; BitNet b1.58 (arXiv 2504.12285: norms in front of the two
output projections) without the rounding of its activations; GPT-2 (learned positions, LayerNorm, an MLP of two
matrices). Names and defaults are those of ``config.json`` in the transformers library.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from simio.errors import UnknownNameError, UsageError
from simio.records.model import Model
from simio.runtime.hyperparameters import FAMILIES as RUN
from simio.runtime.hyperparameters import Hyperparameters, Source, hyperparameters

#: ``Architecture.family`` → how its GGUF files rotate queries and keys.
FAMILIES = {family: RUN[family] for family in ("llama", "qwen2", "qwen3")} | {"bitnet": "halves", "gpt2": "none"}
#: What ``hidden_act`` and ``activation_function`` may be; ``gelu_new`` is the tanh form of GELU (arXiv 1606.08415).
ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2")
_DEFAULT = {"gpt2": "gelu_new", "bitnet": "relu2"}


@dataclass(frozen=True, slots=True)
class Blueprint:
    """``shape`` and what it leaves open. ``begin`` is the token that begins a text, where the model states one."""

    shape: Hyperparameters
    activation: str
    begin: int | None
    has_layer_norm: bool  # LayerNorm with a bias instead of RMSNorm
    is_transposed: bool  # matrices are stored (n_in, n_out): ``Conv1D`` of the transformers library


def blueprint(model: Model, source: Source) -> Blueprint:
    """The blueprint of ``model``; raises ``UsageError`` for what cannot be computed, naming what can."""
    if model.format == "simio":
        raise UsageError(f"{model.name}: quality is measured on the model that was packed", "give the original file")
    if model.source == "preset":
        raise UsageError(f"{model.name}: a preset has no weights to quantize", "give a model file")
    if model.architecture.n_experts:
        raise UsageError(
            f"{model.name}: is a mixture of experts, whose quality cannot be measured yet", "give a dense model"
        )
    shape = hyperparameters(model, source, FAMILIES)
    config = _config(source) if model.format == "safetensors" else {}
    activation = config.get("hidden_act") or config.get("activation_function") or _DEFAULT.get(shape.family, "silu")
    if activation not in ACTIVATIONS:
        raise UsageError(
            f"{model.name}: activation '{activation}' cannot be computed", f"these can: {', '.join(ACTIVATIONS)}"
        )
    unsupported = [key for key in _VARIANTS if config.get(key, _VARIANTS[key]) != _VARIANTS[key]]
    if unsupported:
        raise UsageError(
            f"{model.name}: '{unsupported[0]}' of its config.json cannot be computed", "give another model"
        )
    begin = config.get("bos_token_id")
    is_gpt2 = shape.family == "gpt2"
    return Blueprint(
        shape=shape,
        activation=activation,
        begin=begin if isinstance(begin, int) and 0 <= begin < shape.vocab_size else None,
        has_layer_norm=is_gpt2,
        is_transposed=is_gpt2 and model.format == "safetensors",
    )


#: Switches of GPT-2 with the value that is computed.
_VARIANTS = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}


def _config(source: Source) -> dict[str, Any]:
    try:
        found = json.loads(source.read_file("config.json"))
    except UnknownNameError:
        return {}
    return dict(found)
