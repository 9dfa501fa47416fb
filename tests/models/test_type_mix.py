"""llama.cpp's type mixtures, rule by rule."""

from __future__ import annotations

import pytest

from simio.models import facts, preset
from simio.models.type_mix import mix_types


def types(name: str) -> dict[str, str]:
    return {tensor.name: tensor.dtype for tensor in preset(name).tensors}


def layers_of(name: str, part: str, dtype: str) -> list[int]:
    return [t.layer for t in preset(name).tensors if part in t.name and t.dtype == dtype and t.layer is not None]


def test_q4_k_m_gives_more_bits_to_the_outer_eighths_and_every_third_layer_between() -> None:
    expected = [i for i in range(32) if i < 4 or i >= 28 or (i - 4) % 3 == 2]
    assert layers_of("llama-3.1-8b:q4_k_m", "ffn_down", "Q6_K") == expected
    assert layers_of("llama-3.1-8b:q4_k_m", "attn_v", "Q6_K") == expected


def test_the_head_has_six_bits_and_the_embedding_the_base_type() -> None:
    found = types("llama-3.1-8b:q4_k_m")
    assert (found["output.weight"], found["token_embd.weight"]) == ("Q6_K", "Q4_K")


def test_a_tied_embedding_follows_the_rule_of_the_head() -> None:
    assert types("llama-3.2-3b:q4_k_m")["token_embd.weight"] == "Q6_K"
    assert types("gemma-4-e2b:q4_k_m")["per_layer_token_embd.weight"] == "Q6_K"


def test_vectors_and_routers_stay_in_f32() -> None:
    found = types("qwen3-30b-a3b:q2_k")
    assert found["blk.0.attn_norm.weight"] == found["blk.0.ffn_gate_inp.weight"] == "F32"
    assert types("llama-3.1-8b:f16")["output_norm.weight"] == "F32"


def test_a_row_that_is_no_multiple_of_256_falls_back() -> None:
    """Gemma 3 1B is 1152 wide, DeepSeek's key up-projection 128."""
    found = types("gemma-3-1b:q4_k_m")
    assert found["blk.0.attn_q.weight"] == "Q5_0"
    assert found["token_embd.weight"] == "Q8_0"
    assert types("gemma-3-1b:q2_k")["blk.0.ffn_up.weight"] == "Q4_0"
    assert types("gemma-3-1b:iq2_m")["blk.0.ffn_up.weight"] == "IQ4_NL"
    assert types("deepseek-v3:q4_k_m")["blk.0.attn_k_b.weight"] == "Q5_0"


def test_a_row_that_is_no_multiple_of_32_falls_back_to_f16() -> None:
    known = facts("llama-3.1-8b")
    assert mix_types([("blk.0.ffn_up.weight", (8, 40))], known, "q4_k_m") == ["F16"]
    assert mix_types([("blk.0.ffn_up.weight", (8, 40))], known, "q4_0") == ["F16"]


def test_grouped_queries_give_the_values_more_bits() -> None:
    assert layers_of("llama-3.1-8b:q2_k", "attn_v", "Q4_K") == list(range(32))
    assert layers_of("llama-2-7b:q2_k", "attn_v", "Q3_K") == list(range(32))


def test_80_layers_with_grouped_queries_get_five_bits_for_the_values() -> None:
    assert layers_of("llama-2-70b:q3_k_m", "attn_v", "Q5_K") == list(range(80))
    assert layers_of("llama-65b:q3_k_m", "attn_v", "Q5_K") == [0, 1]


def test_eight_experts_keep_keys_and_values_in_eight_bits() -> None:
    found = types("mixtral-8x7b:q4_k_m")
    assert (found["blk.5.attn_k.weight"], found["blk.5.attn_v.weight"]) == ("Q8_0", "Q8_0")
    assert found["blk.5.attn_output.weight"] == "Q5_K"


def test_fused_attention_has_rules_of_its_own() -> None:
    assert layers_of("phi-3.5-mini:q4_k_m", "attn_qkv", "Q5_K") == list(range(32))
    assert layers_of("phi-3.5-mini:q5_k_m", "attn_qkv", "Q6_K") == list(range(32))


def test_falcon_has_rules_of_its_own() -> None:
    assert layers_of("falcon-7b:q4_k_m", "ffn_down", "Q6_K") == [0, 1]
    assert types("falcon-7b:q4_k_m")["output.weight"] == "Q8_0"


@pytest.mark.parametrize("quant", ["mxfp4", "q4_k_m", "q2_k", "q8_0", "f16"])
def test_gpt_oss_keeps_its_experts_as_published(quant: str) -> None:
    experts = {t.dtype for t in preset(f"gpt-oss-20b:{quant}").tensors if "_exps.weight" in t.name}
    assert experts == {"MXFP4"}


def test_mxfp4_touches_experts_only() -> None:
    found = types("qwen3-30b-a3b:mxfp4")
    assert found["blk.0.ffn_up_exps.weight"] == "MXFP4"
    assert found["blk.0.attn_q.weight"] == found["token_embd.weight"] == "Q8_0"


@pytest.mark.parametrize(("quant", "dtype"), [("awq", "AWQ4"), ("gptq", "GPTQ4"), ("int4", "AWQ4"), ("int8", "INT8")])
def test_grouped_integers_leave_embedding_head_and_norms_in_fp16(quant: str, dtype: str) -> None:
    found = types(f"llama-3.1-8b:{quant}")
    assert found["blk.0.ffn_up.weight"] == found["blk.0.attn_q.weight"] == dtype
    assert {found[n] for n in ("token_embd.weight", "output.weight", "blk.0.attn_norm.weight")} == {"F16"}


def test_int4_stores_half_a_byte_a_weight_and_five_half_bytes_a_group() -> None:
    down = next(t for t in preset("llama-3.1-8b:awq").tensors if t.name == "blk.0.ffn_down.weight")
    assert down.n_bytes == 4096 * 14336 // 2 + 4096 * (14336 // 128) * 5 // 2


def test_int8_stores_a_byte_a_weight_and_a_scale_a_channel() -> None:
    down = next(t for t in preset("llama-3.1-8b:int8").tensors if t.name == "blk.0.ffn_down.weight")
    assert down.n_bytes == 4096 * (14336 + 2)


def test_the_router_of_a_quantized_mixture_stays_in_fp16() -> None:
    found = types("qwen3-30b-a3b:int4")
    assert found["blk.0.ffn_gate_inp.weight"] == "F16"
    assert found["blk.0.ffn_down_exps.weight"] == "AWQ4"
