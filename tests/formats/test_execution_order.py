"""The order in which a decoder uses its tensors, whatever the order in the file."""

from __future__ import annotations

import random

import pytest

from simio.formats.execution_order import execution_order, use_of
from simio.formats.tensors import logical_tensor
from simio.models import preset
from simio.records.model import Architecture, Model

IN_ORDER = [
    "model.embed_tokens.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.0.self_attn.v_proj.weight",
    "model.layers.0.self_attn.o_proj.weight",
    "model.layers.0.post_attention_layernorm.weight",
    "model.layers.0.mlp.gate.weight",
    *(f"model.layers.0.mlp.experts.{e}.{p}_proj.weight" for e in (0, 1, 10) for p in ("gate", "up", "down")),
    "model.layers.1.input_layernorm.weight",
    "model.layers.1.self_attn.k_proj.weight",
    "model.layers.10.mlp.gate_proj.weight",
    "model.layers.10.mlp.up_proj.weight",
    "model.layers.10.mlp.down_proj.weight",
    "model.norm.weight",
    "lm_head.weight",
]


def model_of(names: list[str]) -> Model:
    tensors = tuple(logical_tensor(name, (4, 4), "F32", (), 0) for name in names)
    return Model("m", "file", "gguf", "", 0, Architecture("llama", 11, 4, 1, 1, 4, 4, 4), tensors)


@pytest.mark.parametrize("seed", range(5))
def test_tensors_come_in_the_order_of_use_from_any_file_order(seed: int) -> None:
    names = random.Random(seed).sample(IN_ORDER, len(IN_ORDER))
    assert [names[i] for i in execution_order(model_of(names))] == IN_ORDER


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_gpt_2_comes_in_the_order_of_use(prefix: str) -> None:
    in_layer = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    layer = [f"h.3.{module}.{end}" for module in in_layer for end in ("weight", "bias")]
    expected = [prefix + name for name in ("wte.weight", "wpe.weight", *layer, "ln_f.weight", "ln_f.bias")]
    names = random.Random(1).sample(expected, len(expected))
    assert [names[i] for i in execution_order(model_of(names))] == expected


def test_unknown_names_keep_their_order_at_the_end_of_their_layer() -> None:
    names = ["blk.1.attn_q.weight", "blk.0.zeta.weight", "blk.0.alpha.weight", "blk.0.ffn_down.weight", "loose"]
    in_order = [names[i] for i in execution_order(model_of(names))]
    assert in_order == ["loose", "blk.0.ffn_down.weight", "blk.0.zeta.weight", "blk.0.alpha.weight", names[0]]


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b", "gemma-2-2b"])
def test_every_tensor_of_a_preset_comes_once_and_layers_stay_together(name: str) -> None:
    model = preset(name)
    order = execution_order(model)
    assert sorted(order) == list(range(len(model.tensors)))
    layers = [layer for i in order if (layer := model.tensors[i].layer) is not None]
    assert layers == sorted(layers)


def test_both_families_of_names_mean_the_same_uses() -> None:
    pairs = {
        "blk.3.ffn_gate_exps.weight": "ffn_gate_exps",
        "blk.3.ffn_gate.7.weight": "ffn_gate",
        "model.layers.3.block_sparse_moe.experts.7.w2.weight": "ffn_down",
        "output.weight": "output",
        "rope_freqs.weight": "rope_freqs",
        "model.language_model.layers.3.self_attn.q_norm.weight": "attn_q_norm",
    }
    for name, use in pairs.items():
        assert use_of(logical_tensor(name, (4, 4), "F32", (), 0)) == use
