"""The decoder in torch against the textbook in float64, and against what `simio run` computes."""

from __future__ import annotations

import json
from pathlib import Path

import decoders
import numpy as np
import pytest
import torch
from decoders import Shape

from simio.errors import ModelFileError, UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.quality.decoder import Past, through, to_torch
from simio.quality.opening import opened
from simio.records.model import Model
from simio.runtime.forward import Decoder
from simio.runtime.hyperparameters import Files, hyperparameters
from simio.runtime.in_ram import InRamWeights, read_small
from simio.runtime.kernels import one_blas_thread

PROMPT = [1, 17, 94, 3, 3, 60, 8]

GGUF = {
    "llama": Shape(),
    "tied llama": Shape(is_tied=True, n_kv_heads=4),
    "qwen2": Shape("qwen2", has_bias=True, theta=1e6),
    "qwen3": Shape("qwen3", head_dim=32, has_head_norms=True),
}
TRANSFORMERS = {
    "llama": Shape(),
    "mistral": Shape(),
    "qwen2": Shape("qwen2", has_bias=True, is_tied=True),
    "qwen3": Shape("qwen3", has_head_norms=True),
}


def all_logits(model: Model, tokens: list[int]) -> np.ndarray:
    """The logits behind every one of ``tokens``."""
    with opened(model) as it:
        outer = to_torch(it.weights.outer())
        states = it.decoder.embed(outer, torch.tensor([tokens]))
        for layer in range(it.blueprint.shape.n_layers):
            through(it.decoder, to_torch(it.weights.layer(layer)), states)
        return it.decoder.logits(outer, states)[0].numpy()


def run_logits(model: Model, tokens: list[int]) -> np.ndarray:
    """What `simio run` computes behind the last of ``tokens``."""
    shape = hyperparameters(model, Files(model))
    with (
        WeightsReader(model) as reader,
        one_blas_thread(),
        Decoder(model, shape, InRamWeights(model, reader)) as decoder,
    ):
        return decoder.feed(tokens).copy()


def assert_close(got: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", GGUF)
def test_gguf_decoders_compute_the_textbook(name: str, tmp_path: Path) -> None:
    shape = GGUF[name]
    arrays = decoders.random_arrays(shape)
    decoders.write_gguf(tmp_path / "m.gguf", shape, arrays)
    model = open_model(tmp_path / "m.gguf")
    got = all_logits(model, PROMPT)
    for n in (1, 4, len(PROMPT)):
        neighbours = shape.family == "llama"
        assert_close(got[n - 1], decoders.expected_logits(shape, arrays, PROMPT[:n], neighbours))
    assert_close(got[-1], run_logits(model, PROMPT), 2e-3)  # which keeps keys and values as float16


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_decoders_compute_the_textbook(name: str, tmp_path: Path) -> None:
    shape = TRANSFORMERS[name]
    arrays = decoders.random_arrays(shape)
    decoders.write_transformers(tmp_path / "m", shape, arrays, name)
    expected = decoders.expected_logits(shape, arrays, PROMPT, neighbours=False)
    assert_close(all_logits(open_model(tmp_path / "m"), PROMPT)[-1], expected)


def test_a_trained_model_computes_the_textbook(shared: Path) -> None:
    model = open_model(shared / "models/stories260K-fp32")
    shape = Shape(n_layers=5, d_model=64, n_heads=8, n_kv_heads=4, head_dim=8, d_ff=172, is_tied=True)
    with WeightsReader(model) as reader:
        arrays = {t.name: read_small(t, reader) for t in model.tensors if t.role != "other"}
    tokens = [1, 403, 407, 261, 378, 432, 383, 286]
    got = all_logits(model, tokens)[-1]
    assert_close(got, decoders.expected_logits(shape, arrays, tokens, neighbours=True))
    assert_close(got, run_logits(model, tokens), 2e-3)


def test_weights_stored_as_q8_0_are_computed_with(tmp_path: Path) -> None:
    shape = Shape("qwen3", has_head_norms=True)
    arrays = decoders.random_arrays(shape)
    decoders.write_gguf(tmp_path / "m.gguf", shape, arrays, "Q8_0")
    expected = decoders.expected_logits(shape, arrays, PROMPT, neighbours=False)
    assert_close(all_logits(open_model(tmp_path / "m.gguf"), PROMPT)[-1], expected)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_gpt2_computes_the_textbook(activation: str, tmp_path: Path) -> None:
    arrays = write_gpt2(tmp_path / "m", activation)
    expected = gpt2_logits(arrays, activation, PROMPT)
    assert_close(all_logits(open_model(tmp_path / "m"), PROMPT), expected)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_token_at_a_time_is_the_same(name: str, tmp_path: Path) -> None:
    if name == "gpt2":
        write_gpt2(tmp_path / "m", "gelu_new")
    else:
        decoders.write_transformers(tmp_path / "m", Shape(), decoders.random_arrays(Shape()), name)
    model = open_model(tmp_path / "m")
    expected = all_logits(model, PROMPT)
    with opened(model) as it:
        outer = to_torch(it.weights.outer())
        layers = [to_torch(it.weights.layer(n)) for n in range(it.blueprint.shape.n_layers)]
        pasts = [Past() for _ in layers]
        for position, token in enumerate(PROMPT):
            x = it.decoder.embed(outer, torch.tensor([[token]]), position)
            for weights, past in zip(layers, pasts, strict=True):
                x = it.decoder.layer(weights, x, past=past)
            assert_close(it.decoder.logits(outer, x)[0, 0].numpy(), expected[position])


def test_a_mixture_is_refused(tmp_path: Path) -> None:
    shape = Shape(n_experts=4)
    decoders.write_transformers(tmp_path / "m", shape, decoders.random_arrays(shape), "mixtral")
    with pytest.raises(UsageError, match="mixture of experts"), opened(open_model(tmp_path / "m")):
        pass


def test_an_unknown_family_is_refused_with_those_that_can(tmp_path: Path) -> None:
    decoders.write_transformers(tmp_path / "m", Shape(), decoders.random_arrays(Shape()), "gemma3")
    with pytest.raises(UsageError, match="gemma3") as refused, opened(open_model(tmp_path / "m")):
        pass
    assert "gpt2" in refused.value.hint
    assert "qwen3" in refused.value.hint


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("hidden_act", "gelu_fast", "gelu_fast"), ("scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse")],
)
def test_what_would_be_computed_wrongly_is_refused(key: str, value: object, says: str, tmp_path: Path) -> None:
    write_gpt2(tmp_path / "m", "relu")
    config = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(UsageError, match=says), opened(open_model(tmp_path / "m")):
        pass


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    arrays = decoders.random_arrays(Shape())
    arrays["blk.0.attn_gate.weight"] = np.ones((64, 64), np.float32)
    decoders.write_gguf(tmp_path / "m.gguf", Shape(), arrays)
    with pytest.raises(UsageError, match="attn_gate"), opened(open_model(tmp_path / "m.gguf")):
        pass


@pytest.mark.parametrize("missing", ["token_embd.weight", "output_norm.weight", "blk.1.attn_k.weight"])
def test_a_missing_tensor_is_named(missing: str, tmp_path: Path) -> None:
    arrays = decoders.random_arrays(Shape())
    del arrays[missing]
    decoders.write_gguf(tmp_path / "m.gguf", Shape(), arrays)
    with pytest.raises(ModelFileError, match=missing.split(".")[-2]):
        all_logits(open_model(tmp_path / "m.gguf"), PROMPT)


# --- a tiny GPT-2 ---------------------------------------------------------------------------------------------------

D, HEADS, LAYERS, FF = 32, 4, 2, 80


def write_gpt2(folder: Path, activation: str) -> dict[str, np.ndarray]:
    """A random checkpoint as the transformers library saves it, matrices (n_in, n_out), and its arrays."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(3)
    shapes = {"wte.weight": (decoders.VOCAB, D), "wpe.weight": (128, D)}
    for n in range(LAYERS):
        for name, size in (
            ("attn.c_attn", (D, 3 * D)),
            ("attn.c_proj", (D, D)),
            ("mlp.c_fc", (D, FF)),
            ("mlp.c_proj", (FF, D)),
        ):
            shapes |= {f"h.{n}.{name}.weight": size, f"h.{n}.{name}.bias": size[1:]}
        shapes |= {f"h.{n}.ln_{i}.{end}": (D,) for i in (1, 2) for end in ("weight", "bias")}
    shapes |= {"ln_f.weight": (D,), "ln_f.bias": (D,)}
    arrays = {name: (0.4 * rng.standard_normal(size)).astype(np.float32) for name, size in shapes.items()}
    folder.mkdir()
    save_file({f"transformer.{name}": array for name, array in arrays.items()}, folder / "model.safetensors")
    config = {
        "model_type": "gpt2", "activation_function": activation, "n_layer": LAYERS, "n_embd": D, "n_head": HEADS,
        "n_positions": 128, "vocab_size": decoders.VOCAB, "layer_norm_epsilon": 1e-5,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return arrays


def gpt2_logits(arrays: dict[str, np.ndarray], activation: str, tokens: list[int]) -> np.ndarray:
    w = {name: array.astype(np.float64) for name, array in arrays.items()}

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return centred / scale * w[name + ".weight"] + w[name + ".bias"]

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[name + ".weight"] + w[name + ".bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    for n in range(LAYERS):
        q, k, v = np.split(linear(f"h.{n}.attn.c_attn", norm(f"h.{n}.ln_1", x)), 3, axis=1)
        mixed = np.zeros_like(q)
        for head in np.split(np.arange(D), HEADS):
            for t in range(len(tokens)):
                score = np.exp(k[: t + 1, head] @ q[t, head] / np.sqrt(D // HEADS))
                mixed[t, head] = score / score.sum() @ v[: t + 1, head]
        x = x + linear(f"h.{n}.attn.c_proj", mixed)
        h = linear(f"h.{n}.mlp.c_fc", norm(f"h.{n}.ln_2", x))
        tanh = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + linear(f"h.{n}.mlp.c_proj", tanh if activation == "gelu_new" else np.maximum(h, 0))
    return norm("ln_f", x) @ w["wte.weight"].T
