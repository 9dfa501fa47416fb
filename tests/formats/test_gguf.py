"""Reading GGUF: every ggml type, split files, both byte orders, architecture facts from metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.records.model import Architecture, KvLayer

Write = Callable[..., Path]

FACTS = {
    "llama.block_count": 2, "llama.embedding_length": 64, "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2, "llama.feed_forward_length": 256, "llama.context_length": 2048,
}  # fmt: skip


def _zeros(*shape: int) -> Any:
    return np.zeros(shape, dtype=np.float32)


LLAMA = {
    "token_embd.weight": _zeros(96, 64),
    **{f"blk.{i}.attn_q.weight": _zeros(64, 64) for i in range(2)},
    **{f"blk.{i}.attn_k.weight": _zeros(32, 64) for i in range(2)},
    **{f"blk.{i}.attn_v.weight": _zeros(32, 64) for i in range(2)},
    **{f"blk.{i}.ffn_down.weight": _zeros(64, 256) for i in range(2)},
    "output_norm.weight": _zeros(64),
}


@pytest.fixture
def llama(tmp_path: Path, write_gguf: Write) -> Path:
    return write_gguf(tmp_path / "llama.gguf", "llama", FACTS, LLAMA)


def test_facts_and_shapes_come_out_in_logical_order(llama: Path) -> None:
    model = open_model(llama)
    facts = model.architecture
    assert (facts.family, facts.n_layers, facts.d_model, facts.d_ff) == ("llama", 2, 64, 256)
    assert (facts.n_heads, facts.n_kv_heads, facts.head_dim, facts.vocab_size) == (4, 2, 16, 96)
    assert facts.tied_embeddings
    assert facts.kv_layers == (KvLayer(64), KvLayer(64))
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    assert shapes["blk.0.ffn_down.weight"] == (64, 256)
    assert shapes["token_embd.weight"] == (96, 64)


def test_an_output_matrix_means_untied(tmp_path: Path, write_gguf: Write) -> None:
    tensors = {**LLAMA, "output.weight": _zeros(96, 64)}
    assert not open_model(write_gguf(tmp_path / "x.gguf", "llama", FACTS, tensors)).architecture.tied_embeddings


def test_header_and_offsets_agree_with_the_gguf_package(tmp_path: Path, write_gguf: Write) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((8, 512)).astype(np.float32)
    kinds = (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.BF16)
    tensors = {f"blk.{i}.ffn_up.weight": (gguf.quants.quantize(weights, kind), kind) for i, kind in enumerate(kinds)}
    path = write_gguf(tmp_path / "quantized.gguf", "llama", FACTS, tensors)
    model = open_model(path)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert len(model.tensors) == len(theirs) == 3
    with WeightsReader(model) as reader:
        for tensor in model.tensors:
            their = theirs[tensor.name]
            assert (tensor.dtype, tensor.n_weights) == (their.tensor_type.name, their.n_elements)
            assert tensor.streams[0].offset == their.data_offset
            assert reader.read(tensor.streams[0], 0, tensor.n_bytes) == their.data.tobytes()


@pytest.mark.parametrize("kind", list(gguf.GGMLQuantizationType), ids=lambda kind: kind.name)
def test_every_ggml_type_is_sized_by_its_blocks(kind: Any, tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> None:
    block_weights, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n_bytes = 3 * 512 // block_weights * block_bytes
    path = tmp_path / "one.gguf"
    path.write_bytes(gguf_bytes([("blk.0.ffn_up.weight", [512, 3], kind.value, 0)], data_bytes=n_bytes))
    (tensor,) = open_model(path).tensors
    assert (tensor.dtype, tensor.shape, tensor.n_bytes) == (kind.name, (3, 512), n_bytes)


def test_files_from_a_big_endian_machine_are_read(tmp_path: Path, write_gguf: Write) -> None:
    path = write_gguf(tmp_path / "big.gguf", "llama", FACTS, LLAMA, big_endian=True)
    model = open_model(path)
    assert model.architecture.d_model == 64
    assert {tensor.name for tensor in model.tensors} == set(LLAMA)


def test_stacked_experts_are_counted_and_facts_read(tmp_path: Path, write_gguf: Write) -> None:
    facts = {"qwen3moe.block_count": 1, "qwen3moe.expert_count": 8, "qwen3moe.expert_used_count": 2}
    tensors = {"blk.0.ffn_up_exps.weight": _zeros(8, 4, 32), "blk.0.ffn_gate_inp.weight": _zeros(8, 32)}
    model = open_model(write_gguf(tmp_path / "moe.gguf", "qwen3moe", facts, tensors))
    stacked = {tensor.name: tensor.n_stacked for tensor in model.tensors}
    assert stacked == {"blk.0.ffn_up_exps.weight": 8, "blk.0.ffn_gate_inp.weight": 1}
    assert (model.architecture.n_experts, model.architecture.n_experts_used) == (8, 2)


def test_a_long_vocabulary_is_counted_without_being_kept(tmp_path: Path, write_gguf: Write) -> None:
    facts = {**FACTS, "tokenizer.ggml.tokens": [f"token{i}" for i in range(5000)]}
    model = open_model(write_gguf(tmp_path / "v.gguf", "llama", facts, LLAMA))
    assert model.architecture.vocab_size == 5000


def _facts(tmp_path: Path, write_gguf: Write, arch: str, facts: dict[str, Any], *names: str) -> Architecture:
    """The architecture of a file with ``facts`` (keys without the family) and small tensors called ``names``."""
    named = {f"{arch}.{key}": value for key, value in facts.items()}
    tensors = {name: _zeros(32, 32) for name in (names or ("token_embd.weight",))}
    return open_model(write_gguf(tmp_path / f"{arch}.gguf", arch, named, tensors)).architecture


def test_gemma_3_has_one_full_layer_in_six_without_saying_so(tmp_path: Path, write_gguf: Write) -> None:
    facts = {
        "block_count": 12, "embedding_length": 2560, "attention.head_count": 8, "attention.head_count_kv": 4,
        "attention.key_length": 256, "attention.value_length": 256, "attention.sliding_window": 1024,
    }  # fmt: skip
    model = _facts(tmp_path, write_gguf, "gemma3", facts)
    assert [layer.window for layer in model.kv_layers] == [1024] * 5 + [None] + [1024] * 5 + [None]
    assert {layer.n_values for layer in model.kv_layers} == {2048}


def test_a_stated_pattern_and_heads_per_layer_are_followed(tmp_path: Path, write_gguf: Write) -> None:
    facts = {
        "block_count": 4, "embedding_length": 1536, "attention.head_count": 8, "attention.head_count_kv": [1, 2, 1, 2],
        "attention.key_length": 512, "attention.value_length": 512, "attention.key_length_swa": 256,
        "attention.value_length_swa": 256, "attention.sliding_window": 512, "attention.shared_kv_layers": 1,
        "attention.sliding_window_pattern": [True, False, True, False],
    }  # fmt: skip
    model = _facts(tmp_path, write_gguf, "gemma4", facts)
    assert model.kv_layers == (KvLayer(512, 512), KvLayer(2048), KvLayer(512, 512), KvLayer(0))


def test_smallthinker_opens_its_period_with_the_full_layer(tmp_path: Path, write_gguf: Write) -> None:
    facts = {
        "block_count": 4, "embedding_length": 64, "attention.head_count": 4, "attention.sliding_window": 4096
    }  # fmt: skip
    model = _facts(tmp_path, write_gguf, "smallthinker", facts)
    assert [layer.window for layer in model.kv_layers] == [None, 4096, 4096, 4096]


def test_phi3_files_state_a_window_that_llama_cpp_does_not_apply(tmp_path: Path, write_gguf: Write) -> None:
    facts = {"block_count": 2, "embedding_length": 64, "attention.head_count": 4, "attention.sliding_window": 2047}
    assert {layer.window for layer in _facts(tmp_path, write_gguf, "phi3", facts).kv_layers} == {None}


def test_deepseek_keeps_the_latent_and_the_rotary_key(tmp_path: Path, write_gguf: Write) -> None:
    facts = {
        "block_count": 3, "embedding_length": 7168, "attention.head_count": 128, "attention.head_count_kv": 1,
        "attention.kv_lora_rank": 512, "rope.dimension_count": 64,
    }  # fmt: skip
    assert _facts(tmp_path, write_gguf, "deepseek2", facts).kv_layers == (KvLayer(576),) * 3


def test_lfm2_convolves_where_it_has_no_kv_heads(tmp_path: Path, write_gguf: Write) -> None:
    facts = {
        "block_count": 2, "embedding_length": 1024, "attention.head_count": 16, "attention.head_count_kv": [0, 8],
        "shortconv.l_cache": 3,
    }  # fmt: skip
    model = _facts(tmp_path, write_gguf, "lfm2", facts, "blk.0.shortconv.in_proj.weight", "blk.1.attn_k.weight")
    assert model.kv_layers == (KvLayer(0, None, 8192), KvLayer(1024))


def test_qwen35_keeps_a_state_where_it_has_no_key_projection(tmp_path: Path, write_gguf: Write) -> None:
    facts = {
        "block_count": 2, "embedding_length": 1024, "attention.head_count": 8, "attention.head_count_kv": 2,
        "attention.key_length": 256, "attention.value_length": 256, "ssm.inner_size": 4096, "ssm.state_size": 128,
        "ssm.conv_kernel": 4, "ssm.group_count": 16,
    }  # fmt: skip
    names = ("blk.0.attn_qkv.weight", "blk.0.ssm_out.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight")
    state_bytes = 4 * (3 * (4096 + 2 * 16 * 128) + 4096 * 128)
    assert _facts(tmp_path, write_gguf, "qwen35", facts, *names).kv_layers == (
        KvLayer(0, None, state_bytes),
        KvLayer(1024),
    )


@pytest.mark.parametrize("opened", ["", "m-00001-of-00003.gguf", "m-00003-of-00003.gguf"])
def test_any_part_of_a_split_model_opens_all(opened: str, tmp_path: Path, write_gguf: Write) -> None:
    names = list(LLAMA)
    for no, inside in enumerate((names[:1], names[1:5], names[5:])):
        facts = {**(FACTS if no == 0 else {}), "split.no": no, "split.count": 3, "split.tensors.count": len(names)}
        write_gguf(tmp_path / f"m-0000{no + 1}-of-00003.gguf", "llama", facts, {name: LLAMA[name] for name in inside})
    model = open_model(tmp_path / opened)
    assert model.name == "m"
    assert len(model.files) == 3
    assert {tensor.name for tensor in model.tensors} == set(LLAMA)
    assert model.architecture.n_layers == 2
