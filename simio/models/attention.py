"""The tensors of one layer's sequence mixing, by kind, with GGUF names.

A spec is ``(name after "blk.N.", shape)``, output axis first: ``(n_out, n_in)``. Sources: the ``load_arch_tensors``
of llama.cpp, file named at each function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from simio.models.facts import Facts, Indexer, Linear, Mla
from simio.models.families import Family
from simio.models.layers import has_indexer, heads, layer_kind, window_size

#: (name, shape)
Spec = tuple[str, tuple[int, ...]]

P = TypeVar("P")


def attention(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """The tensors that mix tokens in ``layer``, norms of queries and keys included, layer norms not."""
    return _BUILDERS[layer_kind(facts, layer)](facts, family, layer)


def linear(name: str, n_out: int, n_in: int, bias: bool = False) -> list[Spec]:
    """A weight ``(n_out, n_in)`` and, where ``bias``, its bias ``(n_out,)``."""
    specs: list[Spec] = [(f"{name}.weight", (n_out, n_in))]
    if bias:
        specs.append((f"{name}.bias", (n_out,)))
    return specs


def _grouped(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """Multi-head, grouped-query or multi-query attention (``llama.cpp``, ``qwen3.cpp``, ``gemma4.cpp`` …)."""
    n_heads, n_kv_heads, head_dim = heads(facts, layer)
    d, d_q, d_kv = facts.d_model, n_heads * head_dim, n_kv_heads * head_dim
    bias = family.qkv_bias or facts.qkv_bias
    if family.fused_qkv:
        specs = linear("attn_qkv", d_q + 2 * d_kv, d, bias)
    else:
        specs = linear("attn_q", 2 * d_q if family.gated_attention else d_q, d, bias)
        specs += linear("attn_k", d_kv, d, bias)  # shipped by Gemma 3n and 4 even where no layer uses them
        if not _keys_are_values(facts, layer):
            specs += linear("attn_v", d_kv, d, bias)
    specs += linear("attn_output", d, d_q, family.out_bias)
    specs += _qk_norms(facts, family, layer)
    if family.sinks:
        specs.append(("attn_sinks.weight", (n_heads,)))
    return specs


def _keys_are_values(facts: Facts, layer: int) -> bool:
    wide = facts.global_attention
    return wide is not None and wide.k_is_v and window_size(facts, layer) is None


def _qk_norms(facts: Facts, family: Family, layer: int) -> list[Spec]:
    kind = family.qk_norm or ("head" if facts.qk_norm else "")
    if not kind:
        return []
    n_heads, n_kv_heads, head_dim = heads(facts, layer)
    widths = {"attn_q_norm": head_dim, "attn_k_norm": head_dim}
    if kind == "full":
        widths = {"attn_q_norm": n_heads * head_dim, "attn_k_norm": n_kv_heads * head_dim}
    suffixes = ("weight", "bias") if family.qk_norm_bias else ("weight",)
    return [(f"{name}.{suffix}", (width,)) for name, width in widths.items() for suffix in suffixes]


def _mla(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """Multi-head latent attention with the KV up-projection split into keys and values (``deepseek2.cpp``)."""
    mla, d, n_heads = _need(facts.mla), facts.d_model, facts.n_heads
    d_qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    specs = _latent_query(mla, d, n_heads * d_qk)
    specs += linear("attn_kv_a_mqa", mla.kv_lora_rank + mla.qk_rope_head_dim, d)
    specs += [
        ("attn_kv_a_norm.weight", (mla.kv_lora_rank,)),
        ("attn_k_b.weight", (n_heads, mla.kv_lora_rank, mla.qk_nope_head_dim)),
        ("attn_v_b.weight", (n_heads, mla.v_head_dim, mla.kv_lora_rank)),
    ]
    specs += linear("attn_output", d, n_heads * mla.v_head_dim)
    if mla.output_gate:
        specs += linear("attn_gate", n_heads * mla.v_head_dim, d)
    if facts.indexer and has_indexer(facts, layer):
        specs += _indexer(facts.indexer, mla.q_lora_rank, d)
    return specs


def _latent_query(mla: Mla, d_model: int, d_q: int) -> list[Spec]:
    if not mla.q_lora_rank:
        return linear("attn_q", d_q, d_model)
    norm: Spec = ("attn_q_a_norm.weight", (mla.q_lora_rank,))
    return [*linear("attn_q_a", mla.q_lora_rank, d_model), norm, *linear("attn_q_b", d_q, mla.q_lora_rank)]


def _indexer(indexer: Indexer, q_lora_rank: int, d_model: int) -> list[Spec]:
    """The lightning indexer (``glm-dsa.cpp``)."""
    return [
        ("indexer.k_norm.weight", (indexer.head_dim,)),
        ("indexer.k_norm.bias", (indexer.head_dim,)),
        *linear("indexer.proj", indexer.n_heads, d_model),
        *linear("indexer.attn_k", indexer.head_dim, d_model),
        *linear("indexer.attn_q_b", indexer.n_heads * indexer.head_dim, q_lora_rank),
    ]


def _gated_delta(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """The gated delta net of Qwen3-Next and Qwen3.5 (``qwen3next.cpp``, ``qwen35.cpp``)."""
    net, d = _need(facts.linear), facts.d_model
    d_v = net.n_v_heads * net.head_dim
    channels = 2 * net.n_k_heads * net.head_dim + d_v
    specs = [*linear("attn_qkv", channels, d), *linear("attn_gate", d_v, d)]
    if facts.family == "qwen3next":
        specs += linear("ssm_ba", 2 * net.n_v_heads, d)
    else:
        specs += [*linear("ssm_alpha", net.n_v_heads, d), *linear("ssm_beta", net.n_v_heads, d)]
    specs += [
        ("ssm_conv1d.weight", (channels, net.conv_kernel)),
        ("ssm_dt.bias", (net.n_v_heads,)),
        ("ssm_a", (net.n_v_heads,)),
        ("ssm_norm.weight", (net.head_dim,)),
    ]
    return specs + linear("ssm_out", d, d_v)


def _kda(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """Kimi delta attention (``kimi-linear.cpp``; Kimi K3 replaces the low-rank output gate by a full one)."""
    net, d = _need(facts.linear), facts.d_model
    d_inner = net.n_v_heads * net.head_dim
    specs: list[Spec] = []
    for letter in "qkv":
        specs += linear(f"attn_{letter}", d_inner, d)
        specs.append((f"ssm_conv1d_{letter}.weight", (d_inner, 1, net.conv_kernel)))
    specs += _kda_gates(net, d, d_inner)
    specs += [("ssm_a", (net.n_v_heads, 1)), ("ssm_dt.bias", (d_inner,)), ("ssm_norm.weight", (net.head_dim,))]
    return specs + linear("attn_output", d, d_inner)


def _kda_gates(net: Linear, d_model: int, d_inner: int) -> list[Spec]:
    specs = [
        *linear("ssm_f_a", net.head_dim, d_model),
        *linear("ssm_f_b", d_inner, net.head_dim),
        *linear("ssm_beta", net.n_v_heads, d_model),
    ]
    if net.full_rank_gate:
        return specs + linear("ssm_g", d_inner, d_model)
    return specs + linear("ssm_g_a", net.head_dim, d_model) + linear("ssm_g_b", d_inner, net.head_dim)


def _short_conv(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """The gated short convolution of LFM2 (``lfm2.cpp``)."""
    d = facts.d_model
    convolution: Spec = ("shortconv.conv.weight", (d, _need(facts.short_conv).kernel))
    return [convolution, *linear("shortconv.in_proj", 3 * d, d), *linear("shortconv.out_proj", d, d)]


def _mamba2(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """A Mamba-2 state space: gate, input, B, C and step of one projection (``granite-hybrid.cpp``)."""
    net, d = _need(facts.mamba), facts.d_model
    d_inner = net.n_heads * net.head_dim
    channels = d_inner + 2 * net.n_groups * net.d_state
    specs: list[Spec] = [
        *linear("ssm_in", d_inner + channels + net.n_heads, d),
        ("ssm_conv1d.weight", (channels, net.conv_kernel)),
        ("ssm_conv1d.bias", (channels,)),
        ("ssm_dt.bias", (net.n_heads,)),
        ("ssm_a", (net.n_heads, 1)),
        ("ssm_d", (net.n_heads, 1)),
        ("ssm_norm.weight", (net.n_groups, d_inner // net.n_groups)),
    ]
    return specs + linear("ssm_out", d, d_inner)


def _compressed(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """The compressed attention of DeepSeek-V4: one KV head, grouped low-rank output (``deepseek4.cpp``)."""
    net, d, head_dim = _need(facts.compressed), facts.d_model, facts.head_dim
    d_q, d_o = facts.n_heads * head_dim, net.o_groups * net.o_lora_rank
    specs: list[Spec] = [
        ("attn_sinks.weight", (facts.n_heads,)),
        *linear("attn_q_a", net.q_lora_rank, d),
        ("attn_q_a_norm.weight", (net.q_lora_rank,)),
        *linear("attn_q_b", d_q, net.q_lora_rank),
        *linear("attn_kv", head_dim, d),
        ("attn_kv_norm.weight", (head_dim,)),
        *linear("attn_output_a", d_o, d_q // net.o_groups),
        *linear("attn_output_b", d, d_o),
    ]
    if ratio := net.ratios[layer]:
        specs += _compressor("attn_compressor", head_dim, ratio, d)
    if facts.indexer and has_indexer(facts, layer):
        index = facts.indexer
        specs += linear("indexer.proj", index.n_heads, d)
        specs += linear("indexer.attn_q_b", index.n_heads * index.head_dim, net.q_lora_rank)
        specs += _compressor("indexer_compressor", index.head_dim, ratio, d)
    return specs


def _compressor(name: str, head_dim: int, ratio: int, d_model: int) -> list[Spec]:
    """Overlapping windows (ratio 4) keep two entries side by side."""
    width = head_dim * (2 if ratio == 4 else 1)
    return [
        *linear(f"{name}_kv", width, d_model),
        *linear(f"{name}_gate", width, d_model),
        (f"{name}_ape.weight", (ratio, width)),
        (f"{name}_norm.weight", (head_dim,)),
    ]


def _need(part: P | None) -> P:
    if part is None:
        raise ValueError("the preset lacks the table its layer kind needs")
    return part


_BUILDERS: dict[str, Callable[[Facts, Family, int], list[Spec]]] = {
    "attention": _grouped,
    "mla": _mla,
    "gated-delta": _gated_delta,
    "kda": _kda,
    "conv": _short_conv,
    "mamba2": _mamba2,
    "compressed": _compressed,
}
