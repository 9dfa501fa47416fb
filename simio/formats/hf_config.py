"""Architecture facts from the ``config.json`` of a Hugging Face model.

Key names are those of the configuration classes in ``transformers`` (https://github.com/huggingface/transformers,
``src/transformers/models/*/configuration_*.py``); families name the same fact differently, hence the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simio.formats.damage import damaged
from simio.formats.hf_kv import kv_layers
from simio.records.model import Architecture

#: Facts beyond this are a corrupt file, not a model.
_MAX_LAYERS = 4096
_MAX_COUNT = 2**31

#: fact → the keys that carry it, first present wins
_KEYS: dict[str, tuple[str, ...]] = {
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "d_model": ("hidden_size", "n_embd", "d_model", "dim"),
    "n_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "n_kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "n_kv_heads"),
    "head_dim": ("head_dim", "kv_channels", "attention_head_dim"),
    "d_ff": ("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "mlp_hidden_size"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "n_experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "n_experts_used": ("num_experts_per_tok", "top_k_experts", "num_experts_per_token", "moe_top_k", "moe_k"),
    "context_length": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length"),
}

#: Where a multi-modal model keeps the configuration of its language model.
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config", "text_model_config")

#: ``model_type`` → ``general.architecture`` of GGUF, where dropping underscores is not enough.
_FAMILIES = {
    "gpt_oss": "gpt-oss", "mistral": "llama", "mixtral": "llama",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2",
    "qwen3_5": "qwen35", "qwen3_5_moe": "qwen35moe", "phi": "phi2", "phi4": "phi3",
}  # fmt: skip


def read_config(path: Path) -> dict[str, Any]:
    """The whole ``config.json``; raises ``ModelFileError`` unless it is a JSON object."""
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}", "check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise damaged(path, "is not a JSON object")
    return config


def architecture(config: dict[str, Any], path: Path) -> Architecture:
    """The facts ``config`` states; 0 for what it leaves to the library's defaults.

    Raises ``ModelFileError`` naming the key whose value is impossible.
    """
    text = _language_model(config)
    facts = {fact: _fact(text, fact, path) for fact in _KEYS}
    if facts["n_layers"] > _MAX_LAYERS:
        raise damaged(path, f"{facts['n_layers']} layers are more than any model has")
    n_heads = facts["n_heads"]
    facts["n_kv_heads"] = _n_kv_heads(text, facts["n_kv_heads"], n_heads)
    facts["head_dim"] = facts["head_dim"] or (facts["d_model"] // n_heads if n_heads else 0)
    facts["n_experts_used"] = facts["n_experts_used"] if facts["n_experts"] else 0
    kind = text.get("model_type") or config.get("model_type") or ""
    return Architecture(
        family=_family(str(kind)), tied_embeddings=False, kv_layers=kv_layers(text, facts, path), **facts
    )


def _language_model(config: dict[str, Any]) -> dict[str, Any]:
    """The part that describes the language model, with the outer keys behind it."""
    for key in _NESTED:
        inner = config.get(key)
        if isinstance(inner, dict):
            return _language_model({**{k: v for k, v in config.items() if k != key}, **inner})
    return config


def _fact(config: dict[str, Any], fact: str, path: Path) -> int:
    key = next((key for key in _KEYS[fact] if config.get(key) is not None), None)
    if key is None:
        return 0
    value = config[key]
    if isinstance(value, list) and value:  # per layer (Gemma 3n's MLP widths): the largest
        value = max((v for v in value if type(v) is int), default=None)
    if type(value) is not int or not -1 <= value < _MAX_COUNT:
        raise damaged(path, f"{key} = {config[key]!r} is not a count")
    return max(0, value)


def _n_kv_heads(config: dict[str, Any], stated: int, n_heads: int) -> int:
    """Falcon and BigCode say ``multi_query`` for one KV head; whoever says nothing has one for each query head."""
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    return stated or n_heads


def _family(model_type: str) -> str:
    model_type = model_type.removesuffix("_text")
    return _FAMILIES.get(model_type, model_type.replace("_", ""))
