"""Which kind of sequence mixing a layer has, and the heads it has it with."""

from __future__ import annotations

from simio.models.facts import Facts

#: What ``layer_kind`` answers: full or sliding attention, latent attention, linear attention (two forms), short
#: convolution, a Mamba-2 state space, and the compressed attention of DeepSeek-V4.
KINDS = ("attention", "mla", "gated-delta", "kda", "conv", "mamba2", "compressed")


def layer_kind(facts: Facts, layer: int) -> str:
    """The kind of sequence mixing of ``layer``: one of ``KINDS``."""
    if facts.compressed:
        return "compressed"
    if facts.short_conv and layer not in facts.short_conv.attention_layers:
        return "conv"
    if facts.mamba and layer not in facts.mamba.attention_layers:
        return "mamba2"
    if facts.linear and not _is_full_linear(facts, layer):
        return facts.linear.kind
    return "mla" if facts.mla else "attention"


def window_size(facts: Facts, layer: int) -> int | None:
    """Tokens the attention of ``layer`` looks back on, ``None`` = all of them."""
    window = facts.window
    if window is None:
        return None
    if window.full_every:
        position = layer % window.full_every
        if position == (0 if window.full_first else window.full_every - 1):
            return None
    return window.size


def heads(facts: Facts, layer: int) -> tuple[int, int, int]:
    """``(n_heads, n_kv_heads, head_dim)`` of the attention of ``layer``."""
    wide = facts.global_attention
    if wide and window_size(facts, layer) is None:
        return facts.n_heads, wide.n_kv_heads or facts.n_kv_heads, wide.head_dim
    return facts.n_heads, facts.n_kv_heads, facts.head_dim


def keeps_kv(facts: Facts, layer: int) -> bool:
    """False for the last layers of Gemma 3n and Gemma 4 E2B/E4B, which read the KV cache of an earlier layer."""
    return facts.per_layer is None or layer < facts.n_layers - facts.per_layer.n_shared_kv


def has_experts(facts: Facts, layer: int) -> bool:
    """Whether the feed-forward of ``layer`` is a mixture of experts."""
    return facts.experts is not None and layer >= facts.experts.first_dense


def has_indexer(facts: Facts, layer: int) -> bool:
    """Whether ``layer`` has a lightning indexer of its own (DeepSeek sparse attention)."""
    if facts.indexer is None:
        return False
    if facts.compressed:
        return facts.compressed.ratios[layer] == 4
    return layer in facts.indexer.full_layers


def _is_full_linear(facts: Facts, layer: int) -> bool:
    linear = facts.linear
    if linear is None:
        return True
    return (layer + 1) % linear.full_every == 0 or (linear.last_full and layer == facts.n_layers - 1)
