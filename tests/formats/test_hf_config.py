"""Architecture facts from config.json: the KV cache of published models, computed by hand from their configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simio.errors import ModelFileError
from simio.formats.hf_config import architecture
from simio.records.model import Architecture, KvLayer, kv_bytes

PATH = Path("config.json")


def facts(**config: Any) -> Architecture:
    return architecture(config, PATH)


def test_mistral_slides_in_every_layer() -> None:
    model = facts(
        model_type="mistral", num_hidden_layers=2, hidden_size=4096, num_attention_heads=32, num_key_value_heads=8,
        sliding_window=4096,
    )  # fmt: skip
    assert model.kv_layers == (KvLayer(2048, 4096),) * 2
    assert kv_bytes(model, 10_000) == 2 * 2048 * 4096 * 2


def test_qwen_slides_only_when_switched_on() -> None:
    config = {
        "model_type": "qwen2", "num_hidden_layers": 4, "hidden_size": 896, "num_attention_heads": 14,
        "num_key_value_heads": 2, "sliding_window": 32768, "max_window_layers": 2,
    }  # fmt: skip
    assert facts(**config).kv_layers == (KvLayer(256),) * 4
    switched = facts(**config, use_sliding_window=True).kv_layers
    assert switched == (KvLayer(256), KvLayer(256), KvLayer(256, 32768), KvLayer(256, 32768))


def test_gemma_3_has_one_full_layer_in_six() -> None:
    model = facts(
        model_type="gemma3",
        text_config={
            "model_type": "gemma3_text", "num_hidden_layers": 12, "hidden_size": 2560, "num_attention_heads": 8,
            "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024,
        },
    )  # fmt: skip
    assert model.family == "gemma3"
    assert [layer.window for layer in model.kv_layers] == [1024] * 5 + [None] + [1024] * 5 + [None]
    assert model.kv_layers[0].n_values == 2 * 4 * 256


def test_gemma_4_widens_full_layers_and_shares_the_cache_of_the_last() -> None:
    model = facts(
        model_type="gemma4_text", num_hidden_layers=4, hidden_size=1536, num_attention_heads=8, num_key_value_heads=1,
        head_dim=256, global_head_dim=512, sliding_window=512, num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    )  # fmt: skip
    assert model.kv_layers == (KvLayer(512, 512), KvLayer(1024), KvLayer(0), KvLayer(0))


def test_deepseek_keeps_the_latent_and_the_rotary_key() -> None:
    model = facts(
        model_type="deepseek_v3", num_hidden_layers=61, hidden_size=7168, num_attention_heads=128,
        num_key_value_heads=128, kv_lora_rank=512, qk_rope_head_dim=64, v_head_dim=128, n_routed_experts=256,
        num_experts_per_tok=8,
    )  # fmt: skip
    assert model.family == "deepseek2"
    assert model.kv_layers == (KvLayer(576),) * 61
    assert (model.n_experts, model.n_experts_used) == (256, 8)


def test_gpt_oss_alternates() -> None:
    model = facts(
        model_type="gpt_oss", num_hidden_layers=4, hidden_size=2880, num_attention_heads=64, num_key_value_heads=8,
        head_dim=64, sliding_window=128, num_local_experts=32, num_experts_per_tok=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    assert model.kv_layers == (KvLayer(1024, 128), KvLayer(1024)) * 2
    assert (model.n_experts, model.n_experts_used) == (32, 4)


def test_qwen3_next_keeps_a_constant_state_in_three_layers_of_four() -> None:
    model = facts(
        model_type="qwen3_next", num_hidden_layers=4, hidden_size=2048, num_attention_heads=16, num_key_value_heads=2,
        head_dim=256, full_attention_interval=4, linear_num_key_heads=16, linear_num_value_heads=32,
        linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4,
    )  # fmt: skip
    state_bytes = 4 * (32 * 128 * 128 + 3 * (2 * 16 * 128 + 32 * 128))
    assert model.kv_layers == (KvLayer(0, None, state_bytes),) * 3 + (KvLayer(1024),)


def test_lfm2_convolves_where_it_does_not_attend() -> None:
    model = facts(
        model_type="lfm2", num_hidden_layers=3, hidden_size=1024, num_attention_heads=16, num_key_value_heads=8,
        conv_L_cache=3, full_attn_idxs=[2],
    )  # fmt: skip
    assert model.kv_layers == (KvLayer(0, None, 8192), KvLayer(0, None, 8192), KvLayer(1024))


def test_gpt_neo_expands_its_attention_types() -> None:
    model = facts(
        model_type="gpt_neo", num_layers=4, hidden_size=768, num_heads=12, window_size=256,
        attention_types=[[["global", "local"], 2]],
    )  # fmt: skip
    assert [layer.window for layer in model.kv_layers] == [None, 256, None, 256]
    assert model.kv_layers[0].n_values == 2 * 768


def test_falcon_7b_has_one_kv_head() -> None:
    model = facts(model_type="falcon", num_hidden_layers=1, hidden_size=4544, num_attention_heads=71, multi_query=True)
    assert model.kv_layers == (KvLayer(128),)


def test_gpt2_key_names_are_understood() -> None:
    model = facts(model_type="gpt2", n_layer=12, n_embd=768, n_head=12, n_positions=1024, vocab_size=50257)
    assert (model.n_layers, model.d_model, model.n_kv_heads, model.context_length) == (12, 768, 12, 1024)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", -3), ("num_hidden_layers", 10**6), ("num_hidden_layers", "32"), ("hidden_size", 2.5),
        ("hidden_size", float("nan")), ("num_key_value_heads", []), ("vocab_size", True), ("sliding_window", "wide"),
        ("layer_types", ["full_attention"]), ("kv_lora_rank", -1), ("head_dim", {"a": 1}),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_with_its_key(key: str, value: Any) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, key: value}
    with pytest.raises(ModelFileError, match=r"config\.json") as caught:
        architecture(config, PATH)
    assert caught.value.hint
