"""Every tensor of an architecture: names and shapes in the order of a GGUF file.

llama-quantize writes tensors as its loader sorts them: those outside the layers first, then layer by layer, each
group by name (``weight_name_comparer`` in llama.cpp's ``src/llama-model-loader.h``).
"""

from __future__ import annotations

from simio.models.attention import Spec, attention
from simio.models.facts import Facts, PerLayer
from simio.models.families import FAMILIES, Family
from simio.models.feed_forward import feed_forward
from simio.models.layers import layer_kind


def tensor_specs(facts: Facts) -> list[Spec]:
    """``(name, shape)`` of every tensor in file order; shapes output axis first, experts stacked in front."""
    family = FAMILIES[facts.family]
    specs = sorted(_outside(facts, family))
    for layer in range(facts.n_layers):
        parts = attention(facts, family, layer) + feed_forward(facts, family, layer) + _norms(facts, family, layer)
        if facts.per_layer:
            parts += _per_layer(facts, facts.per_layer)
        specs += [(f"blk.{layer}.{name}", shape) for name, shape in sorted(parts)]
    return specs


def _outside(facts: Facts, family: Family) -> list[Spec]:
    """Embeddings, output head, final norm and the tables that belong to no layer."""
    d = facts.d_model
    specs: list[Spec] = [("token_embd.weight", (facts.vocab_size, d))]
    specs += _norm("token_embd_norm" if facts.short_conv else "output_norm", d, family.norm_bias)
    if not facts.tied_embeddings:
        specs.append(("output.weight", (facts.vocab_size, d)))
        if family.output_bias:
            specs.append(("output.bias", (facts.vocab_size,)))
    if facts.n_positions:
        specs.append(("position_embd.weight", (facts.n_positions, d)))
    if facts.rope_factors:
        specs += [(name, (facts.rope_factors,)) for name in family.rope_tensors]
    if facts.per_layer:
        specs += _per_layer_tables(facts, facts.per_layer)
    if facts.family == "kimi-k3":
        specs.append(("output_res_score.weight", (d,)))
    if facts.compressed:
        n = facts.compressed.hyper_connections
        specs += [("hc_head_fn.weight", (n, n * d)), ("hc_head_base.weight", (n,)), ("hc_head_scale.weight", (1,))]
    return specs


def _per_layer_tables(facts: Facts, per_layer: PerLayer) -> list[Spec]:
    """The token table per layer of Gemma 3n and Gemma 4 E2B/E4B, and Gemma 3n's alternating updates."""
    width = per_layer.d_embedding * facts.n_layers
    specs: list[Spec] = [
        ("per_layer_token_embd.weight", (per_layer.vocab_size, width)),
        ("per_layer_model_proj.weight", (width, facts.d_model)),
        ("per_layer_proj_norm.weight", (per_layer.d_embedding,)),
    ]
    if per_layer.n_altup:
        shape = (per_layer.n_altup - 1, facts.d_model, facts.d_model)
        specs += [("altup_proj.weight", shape), ("altup_unembd_proj.weight", shape)]
    return specs


def _per_layer(facts: Facts, per_layer: PerLayer) -> list[Spec]:
    d, n, rank = facts.d_model, per_layer.n_altup, per_layer.laurel_rank
    specs: list[Spec] = [
        ("inp_gate.weight", (per_layer.d_embedding, d)),
        ("proj.weight", (d, per_layer.d_embedding)),
        ("post_norm.weight", (d,)),
    ]
    if not n:
        return [*specs, ("layer_output_scale.weight", (1,))]
    return [
        *specs,
        ("altup_correct_coef.weight", (n, n)),
        ("altup_correct_scale.weight", (d,)),
        ("altup_predict_coef.weight", (n * n, n)),
        ("altup_router.weight", (n, d)),
        ("altup_router_norm.weight", (d,)),
        ("laurel_l.weight", (rank, d)),
        ("laurel_r.weight", (d, rank)),
        ("laurel_post_norm.weight", (d,)),
    ]


def _norms(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """Layer norms of ``layer``."""
    d = facts.d_model
    specs: list[Spec] = []
    if family.pre_norms:
        specs += _norm("attn_norm", d, family.norm_bias)
        if family.ffn_norm:
            specs += _norm(family.ffn_norm, d, family.norm_bias)
    if family.post_norms:
        specs += _norm("post_attention_norm", d) + _norm("post_ffw_norm", d)
    if family.sub_norms:
        specs += _norm("attn_sub_norm", d) + _norm("ffn_sub_norm", facts.d_ff)
    if facts.family == "kimi-k3":
        specs += [("attn_res_score.weight", (d,)), ("ffn_res_score.weight", (d,))]
    if facts.family == "gemma4" and not facts.per_layer:
        specs.append(("layer_output_scale.weight", (1,)))
    return specs + _hyper_connections(facts, layer)


def _hyper_connections(facts: Facts, layer: int) -> list[Spec]:
    """DeepSeek-V4 mixes ``n`` residual streams before attention and before the feed-forward."""
    if layer_kind(facts, layer) != "compressed" or facts.compressed is None:
        return []
    n = facts.compressed.hyper_connections
    mix = (2 + n) * n
    specs: list[Spec] = []
    for part in ("attn", "ffn"):
        specs += [(f"hc_{part}_fn.weight", (mix, n * facts.d_model)), (f"hc_{part}_base.weight", (mix,))]
        specs.append((f"hc_{part}_scale.weight", (3,)))
    return specs


def _norm(name: str, width: int, bias: bool = False) -> list[Spec]:
    specs: list[Spec] = [(f"{name}.weight", (width,))]
    return [*specs, (f"{name}.bias", (width,))] if bias else specs
