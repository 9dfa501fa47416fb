"""The tensors of one layer's feed-forward part: dense, mixture of experts, and Gemma's both at once."""

from __future__ import annotations

from simio.models.attention import Spec, linear
from simio.models.facts import Experts, Facts
from simio.models.families import Family
from simio.models.layers import has_experts, keeps_kv


def feed_forward(facts: Facts, family: Family, layer: int) -> list[Spec]:
    """The tensors of the feed-forward of ``layer``, norms not included."""
    if not has_experts(facts, layer) or facts.experts is None:
        return _dense(family, facts.d_model, _width(facts, layer))
    if facts.family == "gemma4":
        return _dense(family, facts.d_model, facts.d_ff) + _gemma4_experts(facts.experts, facts.d_model)
    return _experts(facts, family, facts.experts, layer)


def _width(facts: Facts, layer: int) -> int:
    wide = facts.per_layer is not None and facts.per_layer.double_wide and not keeps_kv(facts, layer)
    return 2 * facts.d_ff if wide else facts.d_ff


def _dense(family: Family, d: int, d_ff: int, suffix: str = "") -> list[Spec]:
    specs = linear(f"ffn_up{suffix}", 2 * d_ff if family.fused_gate else d_ff, d, family.ffn_bias)
    if family.gated and not family.fused_gate:
        specs += linear(f"ffn_gate{suffix}", d_ff, d, family.ffn_bias)
    return specs + linear(f"ffn_down{suffix}", d, d_ff, family.ffn_bias)


def _experts(facts: Facts, family: Family, experts: Experts, layer: int) -> list[Spec]:
    """Stacked experts ``(n_experts, n_out, n_in)``, their router and what is shared (``qwen3moe.cpp`` …)."""
    d = facts.d_model
    specs = linear("ffn_gate_inp", experts.count, d, family.router_bias)
    specs += _routing(facts, family, experts, layer)
    if experts.latent:
        specs += [*linear("ffn_routed_down", experts.latent, d), *linear("ffn_routed_up", d, experts.latent)]
        specs.append(("ffn_routed_norm.weight", (experts.latent,)))
    specs += _stacked(experts, experts.latent or d, family.expert_bias)
    if experts.d_ff_shared:
        specs += _dense(family, d, experts.d_ff_shared, "_shexp")
        if family.shared_gate:
            specs.append(("ffn_gate_inp_shexp.weight", (d,)))
    return specs


def _routing(facts: Facts, family: Family, experts: Experts, layer: int) -> list[Spec]:
    """DeepSeek-V4 routes its first layers by a table from token to experts, the others by biased scores."""
    if facts.compressed and layer < facts.compressed.hash_layers:
        return [("ffn_gate_tid2eid.weight", (facts.vocab_size, experts.used))]
    return [("exp_probs_b.bias", (experts.count,))] if family.selection_bias else []


def _stacked(experts: Experts, d: int, bias: bool) -> list[Spec]:
    specs: list[Spec] = []
    for name, n_out, n_in in (("up", experts.d_ff, d), ("gate", experts.d_ff, d), ("down", d, experts.d_ff)):
        specs.append((f"ffn_{name}_exps.weight", (experts.count, n_out, n_in)))
        if bias:
            specs.append((f"ffn_{name}_exps.bias", (experts.count, n_out)))
    return specs


def _gemma4_experts(experts: Experts, d: int) -> list[Spec]:
    """Gemma 4 26B-A4B: experts beside a dense feed-forward, gate and up fused (``gemma4.cpp``)."""
    return [
        *linear("ffn_gate_inp", experts.count, d),
        ("ffn_gate_inp.scale", (d,)),
        ("ffn_gate_up_exps.weight", (experts.count, 2 * experts.d_ff, d)),
        ("ffn_down_exps.weight", (experts.count, d, experts.d_ff)),
        ("ffn_down_exps.scale", (experts.count,)),
        ("pre_ffw_norm_2.weight", (d,)),
        ("post_ffw_norm_1.weight", (d,)),
        ("post_ffw_norm_2.weight", (d,)),
    ]
