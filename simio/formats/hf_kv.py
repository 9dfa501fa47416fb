"""What each layer keeps in the KV cache, from a Hugging Face configuration.

Full, sliding and chunked attention, multi-head latent attention (DeepSeek), layers that share the cache of earlier
ones (Gemma 3n and 4), linear attention and short convolutions with a constant state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simio.formats.damage import damaged
from simio.records.model import KvLayer

#: Every p-th layer is full, the others slide, in families whose configuration may not say so.
_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2, "gemma3n_text": 5}

#: ``layer_types`` entry → kind; anything else that is listed counts as full attention.
_KINDS = {
    "sliding_attention": "sliding", "chunked_attention": "sliding", "local": "sliding", "linear_attention": "linear",
    "mamba": "linear", "conv": "conv",
}  # fmt: skip

_STATE_BYTES = 4  # recurrent states are kept in FP32 (llama.cpp, llama_memory_recurrent)


def kv_layers(config: dict[str, Any], facts: dict[str, int], path: Path) -> tuple[KvLayer, ...]:
    """One entry per layer; ``n_values`` is 0 where the configuration states no heads. ``facts`` as in ``hf_config``."""
    window = _window(config, path)
    kinds = _kinds(config, facts["n_layers"], bool(window), path)
    n_shared = _count(config, "num_kv_shared_layers", path)
    first_shared = facts["n_layers"] - n_shared if n_shared else facts["n_layers"]
    return tuple(
        KvLayer(0) if i >= first_shared else _layer(kind, config, facts, window, path) for i, kind in enumerate(kinds)
    )


def _layer(kind: str, config: dict[str, Any], facts: dict[str, int], window: int, path: Path) -> KvLayer:
    if kind == "linear":
        return KvLayer(0, fixed_bytes=_linear_state_bytes(config, path))
    if kind == "conv":
        return KvLayer(
            0, fixed_bytes=facts["d_model"] * max(0, _count(config, "conv_L_cache", path) - 1) * _STATE_BYTES
        )
    return KvLayer(_values(kind, config, facts, path), window if kind == "sliding" and window else None)


def _values(kind: str, config: dict[str, Any], facts: dict[str, int], path: Path) -> int:
    """Values per token: latent + rotary key under MLA, else keys and values of every KV head."""
    latent = _count(config, "kv_lora_rank", path)
    if latent:
        return latent + _count(config, "qk_rope_head_dim", path)
    n_heads, head_dim = facts["n_kv_heads"], facts["head_dim"]
    if kind == "full":  # Gemma 4 widens the heads of its full layers and has fewer of them
        n_heads = _count(config, "num_global_key_value_heads", path) or n_heads
        head_dim = _count(config, "global_head_dim", path) or head_dim
    return n_heads * (head_dim + (_count(config, "v_head_dim", path) or head_dim))


def _linear_state_bytes(config: dict[str, Any], path: Path) -> int:
    """Gated delta net (Qwen3-Next, Qwen3.5): one matrix per value head and the tail of the convolution."""
    n_key, n_value = (_count(config, f"linear_num_{what}_heads", path) for what in ("key", "value"))
    key_dim, value_dim = (_count(config, f"linear_{what}_head_dim", path) for what in ("key", "value"))
    tail = max(0, _count(config, "linear_conv_kernel_dim", path) - 1)
    return _STATE_BYTES * (n_value * key_dim * value_dim + tail * (2 * n_key * key_dim + n_value * value_dim))


def _window(config: dict[str, Any], path: Path) -> int:
    """The attention span of sliding layers in tokens; 0 when none slides. Qwen must switch it on explicitly."""
    is_qwen = str(config.get("model_type", "")).startswith("qwen")
    if not config.get("use_sliding_window", not is_qwen):
        return 0
    keys = ("sliding_window", "attention_chunk_size", "window_size", "sliding_window_size")
    return next((n for n in (_count(config, key, path) for key in keys) if n), 0)


def _kinds(config: dict[str, Any], n_layers: int, slides: bool, path: Path) -> list[str]:
    listed = config.get("layer_types") or config.get("layers_block_type") or _expanded(config.get("attention_types"))
    if listed:
        if not isinstance(listed, list) or len(listed) < n_layers:
            raise damaged(path, f"layer_types does not list the {n_layers} layers")
        return [_KINDS.get(str(kind), "full") for kind in listed[:n_layers]]
    if isinstance(config.get("full_attn_idxs"), list):
        return ["full" if i in config["full_attn_idxs"] else "conv" for i in range(n_layers)]
    if every := _count(config, "full_attention_interval", path):
        return ["full" if (i + 1) % every == 0 else "linear" for i in range(n_layers)]
    return _sliding_kinds(config, n_layers, slides, path)


def _sliding_kinds(config: dict[str, Any], n_layers: int, slides: bool, path: Path) -> list[str]:
    """By pattern; without one every layer slides (Mistral, Phi-3), or those from ``max_window_layers`` on."""
    if not slides:
        return ["full"] * n_layers
    default = _PATTERNS.get(str(config.get("model_type", "")), 0)
    pattern = _count(config, "sliding_window_pattern", path) or default
    if pattern:
        return ["full" if (i + 1) % pattern == 0 else "sliding" for i in range(n_layers)]
    first = _count(config, "max_window_layers", path)
    return ["full" if i < first else "sliding" for i in range(n_layers)]


def _expanded(attention_types: Any) -> list[str]:
    """GPT-Neo: ``[[["global", "local"], 6]]`` means the pair six times."""
    if not isinstance(attention_types, list):
        return []
    groups = [g for g in attention_types if isinstance(g, list) and len(g) == 2 and isinstance(g[0], list)]
    return [kind for kinds, times in groups if type(times) is int and times <= 4096 for kind in kinds * times]


def _count(config: dict[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < 2**31:
        raise damaged(path, f"{key} = {value!r} is not a count")
    return value
