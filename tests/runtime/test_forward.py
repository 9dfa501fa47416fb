"""The forward pass against the textbook in float64, and against itself cut differently."""

from __future__ import annotations

from pathlib import Path

import decoders
import numpy as np
import pytest
from decoders import Shape

from simio.errors import ModelFileError, UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.records.model import Model
from simio.runtime.forward import Decoder
from simio.runtime.hyperparameters import Files, hyperparameters
from simio.runtime.in_ram import InRamWeights
from simio.runtime.kernels import one_blas_thread

PROMPT = [1, 17, 94, 3, 3, 60, 8]

GGUF = {
    "llama": Shape(),
    "tied llama": Shape(is_tied=True, n_kv_heads=4),
    "qwen2": Shape("qwen2", has_bias=True, theta=1e6),
    "qwen3": Shape("qwen3", head_dim=32, has_head_norms=True),
    "mixtral": Shape(n_experts=5),
    "qwen3moe": Shape("qwen3moe", n_experts=8, n_used=3, has_head_norms=True),
}
TRANSFORMERS = {
    "llama": Shape(),
    "mistral": Shape(),
    "qwen2": Shape("qwen2", has_bias=True, is_tied=True),
    "qwen3": Shape("qwen3", has_head_norms=True),
    "mixtral": Shape(n_experts=4),
    "qwen3_moe": Shape("qwen3moe", n_experts=6, has_head_norms=True),
}


def logits(model: Model, pieces: list[list[int]], n_threads: int = 1) -> np.ndarray:
    shape = hyperparameters(model, Files(model))
    with WeightsReader(model) as reader, one_blas_thread():
        weights = InRamWeights(model, reader)
        with Decoder(model, shape, weights, n_threads) as decoder:
            return [decoder.feed(piece) for piece in pieces][-1].copy()


def assert_close(got: np.ndarray, expected: np.ndarray, tolerance: float = 2e-3) -> None:
    """Keys and values are kept as float16, hence the tolerance."""
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", GGUF)
def test_gguf_decoders_compute_the_textbook(name: str, tmp_path: Path) -> None:
    shape = GGUF[name]
    arrays = decoders.random_arrays(shape)
    decoders.write_gguf(tmp_path / "m.gguf", shape, arrays)
    expected = decoders.expected_logits(shape, arrays, PROMPT, neighbours=shape.family == "llama")
    model = open_model(tmp_path / "m.gguf")
    assert_close(logits(model, [PROMPT]), expected)
    assert_close(logits(model, [[token] for token in PROMPT]), expected)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_decoders_compute_the_textbook(name: str, tmp_path: Path) -> None:
    shape = TRANSFORMERS[name]
    arrays = decoders.random_arrays(shape)
    decoders.write_transformers(tmp_path / "m", shape, arrays, name)
    expected = decoders.expected_logits(shape, arrays, PROMPT, neighbours=False)
    assert_close(logits(open_model(tmp_path / "m"), [PROMPT]), expected)


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0", "BF16"])
def test_quantized_decoders_compute_with_their_own_weights(dtype: str, tmp_path: Path) -> None:
    shape = Shape("qwen3", has_head_norms=True)
    arrays = decoders.random_arrays(shape)
    decoders.write_gguf(tmp_path / "m.gguf", shape, arrays, dtype)
    expected = decoders.expected_logits(shape, arrays, PROMPT, neighbours=False)
    assert_close(logits(open_model(tmp_path / "m.gguf"), [PROMPT]), expected)


@pytest.mark.parametrize("shape", [Shape(d_ff=4096, n_layers=1), Shape(n_experts=4)], ids=["dense", "mixture"])
def test_logits_are_the_same_bits_for_any_number_of_threads(shape: Shape, tmp_path: Path) -> None:
    decoders.write_gguf(tmp_path / "m.gguf", shape, decoders.random_arrays(shape))
    model = open_model(tmp_path / "m.gguf")
    pieces = [PROMPT, [5], [6]]
    one = logits(model, pieces, 1)
    for n_threads in (2, 3):
        np.testing.assert_array_equal(logits(model, pieces, n_threads), one)


def test_the_cache_grows_past_its_first_size(tmp_path: Path) -> None:
    shape = Shape(n_layers=1)
    decoders.write_gguf(tmp_path / "m.gguf", shape, decoders.random_arrays(shape))
    model = open_model(tmp_path / "m.gguf")
    tokens = [(7 * i) % decoders.VOCAB for i in range(100)]
    assert_close(logits(model, [tokens[:40], tokens[40:99], tokens[99:]]), logits(model, [tokens]))


def test_after_a_reset_the_text_begins_anew(tmp_path: Path) -> None:
    shape = Shape(n_layers=1)
    decoders.write_gguf(tmp_path / "m.gguf", shape, decoders.random_arrays(shape))
    model = open_model(tmp_path / "m.gguf")
    facts = hyperparameters(model, Files(model))
    with WeightsReader(model) as reader, Decoder(model, facts, InRamWeights(model, reader)) as decoder:
        first = decoder.feed(PROMPT).copy()
        assert decoder.n_positions == len(PROMPT)
        decoder.reset()
        assert decoder.n_positions == 0
        np.testing.assert_array_equal(decoder.feed(PROMPT), first)


def test_an_architecture_outside_the_family_is_named(tmp_path: Path) -> None:
    shape = Shape("gemma2")
    decoders.write_gguf(tmp_path / "m.gguf", shape, decoders.random_arrays(shape))
    model = open_model(tmp_path / "m.gguf")
    with pytest.raises(UsageError, match="gemma2") as error:
        hyperparameters(model, Files(model))
    assert "qwen3moe" in error.value.hint


def test_a_rotary_scaling_that_is_not_known_is_named(tmp_path: Path) -> None:
    import gguf

    shape = Shape()
    arrays = decoders.random_arrays(shape)
    decoders.write_gguf(tmp_path / "m.gguf", shape, arrays, rope_scaling_type=gguf.RopeScalingType.YARN)
    model = open_model(tmp_path / "m.gguf")
    with pytest.raises(UsageError, match="yarn"):
        hyperparameters(model, Files(model))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    shape = Shape()
    arrays = decoders.random_arrays(shape)
    del arrays["blk.1.attn_v.weight"]
    decoders.write_gguf(tmp_path / "m.gguf", shape, arrays)
    with pytest.raises(ModelFileError, match="attn_v of layer 1"):
        logits(open_model(tmp_path / "m.gguf"), [PROMPT])


@pytest.mark.parametrize(("tokens", "what"), [([], "no tokens"), ([96], "token 96"), ([1] * 129, "128 tokens")])
def test_tokens_that_cannot_be_fed_are_refused(tokens: list[int], what: str, tmp_path: Path) -> None:
    shape = Shape(n_layers=1)
    decoders.write_gguf(tmp_path / "m.gguf", shape, decoders.random_arrays(shape))
    with pytest.raises(UsageError, match=what):
        logits(open_model(tmp_path / "m.gguf"), [tokens])
