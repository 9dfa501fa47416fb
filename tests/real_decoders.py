"""Complete trained decoders out of ``../shared/models`` as the transformers library would save them.

``craftgpt`` (TinyChat, 5.09 M parameters): github.com/intgrah/craftgpt, whose emulator says how its bytes lie and what
they mean. A GPT-2 with ReLU, without biases, its head a matrix of its own. The emulator divides scores by the root of
the model's width (240). Divided by that of a head's (48), as GPT-2 does and as here, what it writes makes more sense
and English chat is likelier (perplexity 7.0 instead of 10.1), so it was presumably trained like that.

``bitllama-1m`` and ``-3m`` (TinyStories): github.com/HKUSTGZ-MICS-LYU/bitllama2.c. BitNet decoders: every norm in the
layers is ``x / rms(x) / n``, two of them in front of the output projections. Their activations, which ``runbit.c``
rounds to INT8 a token, stay float32. Queries and keys rotate neighbours there; the transformers library rotates halves,
hence the change of rows.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

MODELS = Path(__file__).parents[2] / "shared" / "models"

Arrays = dict[str, np.ndarray]


def real_decoders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every complete decoder there is, converted into ``folder`` where need be."""
    if (MODELS / "stories260K-fp32").is_dir():
        yield "stories260k", MODELS / "stories260K-fp32" / "stories260K.bin"
    for name, convert in CONVERTED.items():
        if not (folder / name).is_dir() and MODELS.is_dir():
            convert(folder / name)
        if (folder / name).is_dir():
            yield name, folder / name


# --- CraftGPT -------------------------------------------------------------------------------------------------------

_CRAFT = MODELS / "craftgpt-5m-8bit" / "weights" / "weight_files"
_WIDTH, _HEADS, _LAYERS, _FF = 240, 5, 6, 960
#: How the characters of its vocabulary are numbered: letters from 0x20, the space before a word 0x3f.
_LETTERS = {0x20 + i: chr(ord("a") + i) for i in range(26)} | {0x3F: " ", 0x11: "?", 0x12: ".", 0x13: ","}


def write_craftgpt(folder: Path) -> None:
    """The model as a GPT-2 checkpoint."""
    arrays: Arrays = {
        "transformer.wte.weight": _fixed18(f"embedding/wte_{i}.bin" for i in range(1, 61)),
        "transformer.wpe.weight": _fixed18(f"embedding/wpe_{i}.bin" for i in (1, 2)),
        "lm_head.weight": np.concatenate([_woven("unembedding/lm_head_{}.bin", 1 + 24 * i, 20) for i in (0, 1)]),
    }
    for layer in range(_LAYERS):
        rows = _woven("attention/att_{}.bin", 1 + 24 * layer, 20).reshape(20, 48, _WIDTH)
        key, value, query = (rows[part:15:3].reshape(_WIDTH, _WIDTH) for part in range(3))
        h = f"transformer.h.{layer}."
        up = _woven("mlp/mlp_{}.bin", 1 + 48 * layer, 20)
        down = _woven("mlp/mlp_{}.bin", 25 + 48 * layer, 5, _FF)
        arrays |= _conv1d(h + "attn.c_attn", np.concatenate([query, key, value]))
        arrays |= _conv1d(h + "attn.c_proj", rows[15:].reshape(_WIDTH, _WIDTH))
        arrays |= _conv1d(h + "mlp.c_fc", up) | _conv1d(h + "mlp.c_proj", down)
        arrays |= _layer_norm(h + "ln_1", 2 * layer + 1) | _layer_norm(h + "ln_2", 2 * layer + 2)
    arrays |= _layer_norm("transformer.ln_f", 2 * _LAYERS + 1)
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "relu", "n_layer": _LAYERS,
        "n_embd": _WIDTH, "n_head": _HEADS, "n_inner": _FF, "n_positions": 64, "vocab_size": 1920,
        "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": None, "tie_word_embeddings": False,
    }  # fmt: skip
    _save(folder, arrays, config)


def craftgpt_tokens(*said: str) -> list[int]:
    """What the user and the assistant say in turn, lower-case: the longest piece that fits, again and again."""
    data = np.fromfile(_CRAFT / "tokens/chars.bin", np.uint8).reshape(-1, 3)[:, 0].tolist()
    starts = np.fromfile(_CRAFT / "tokens/indices.bin", np.uint8).reshape(-1, 3).astype(int) @ (1, 256, 65536)
    ids = {}
    for token, (start, end) in enumerate(pairwise(starts.tolist())):
        if token >= 2 and end > start:  # tokens 0 and 1 stand before what the user and the assistant say
            ids["".join(_LETTERS.get(code, "\0") for code in data[start : end - 1])] = token
    tokens: list[int] = []
    for turn, text in enumerate(said):
        tokens.append(turn % 2)
        rest = " " + text
        while rest:
            piece = next(rest[:n] for n in range(len(rest), 0, -1) if rest[:n] in ids)
            tokens.append(ids[piece])
            rest = rest[len(piece) :]
    return tokens


def _woven(pattern: str, first: int, n_groups: int, width: int = _WIDTH) -> np.ndarray:
    """Twenty-four files from number ``first`` as rows ``(48 · n_groups, width)``.

    File i holds row 2i of every group of 48, then row 2i + 1; odd files hold them the other way round.
    """
    rows = np.empty((n_groups, 48, width), np.float32)
    for i in range(24):
        codes = np.fromfile(_CRAFT / pattern.format(first + i), np.uint8).reshape(2, n_groups, width)
        even, odd = codes if i % 2 == 0 else codes[::-1]
        rows[:, 2 * i], rows[:, 2 * i + 1] = _minifloat(even), _minifloat(odd)
    return rows.reshape(-1, width)


def _minifloat(codes: np.ndarray) -> np.ndarray:
    """Sign and seven bits whose steps grow: c/2048, (c − 32)/1024, (c − 80)/256, (c − 104)/64, (c − 112)/32."""
    c = np.arange(128)
    ranges = [c < 64, c < 96, c < 112, c < 120, c < 128]
    magnitude = np.select(ranges, [c / 2048, (c - 32) / 1024, (c - 80) / 256, (c - 104) / 64, (c - 112) / 32])
    return np.concatenate([magnitude, -magnitude]).astype(np.float32)[codes]


def _fixed18(names: Iterable[str]) -> np.ndarray:
    """18-bit two's complement in three bytes, 18 of them behind the point."""
    data = np.concatenate([np.fromfile(_CRAFT / name, np.uint8) for name in names]).reshape(-1, 3).astype(np.int64)
    values = data @ (1, 256, 65536)
    return ((values - (values >= 1 << 17) * (1 << 18)) / (1 << 18)).astype(np.float32).reshape(-1, _WIDTH)


def _layer_norm(name: str, number: int) -> Arrays:
    data = np.fromfile(_CRAFT / f"layernorm/ln_{number}.bin", np.uint8).reshape(-1, 3).astype(np.int64)
    weight = (data @ (1, 256, 65536) // 2 / (1 << 21)).astype(np.float32)
    return {f"{name}.weight": weight, f"{name}.bias": np.zeros_like(weight)}


def _conv1d(name: str, rows: np.ndarray) -> Arrays:
    return {f"{name}.weight": np.ascontiguousarray(rows.T), f"{name}.bias": np.zeros(len(rows), np.float32)}


# --- bitllama -------------------------------------------------------------------------------------------------------

_TERNARY = np.array([0, 1, 0, -1], np.float32)


def write_bitllama(size: str, folder: Path) -> None:
    """The model of ``size`` (1M, 3M) as a BitNet checkpoint; ``tok512.bin`` of stories260K is its vocabulary."""
    data = (MODELS / "bitllama-ternary" / f"outmini_bit_{size}" / "bit_model.bin").read_bytes()
    _, _, d, ff, n_layers, n_heads, n_kv_heads, vocab, context = struct.unpack_from("<Ii7i", data)
    at = 256

    def floats(*shape: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(data, "<f4", int(np.prod(shape)), at).reshape(shape)
        at += found.nbytes
        return found.copy()

    def ternary(*shape: int) -> np.ndarray:
        """An FP32 scale, then four weights a byte, the first in the upper two bits."""
        nonlocal at
        (scale,), n = floats(1), int(np.prod(shape))
        packed = np.frombuffer(data, np.uint8, n // 4, at)
        at += packed.nbytes
        return (scale * _TERNARY[packed[:, None] >> np.array([6, 4, 2, 0], np.uint8) & 3]).reshape(shape)

    kv = d // n_heads * n_kv_heads
    arrays: Arrays = {"model.norm.weight": floats(d), "model.embed_tokens.weight": floats(vocab, d)}
    shapes = {
        "self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, d), "mlp.gate_proj": (ff, d), "mlp.down_proj": (d, ff), "mlp.up_proj": (ff, d),
    }  # fmt: skip
    for name, shape in shapes.items():
        for layer in range(n_layers):
            rows = ternary(*shape)
            is_turned = name.endswith(("q_proj", "k_proj"))
            arrays[f"model.layers.{layer}.{name}.weight"] = _halves(rows, d // n_heads) if is_turned else rows
    norms = {"input_layernorm": d, "self_attn.attn_sub_norm": d, "post_attention_layernorm": d, "mlp.ffn_sub_norm": ff}
    for layer in range(n_layers):
        for name, n in norms.items():
            arrays[f"model.layers.{layer}.{name}.weight"] = np.full(n, 1 / n, np.float32)
    assert at == len(data), f"{len(data) - at} bytes are left"
    config = {
        "model_type": "bitnet", "architectures": ["BitNetForCausalLM"], "hidden_act": "silu",
        "num_hidden_layers": n_layers, "hidden_size": d, "intermediate_size": ff, "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads, "vocab_size": vocab, "max_position_embeddings": context,
        "rms_norm_eps": 1e-12, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True,
    }  # fmt: skip
    _save(folder, arrays, config)


def _halves(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows whose pairs are neighbours, so that pairs are (i, i + head_dim/2)."""
    pairs = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _save(folder: Path, arrays: Arrays, config: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


CONVERTED: dict[str, Callable[[Path], None]] = {
    "craftgpt": write_craftgpt,
    "bitllama-1m": lambda folder: write_bitllama("1M", folder),
    "bitllama-3m": lambda folder: write_bitllama("3M", folder),
}
