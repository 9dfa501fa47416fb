"""How the tensors of one architecture family are laid out: what is fused, what has a bias, which norms there are.

Source: the ``load_arch_tensors`` of each family in llama.cpp (``src/models/*.cpp``) and the tensor name table of
``gguf-py/gguf/constants.py``. Facts of one model (widths, counts) are in its preset file, not here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """Conventions of a family; the defaults are those of Llama."""

    fused_qkv: bool = False  # attn_qkv instead of attn_q, attn_k, attn_v
    qkv_bias: bool = False
    out_bias: bool = False
    gated: bool = True  # feed-forward with ffn_gate
    fused_gate: bool = False  # ffn_up holds gate and up (Phi-3)
    ffn_bias: bool = False
    norm_bias: bool = False  # LayerNorm instead of RMSNorm
    output_bias: bool = False
    qk_norm: str = ""  # "head": of head_dim; "full": of all heads together
    qk_norm_bias: bool = False
    pre_norms: bool = True  # attn_norm, and ffn_norm where ffn_norm is set
    ffn_norm: str = "ffn_norm"  # name of the norm before the feed-forward; "" = none (parallel blocks)
    post_norms: bool = False  # norms after attention and after the feed-forward
    sub_norms: bool = False  # BitNet: norms before the output projections
    shared_gate: bool = False  # a router of its own for the shared expert (Qwen)
    router_bias: bool = False
    selection_bias: bool = False  # exp_probs_b, the load-balancing bias of the router
    expert_bias: bool = False
    sinks: bool = False  # attention sinks, one per head
    gated_attention: bool = False  # the query projection holds a gate of the same width
    rope_tensors: tuple[str, ...] = ("rope_freqs.weight",)  # stored when Facts.rope_factors is set


_LLAMA = Family()
_NEOX = Family(
    fused_qkv=True, qkv_bias=True, out_bias=True, gated=False, ffn_bias=True, norm_bias=True
)  # also GPT-2, and OPT with split projections
_GEMMA3 = Family(qk_norm="head", post_norms=True)
_QWEN35 = Family(qk_norm="head", ffn_norm="post_attention_norm", gated_attention=True, shared_gate=True)
_LATENT = Family(selection_bias=True)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "smollm3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": Family(post_norms=True),
    "gemma3": _GEMMA3,
    "gemma3n": _GEMMA3,
    "gemma4": _GEMMA3,
    "qwen": Family(fused_qkv=True, qkv_bias=True),
    "qwen2": Family(qkv_bias=True),
    "qwen2moe": Family(qkv_bias=True, shared_gate=True),
    "qwen3": Family(qk_norm="head"),
    "qwen3moe": Family(qk_norm="head"),
    "qwen3next": _QWEN35,
    "qwen35": _QWEN35,
    "qwen35moe": _QWEN35,
    "phi2": Family(
        qkv_bias=True, out_bias=True, gated=False, ffn_bias=True, norm_bias=True, output_bias=True, ffn_norm=""
    ),
    "phi3": Family(
        fused_qkv=True, fused_gate=True, rope_tensors=("rope_factors_long.weight", "rope_factors_short.weight")
    ),
    "phimoe": Family(
        qkv_bias=True,
        out_bias=True,
        norm_bias=True,
        output_bias=True,
        rope_tensors=("rope_factors_long.weight", "rope_factors_short.weight"),
    ),
    "gpt2": _NEOX,
    "gptneox": _NEOX,
    "opt": Family(qkv_bias=True, out_bias=True, gated=False, ffn_bias=True, norm_bias=True),
    "persimmon": Family(
        fused_qkv=True,
        qkv_bias=True,
        out_bias=True,
        gated=False,
        ffn_bias=True,
        norm_bias=True,
        qk_norm="head",
        qk_norm_bias=True,
    ),
    "falcon": Family(fused_qkv=True, gated=False, norm_bias=True, ffn_norm=""),
    "olmo2": Family(qk_norm="full", pre_norms=False, post_norms=True),
    "olmoe": Family(qk_norm="full"),
    "stablelm": Family(norm_bias=True),
    "bitnet": Family(sub_norms=True),
    "smallthinker": _LLAMA,
    "gpt-oss": Family(
        qkv_bias=True, out_bias=True, ffn_norm="post_attention_norm", router_bias=True, expert_bias=True, sinks=True
    ),
    "lfm2": Family(qk_norm="head"),
    "lfm2moe": Family(qk_norm="head", selection_bias=True),
    "llama4": _LLAMA,
    "ernie4_5-moe": _LATENT,
    "minimax-m2": Family(qk_norm="full", selection_bias=True),
    "hunyuan-moe": Family(qk_norm="head"),
    "dots1": Family(qk_norm="head", selection_bias=True),
    "bailingmoe2": Family(fused_qkv=True, qk_norm="head", selection_bias=True),
    "granitehybrid": _LLAMA,
    "glm4moe": Family(qkv_bias=True, ffn_norm="post_attention_norm", selection_bias=True),
    "deepseek2": _LATENT,
    "glm-dsa": _LATENT,
    "kimi-linear": _LATENT,
    "kimi-k3": _LATENT,
    "deepseek4": Family(selection_bias=True, sinks=True),
}
