"""Whatever happens to the bytes of a model file, the answer is a consistent model or one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simio.errors import SimioError
from simio.formats.opening import open_model
from simio.formats.summary import summarize
from simio.formats.weights import WeightsReader
from simio.records.model import Model

Build = Callable[..., bytes]
Mutation = tuple[str, int, int]

#: what to do, where (wrapped to the file's length) and with which byte or how many
mutations = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "drop", "insert"]), st.integers(0, 5000), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


def _mutate(data: bytes, steps: list[Mutation]) -> bytes:
    for what, where, value in steps:
        at = where % (len(data) or 1)
        match what:
            case "flip":
                data = data[:at] + bytes([value]) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "drop":
                data = data[:at] + data[at + value % 16 :]
            case "insert":
                data = data[:at] + bytes([value]) * 8 + data[at:]
    return data


def _open(path: Path) -> Model | SimioError:
    try:
        return open_model(path)
    except SimioError as error:
        return error


def _opens_or_refuses(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    model = _open(path)
    if isinstance(model, SimioError):
        assert model.message
        assert model.hint
        return
    assert model.n_bytes == len(data)
    assert summarize(model).to_json()["n_tensors"] == len(model.tensors)
    with WeightsReader(model) as weights:
        for tensor in model.tensors:
            assert sum(len(weights.read(s, 0, s.n_bytes)) for s in tensor.streams) == tensor.n_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def tiny_safetensors(safetensors_bytes: Build) -> bytes:
    return safetensors_bytes(
        {
            "model.embed_tokens.weight": ("F16", [8, 4]),
            "model.layers.0.self_attn.k_proj.qweight": ("I32", [1, 8]),
            "model.layers.0.self_attn.k_proj.scales": ("F16", [1, 8]),
            "model.layers.0.mlp.experts.3.up_proj.weight": ("BF16", [4, 4]),
        },
        metadata={"format": "pt"},
    )


@pytest.fixture(scope="module")
def tiny_gguf(gguf_bytes: Build) -> bytes:
    tensors = [("token_embd.weight", [32, 8], 0, 0), ("blk.0.attn_k.weight", [256, 2], 12, 1024)]
    return gguf_bytes(tensors, data_bytes=1024 + 288)


@settings(max_examples=400, deadline=2000)
@given(steps=mutations)
@example(steps=[("flip", 3, 0x7F)])
@example(steps=[("flip", 7, 0xFF)])
def test_a_mutated_safetensors_file_never_surprises(
    steps: list[Mutation], folder: Path, tiny_safetensors: bytes
) -> None:
    _opens_or_refuses(folder / "fuzz.safetensors", _mutate(tiny_safetensors, steps))


@settings(max_examples=400, deadline=2000)
@given(steps=mutations)
@example(steps=[("flip", 15, 0xFF)])
@example(steps=[("flip", 4, 0)])
def test_a_mutated_gguf_file_never_surprises(steps: list[Mutation], folder: Path, tiny_gguf: bytes) -> None:
    _opens_or_refuses(folder / "fuzz.gguf", _mutate(tiny_gguf, steps))


def test_every_single_byte_of_a_gguf_header_may_be_wrong(folder: Path, tiny_gguf: bytes) -> None:
    for at in range(len(tiny_gguf) - 1312):
        for value in (0x00, 0x7F, 0xFF):
            _opens_or_refuses(folder / "byte.gguf", tiny_gguf[:at] + bytes([value]) + tiny_gguf[at + 1 :])


def test_every_single_byte_of_a_safetensors_header_may_be_wrong(folder: Path, tiny_safetensors: bytes) -> None:
    for at in range(8 + int.from_bytes(tiny_safetensors[:8], "little")):
        for value in (0x00, 0x22, 0x39, 0xFF):
            data = tiny_safetensors[:at] + bytes([value]) + tiny_safetensors[at + 1 :]
            _opens_or_refuses(folder / "byte.safetensors", data)


@settings(max_examples=100, deadline=2000)
@given(data=st.binary(max_size=300))
def test_noise_is_refused_under_any_name(data: bytes, folder: Path) -> None:
    for name in ("noise.gguf", "noise.safetensors", "noise", "model.safetensors.index.json"):
        _refuse_noise(folder / name, data)


def _refuse_noise(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(SimioError) as caught:
        open_model(path)
    assert caught.value.hint
