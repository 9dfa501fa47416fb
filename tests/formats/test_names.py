"""Role, layer and expert from real tensor names, family by family."""

from __future__ import annotations

import pytest

from simio.formats.names import TensorName, classify
from simio.records.model import ROLES

#: family → (name, role, layer, expert); names from the published checkpoints of each family
GOLDEN: dict[str, list[tuple[str, str, int | None, int | None]]] = {
    "llama and mistral": [
        ("model.embed_tokens.weight", "embedding", None, None),
        ("model.layers.11.self_attn.q_proj.weight", "attention", 11, None),
        ("model.layers.11.self_attn.o_proj.weight", "attention", 11, None),
        ("model.layers.0.mlp.gate_proj.weight", "mlp", 0, None),
        ("model.layers.0.mlp.down_proj.weight", "mlp", 0, None),
        ("model.layers.0.input_layernorm.weight", "norm", 0, None),
        ("model.layers.0.post_attention_layernorm.weight", "norm", 0, None),
        ("model.norm.weight", "norm", None, None),
        ("lm_head.weight", "head", None, None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "other", 0, None),
    ],
    "llama as published by Meta": [
        ("tok_embeddings.weight", "embedding", None, None),
        ("layers.5.attention.wq.weight", "attention", 5, None),
        ("layers.5.feed_forward.w2.weight", "mlp", 5, None),
        ("layers.5.ffn_norm.weight", "norm", 5, None),
        ("norm.weight", "norm", None, None),
        ("output.weight", "head", None, None),
    ],
    "qwen2 and qwen3": [
        ("model.layers.3.self_attn.q_proj.bias", "attention", 3, None),
        ("model.layers.3.self_attn.q_norm.weight", "norm", 3, None),
        ("model.layers.3.self_attn.k_norm.weight", "norm", 3, None),
    ],
    "qwen moe": [
        ("model.layers.7.mlp.gate.weight", "router", 7, None),
        ("model.layers.7.mlp.experts.127.up_proj.weight", "expert", 7, 127),
        ("model.layers.7.mlp.shared_expert.up_proj.weight", "mlp", 7, None),
        ("model.layers.7.mlp.shared_expert_gate.weight", "router", 7, None),
    ],
    "qwen3-next and qwen3.5": [
        ("model.layers.0.linear_attn.in_proj_qkvz.weight", "attention", 0, None),
        ("model.layers.0.linear_attn.A_log", "attention", 0, None),
        ("model.layers.0.linear_attn.dt_bias", "attention", 0, None),
        ("model.layers.0.linear_attn.conv1d.weight", "attention", 0, None),
        ("model.layers.0.linear_attn.norm.weight", "norm", 0, None),
        ("model.language_model.layers.2.mlp.down_proj.weight", "mlp", 2, None),
        ("mtp.layers.0.mlp.gate.weight", "other", None, None),
        ("model.visual.blocks.4.attn.qkv.weight", "other", None, None),
    ],
    "gemma 2 and 3": [
        ("model.layers.1.pre_feedforward_layernorm.weight", "norm", 1, None),
        ("model.layers.1.post_feedforward_layernorm.weight", "norm", 1, None),
        ("language_model.model.layers.1.self_attn.k_proj.weight", "attention", 1, None),
        ("vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight", "other", None, None),
        ("multi_modal_projector.mm_input_projection_weight", "other", None, None),
    ],
    "gemma 3n and 4": [
        ("model.language_model.embed_tokens_per_layer.weight", "embedding", None, None),
        ("model.language_model.per_layer_model_projection.weight", "mlp", None, None),
        ("model.language_model.per_layer_projection_norm.weight", "norm", None, None),
        ("model.language_model.layers.4.per_layer_input_gate.weight", "mlp", 4, None),
        ("model.language_model.layers.4.per_layer_projection.weight", "mlp", 4, None),
        ("model.language_model.layers.4.layer_scalar", "norm", 4, None),
        ("model.language_model.layers.4.altup.modality_router.weight", "mlp", 4, None),
        ("model.language_model.layers.4.router.proj.weight", "router", 4, None),
        ("model.language_model.layers.4.router.per_expert_scale", "router", 4, None),
        ("model.language_model.layers.4.experts.gate_up_proj", "expert", 4, None),
        ("model.language_model.layers.4.mlp.gate_proj.weight", "mlp", 4, None),
        ("model.embed_vision.embedding_projection.weight", "other", None, None),
    ],
    "phi3": [
        ("model.layers.0.self_attn.qkv_proj.weight", "attention", 0, None),
        ("model.layers.0.mlp.gate_up_proj.weight", "mlp", 0, None),
    ],
    "gpt2": [
        ("wte.weight", "embedding", None, None),
        ("transformer.wpe.weight", "embedding", None, None),
        ("h.10.attn.c_attn.weight", "attention", 10, None),
        ("h.10.attn.c_proj.bias", "attention", 10, None),
        ("h.10.mlp.c_fc.weight", "mlp", 10, None),
        ("h.10.ln_1.weight", "norm", 10, None),
        ("ln_f.bias", "norm", None, None),
        ("h.10.attn.bias", "other", 10, None),  # the causal mask
    ],
    "gpt-neox": [
        ("gpt_neox.embed_in.weight", "embedding", None, None),
        ("gpt_neox.layers.2.attention.query_key_value.weight", "attention", 2, None),
        ("gpt_neox.layers.2.attention.dense.bias", "attention", 2, None),
        ("gpt_neox.layers.2.attention.masked_bias", "other", 2, None),
        ("gpt_neox.layers.2.mlp.dense_h_to_4h.weight", "mlp", 2, None),
        ("gpt_neox.final_layer_norm.weight", "norm", None, None),
        ("embed_out.weight", "head", None, None),
    ],
    "gpt-neo": [
        ("transformer.h.1.attn.attention.k_proj.weight", "attention", 1, None),
        ("transformer.h.1.attn.attention.bias", "other", 1, None),
        ("transformer.h.1.mlp.c_proj.weight", "mlp", 1, None),
    ],
    "opt": [
        ("model.decoder.embed_tokens.weight", "embedding", None, None),
        ("model.decoder.embed_positions.weight", "embedding", None, None),
        ("model.decoder.layers.3.self_attn.out_proj.weight", "attention", 3, None),
        ("model.decoder.layers.3.fc1.weight", "mlp", 3, None),
        ("model.decoder.layers.3.self_attn_layer_norm.weight", "norm", 3, None),
        ("model.decoder.project_out.weight", "head", None, None),
    ],
    "falcon": [
        ("transformer.word_embeddings.weight", "embedding", None, None),
        ("transformer.h.3.self_attention.query_key_value.weight", "attention", 3, None),
        ("transformer.h.3.self_attention.dense.weight", "attention", 3, None),
        ("transformer.h.3.mlp.dense_4h_to_h.weight", "mlp", 3, None),
        ("transformer.h.3.ln_attn.weight", "norm", 3, None),
        ("transformer.h.3.input_layernorm.bias", "norm", 3, None),
    ],
    "mixtral": [
        ("model.layers.1.block_sparse_moe.gate.weight", "router", 1, None),
        ("model.layers.1.block_sparse_moe.experts.7.w2.weight", "expert", 1, 7),
        ("blk.1.ffn_gate.7.weight", "expert", 1, 7),  # GGUF before experts were stacked
    ],
    "deepseek 2 and 3": [
        ("model.layers.3.self_attn.q_a_proj.weight", "attention", 3, None),
        ("model.layers.3.self_attn.q_a_layernorm.weight", "norm", 3, None),
        ("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "attention", 3, None),
        ("model.layers.3.self_attn.kv_b_proj.weight", "attention", 3, None),
        ("model.layers.3.mlp.gate.weight", "router", 3, None),
        ("model.layers.3.mlp.gate.e_score_correction_bias", "router", 3, None),
        ("model.layers.3.mlp.experts.255.gate_proj.weight", "expert", 3, 255),
        ("model.layers.3.mlp.experts.255.gate_proj.weight_scale_inv", "expert", 3, 255),
        ("model.layers.3.mlp.shared_experts.gate_proj.weight", "mlp", 3, None),
        ("blk.3.attn_kv_a_mqa.weight", "attention", 3, None),
        ("blk.3.attn_kv_a_norm.weight", "norm", 3, None),
        ("blk.3.exp_probs_b.bias", "router", 3, None),
        ("blk.3.ffn_up_shexp.weight", "mlp", 3, None),
    ],
    "gpt-oss": [
        ("model.layers.0.self_attn.sinks", "attention", 0, None),
        ("model.layers.0.mlp.router.weight", "router", 0, None),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "expert", 0, None),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", "expert", 0, None),
        ("blk.0.attn_sinks.weight", "attention", 0, None),
        ("blk.0.ffn_gate_exps.bias", "expert", 0, None),
    ],
    "olmo": [
        ("model.transformer.wte.weight", "embedding", None, None),
        ("model.transformer.blocks.0.att_proj.weight", "attention", 0, None),
        ("model.transformer.blocks.0.attn_out.weight", "attention", 0, None),
        ("model.transformer.blocks.0.ff_proj.weight", "mlp", 0, None),
        ("model.transformer.blocks.0.ff_out.weight", "mlp", 0, None),
        ("model.transformer.ff_out.weight", "head", None, None),
    ],
    "lfm2": [
        ("model.layers.0.conv.in_proj.weight", "attention", 0, None),
        ("model.layers.0.conv.conv.weight", "attention", 0, None),
        ("model.layers.0.operator_norm.weight", "norm", 0, None),
        ("model.layers.0.feed_forward.w1.weight", "mlp", 0, None),
        ("model.layers.2.feed_forward.gate.weight", "router", 2, None),
        ("model.layers.2.feed_forward.expert_bias", "router", 2, None),
        ("model.layers.2.feed_forward.experts.31.w3.weight", "expert", 2, 31),
        ("model.embedding_norm.weight", "norm", None, None),
        ("blk.0.shortconv.conv.weight", "attention", 0, None),
    ],
    "mamba": [
        ("backbone.embeddings.weight", "embedding", None, None),
        ("backbone.layers.9.mixer.in_proj.weight", "attention", 9, None),
        ("backbone.layers.9.mixer.A_log", "attention", 9, None),
        ("backbone.layers.9.norm.weight", "norm", 9, None),
        ("blk.9.ssm_conv1d.weight", "attention", 9, None),
        ("blk.9.ssm_norm.weight", "norm", 9, None),
    ],
    "bert": [
        ("embeddings.word_embeddings.weight", "embedding", None, None),
        ("embeddings.token_type_embeddings.weight", "embedding", None, None),
        ("embeddings.LayerNorm.weight", "norm", None, None),
        ("embeddings.position_ids", "other", None, None),
        ("encoder.layer.3.attention.self.query.weight", "attention", 3, None),
        ("encoder.layer.3.attention.output.dense.bias", "attention", 3, None),
        ("encoder.layer.3.attention.output.LayerNorm.weight", "norm", 3, None),
        ("encoder.layer.3.intermediate.dense.weight", "mlp", 3, None),
        ("encoder.layer.3.output.dense.weight", "mlp", 3, None),
        ("pooler.dense.weight", "head", None, None),
    ],
    "gguf": [
        ("token_embd.weight", "embedding", None, None),
        ("per_layer_token_embd.weight", "embedding", None, None),
        ("output.weight", "head", None, None),
        ("output_norm.weight", "norm", None, None),
        ("rope_freqs.weight", "attention", None, None),
        ("blk.12.attn_q.weight", "attention", 12, None),
        ("blk.12.attn_output.weight", "attention", 12, None),
        ("blk.12.attn_q_norm.weight", "norm", 12, None),
        ("blk.12.ffn_down.weight", "mlp", 12, None),
        ("blk.12.ffn_gate_inp.weight", "router", 12, None),
        ("blk.12.ffn_gate_inp_shexp.weight", "router", 12, None),
        ("blk.12.ffn_gate_exps.weight", "expert", 12, None),
        ("blk.12.inp_gate.weight", "mlp", 12, None),
        ("blk.12.layer_output_scale.weight", "norm", 12, None),
    ],
    "quantized streams": [
        ("model.layers.2.mlp.up_proj.qweight", "mlp", 2, None),
        ("model.layers.2.self_attn.k_proj.weight.quant_state.bitsandbytes__nf4", "attention", 2, None),
        ("model.layers.2.self_attn.q_proj.SCB", "attention", 2, None),
    ],
    "dbrx": [
        ("transformer.blocks.0.norm_attn_norm.attn.Wqkv.weight", "attention", 0, None),
        ("transformer.blocks.0.norm_attn_norm.norm_1.weight", "norm", 0, None),
        ("transformer.blocks.0.ffn.router.layer.weight", "router", 0, None),
    ],
}

_CASES = [case for cases in GOLDEN.values() for case in cases]


@pytest.mark.parametrize(("name", "role", "layer", "expert"), _CASES, ids=[case[0] for case in _CASES])
def test_a_known_name_tells_role_layer_and_expert(name: str, role: str, layer: int | None, expert: int | None) -> None:
    assert classify(name) == TensorName(role, layer, expert)


@pytest.mark.parametrize("name", ["", "weight", "foo.bar", "x" * 10_000, "layers.", "blk.notanumber.attn"])
def test_an_unknown_name_is_never_an_error(name: str) -> None:
    assert classify(name).role in ROLES


def test_a_hostile_name_is_classified_at_once() -> None:
    for name in ("norm" + "a" * 900 + "!", "norm" + "_a" * 450 + " ", ".weight" * 140 + " ", "a_" * 480 + "ln "):
        assert classify(name).layer is None


def test_an_absurd_layer_index_is_no_layer() -> None:
    assert classify("blk.99999999999.attn_q.weight") == TensorName("attention", None, None)


def test_a_name_that_says_nothing_is_other() -> None:
    assert classify("frobnicator.zeta.weight") == TensorName("other", None, None)


def test_a_bias_takes_the_role_of_its_weight() -> None:
    for name, role, *_ in _CASES:
        if name.endswith(".weight") and role != "other":
            assert classify(name.removesuffix("weight") + "bias").role == role
