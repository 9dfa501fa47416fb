"""Small models of every kind a container takes, and what a container of them should give back."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simio.container.codec_choice import CodecChoice
from simio.container.packing import Packed, pack
from simio.units import KIB

CHUNK = 16 * KIB
_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
}  # fmt: skip
CONFIG = {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4}

#: name → (dtype, shape) of the arrays of one safetensors file
Arrays = dict[str, tuple[str, list[int]]]


def gaussian(n_bytes: int, seed: int = 0) -> bytes:
    """BF16 weights as a trained model has them: they shrink under every codec."""
    values = np.random.default_rng(seed).standard_normal(n_bytes // 2 + 1).astype("<f4") * np.float32(0.02)
    return (values.view("<u4") >> 16).astype("<u2").tobytes()[:n_bytes]


def write_safetensors(path: Path, arrays: Arrays) -> Path:
    """A file with Gaussian bits in every array."""
    header, body = {}, b""
    for seed, (name, (dtype, shape)) in enumerate(arrays.items()):
        data = gaussian(math.prod(shape) * _BYTES.get(dtype, 1), seed)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def write_gguf(path: Path, facts: dict[str, Any], tensors: dict[str, Any]) -> Path:
    """A GGUF file from ``name → array`` or ``name → (raw array, ggml type)``."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    for key, value in facts.items():
        writer.add_array(key, value) if isinstance(value, list) else writer.add_uint32(key, value)
    for name, value in tensors.items():
        array, kind = value if isinstance(value, tuple) else (value, None)
        writer.add_tensor(name, np.ascontiguousarray(array), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def plain(folder: Path) -> Path:
    """Every dtype of safetensors, odd sizes, an empty tensor, one that fills several chunks, companions."""
    arrays: Arrays = {
        f"model.layers.0.{dtype.lower()}.weight": (dtype, [37, 3])
        for dtype in (*_BYTES, "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL")
    }
    arrays |= {"empty": ("F16", [0, 4]), "lm_head.weight": ("BF16", [300, 64]), "byte": ("U8", [1])}
    write_safetensors(folder / "model.safetensors", arrays)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"ö": 1}}}')
    return folder


def sharded(folder: Path) -> Path:
    """Two shards with an index."""
    shards = {
        "model-00001-of-00002.safetensors": {"model.embed_tokens.weight": ("BF16", [500, 64])},
        "model-00002-of-00002.safetensors": {"model.layers.0.mlp.up_proj.weight": ("F32", [200, 64])},
    }
    for file, arrays in shards.items():
        write_safetensors(folder / file, arrays)
    home = {name: file for file, arrays in shards.items() for name in arrays}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": home}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def gptq(folder: Path) -> Path:
    """One tensor of four streams."""
    stem, n_out, n_in = "model.layers.0.mlp.down_proj", 256, 512
    arrays: Arrays = {
        f"{stem}.g_idx": ("I32", [n_in]),
        f"{stem}.qweight": ("I32", [n_in // 8, n_out]),
        f"{stem}.qzeros": ("I32", [n_in // 128, n_out // 8]),
        f"{stem}.scales": ("F16", [n_in // 128, n_out]),
    }
    write_safetensors(folder / "model.safetensors", arrays)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": {"bits": 4}}))
    return folder


def mxfp4(folder: Path) -> Path:
    """Four stacked experts of two streams, as in gpt-oss."""
    stem = "model.layers.0.mlp.experts.down_proj"
    arrays: Arrays = {f"{stem}_blocks": ("U8", [4, 64, 20, 16]), f"{stem}_scales": ("U8", [4, 64, 20])}
    write_safetensors(folder / "model.safetensors", arrays)
    return folder


def gguf_moe(folder: Path) -> Path:
    """Stacked experts in Q4_K, a long vocabulary, odd tensors with padding between them."""
    import gguf

    experts = np.frombuffer(gaussian(6 * 64 * 144), np.uint8).reshape(6, 64, 144)
    facts = {"llama.block_count": 1, "llama.expert_count": 6, "llama.expert_used_count": 2}
    facts["tokenizer.ggml.tokens"] = [f"token {i}" for i in range(5000)]
    tensors = {
        "token_embd.weight": np.frombuffer(gaussian(4 * 64 * 100), "<f4").reshape(100, 64),
        "blk.0.ffn_up_exps.weight": (experts, gguf.GGMLQuantizationType.Q4_K),
        "blk.0.attn_norm.weight": np.ones(33, np.float32),
        "output_norm.weight": np.ones(65, np.float32),
    }
    return write_gguf(folder / "moe.gguf", facts, tensors)


def gguf_split(folder: Path) -> Path:
    """A model in two parts."""
    for no, name in enumerate(("token_embd.weight", "output.weight")):
        facts = {"split.no": no, "split.count": 2, "llama.block_count": 0}
        array = np.frombuffer(gaussian(4 * 64 * 200, no), "<f4").reshape(200, 64)
        write_gguf(folder / f"big-{no + 1:05d}-of-00002.gguf", facts, {name: array})
    return folder / "big-00001-of-00002.gguf"


KINDS: dict[str, Callable[[Path], Path]] = {
    "plain": plain, "sharded": sharded, "gptq": gptq, "mxfp4": mxfp4, "gguf_moe": gguf_moe, "gguf_split": gguf_split,
}  # fmt: skip


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model of each kind, in a directory of its own."""
    (tmp_path / "source").mkdir()
    return KINDS[request.param](tmp_path / "source")


@pytest.fixture
def moe(tmp_path: Path) -> Path:
    """The GGUF model with experts."""
    (tmp_path / "source").mkdir()
    return gguf_moe(tmp_path / "source")


@pytest.fixture
def packed(moe: Path, tmp_path: Path) -> Packed:
    """That model in a container."""
    return pack(moe, tmp_path / "model.simio", CodecChoice.everywhere("zstd:1"), chunk_bytes=CHUNK)


@pytest.fixture(scope="session")
def big_builder() -> Callable[[Path], Path]:
    """Write 12 MB into one file of a folder: enough to be interrupted."""
    return lambda folder: write_safetensors(
        folder / "big.safetensors", {f"w{i}": ("BF16", [1500, 1000]) for i in range(4)}
    )


@pytest.fixture
def big(tmp_path: Path, big_builder: Callable[[Path], Path]) -> Path:
    """That file."""
    return big_builder(tmp_path)
