"""What each layer keeps in the KV cache, from the facts of an architecture."""

from __future__ import annotations

from simio.models.facts import Facts
from simio.models.layers import has_indexer, heads, keeps_kv, layer_kind, window_size
from simio.records.model import KvLayer

#: llama.cpp keeps recurrent states in F32 and the KV cache in F16 (``src/llama-memory-recurrent.cpp``).
_STATE_BYTES = 4
_KV_BYTES = 2


def kv_layers(facts: Facts) -> tuple[KvLayer, ...]:
    """One ``KvLayer`` per layer: values per token, window, and the constant state of recurrent layers."""
    return tuple(_kv_layer(facts, layer) for layer in range(facts.n_layers))


def _kv_layer(facts: Facts, layer: int) -> KvLayer:
    kind = layer_kind(facts, layer)
    if kind == "mla":
        return _latent(facts, layer)
    if kind == "compressed":
        return _compressed(facts, layer)
    if kind == "attention":
        _, n_kv_heads, head_dim = heads(facts, layer)
        n_values = 2 * n_kv_heads * head_dim if keeps_kv(facts, layer) else 0
        return KvLayer(n_values, window_size(facts, layer))
    return KvLayer(0, None, _state_bytes(facts, kind))


def _latent(facts: Facts, layer: int) -> KvLayer:
    """``kv_lora_rank + qk_rope_head_dim`` values (DeepSeek-V2, arXiv 2405.04434, §2.1.2), plus the indexer's key."""
    if facts.mla is None:
        return KvLayer(0)
    indexer = facts.indexer.head_dim if facts.indexer and has_indexer(facts, layer) else 0
    return KvLayer(facts.mla.kv_lora_rank + facts.mla.qk_rope_head_dim + indexer)


def _compressed(facts: Facts, layer: int) -> KvLayer:
    """DeepSeek-V4 (arXiv 2606.19348): one entry per ``ratio`` tokens, beside a full window of raw entries."""
    window = facts.window.size if facts.window else 0
    ratio = facts.compressed.ratios[layer] if facts.compressed else 0
    n_values = facts.head_dim // ratio if ratio else 0
    if facts.indexer and has_indexer(facts, layer):
        n_values += facts.indexer.head_dim // ratio
    return KvLayer(n_values, None, window * facts.head_dim * _KV_BYTES)


def _state_bytes(facts: Facts, kind: str) -> int:
    """State of a recurrent layer: the last inputs of the convolution and, unless it is all, a matrix per head."""
    if kind == "conv":
        return (facts.short_conv.kernel - 1) * facts.d_model * _STATE_BYTES if facts.short_conv else 0
    if kind == "mamba2" and facts.mamba:
        net = facts.mamba
        d_inner = net.n_heads * net.head_dim
        tail = (net.conv_kernel - 1) * (d_inner + 2 * net.n_groups * net.d_state)
        return (tail + d_inner * net.d_state) * _STATE_BYTES
    linear = facts.linear
    if linear is None:
        return 0
    channels = (2 * linear.n_k_heads + linear.n_v_heads) * linear.head_dim
    matrix = linear.n_v_heads * linear.head_dim**2
    return ((linear.conv_kernel - 1) * channels + matrix) * _STATE_BYTES
