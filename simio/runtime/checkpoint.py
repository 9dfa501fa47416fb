"""Write a Llama-like checkpoint as the transformers library keeps it, from matrices given one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.paths import write_whole

Array = npt.NDArray[Any]

#: Weights of a matrix (its name and shape ``(n_out, n_in)``) as float32.
Source = Callable[[str, tuple[int, int]], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a dense Llama is made of, under the names of its ``config.json``."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    max_position_embeddings: int = 2048

    def matrices(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Every matrix with its shape: the table, layer by layer, the head."""
        d, ff, vocab = self.hidden_size, self.intermediate_size, self.vocab_size
        kv = d // self.num_attention_heads * self.num_key_value_heads
        yield "model.embed_tokens", (vocab, d)
        for n in range(self.num_hidden_layers):
            layer = f"model.layers.{n}"
            for name, rows in (("q_proj", d), ("k_proj", kv), ("v_proj", kv), ("o_proj", d)):
                yield f"{layer}.self_attn.{name}", (rows, d)
            yield f"{layer}.mlp.gate_proj", (ff, d)
            yield f"{layer}.mlp.up_proj", (ff, d)
            yield f"{layer}.mlp.down_proj", (d, ff)
        yield "lm_head", (vocab, d)

    def norms(self) -> list[str]:
        """The names of all norms."""
        layers = [f"model.layers.{n}.{which}" for n in range(self.num_hidden_layers) for which in _NORMS]
        return [*layers, "model.norm"]


_NORMS = ("input_layernorm", "post_attention_layernorm")

#: How a matrix is stored: the tensors to write, by what follows its name.
Storing = Callable[[npt.NDArray[np.float32]], dict[str, Array]]


def int8_per_tensor(weights: npt.NDArray[np.float32]) -> dict[str, Array]:
    """Symmetric INT8 with one scale, the largest magnitude ÷ 127 (W8A16 of compressed-tensors)."""
    scale = np.float32(max(float(np.abs(weights).max()), 1e-12) / 127)
    return {".weight": _codes(weights / scale), ".weight_scale": np.array([scale], np.float32)}


def int8_per_channel(weights: npt.NDArray[np.float32]) -> dict[str, Array]:
    """Symmetric INT8 with one scale per output channel."""
    scale = np.maximum(np.abs(weights).max(axis=1, keepdims=True), np.float32(1e-12)) / np.float32(127)
    return {".weight": _codes(weights / scale), ".weight_scale": scale.astype(np.float32)}


def bfloat16(weights: npt.NDArray[np.float32]) -> dict[str, Array]:
    """The upper half of IEEE single precision, rounded to nearest even."""
    bits = weights.view(np.uint32)
    return {".weight": ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)}


def float16(weights: npt.NDArray[np.float32]) -> dict[str, Array]:
    """IEEE half precision."""
    return {".weight": weights.astype(np.float16)}


def _codes(scaled: npt.NDArray[np.float32]) -> Array:
    return np.rint(scaled).astype(np.int8)


def write_checkpoint(folder: Path, shape: Shape, weights: Source, storing: Storing) -> None:
    """Write ``config.json`` and ``model.safetensors`` to ``folder``, which is made.

    The embedding table is stored as float16, norms are 1. Raises ``WriteError`` or ``OSError`` when there is no room.
    """
    tensors: dict[str, Array] = {f"{name}.weight": np.ones(shape.hidden_size, np.float32) for name in shape.norms()}
    for name, size in shape.matrices():
        stored = (float16 if name == "model.embed_tokens" else storing)(weights(name, size))
        tensors |= {name + suffix: value for suffix, value in stored.items()}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, **asdict(shape)}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.json", json.dumps(config, indent=1))
    write_whole(folder / "model.safetensors", _safetensors(tensors))


#: numpy type → name in the file; numpy has no bfloat16, whose bits are kept in 16-bit words here.
_DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int8": "I8"}


def _safetensors(tensors: dict[str, Array]) -> bytes:
    """The file (https://github.com/huggingface/safetensors#format); the package's numpy side has no bfloat16."""
    header: dict[str, Any] = {}
    at = 0
    for name, value in tensors.items():
        header[name] = {
            "dtype": _DTYPES[value.dtype.name],
            "shape": value.shape,
            "data_offsets": [at, at + value.nbytes],
        }
        at += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(value.tobytes() for value in tensors.values())])
