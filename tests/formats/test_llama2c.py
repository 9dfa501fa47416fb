"""llama2.c checkpoints: recognised by the arithmetic of their size, cut into tensors."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from simio.errors import ModelFileError
from simio.formats.llama2c import Llama2c
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader

DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, SEQ = 16, 24, 3, 4, 2, 10, 8


def checkpoint(vocab: int = VOCAB, extra: int = 0) -> bytes:
    """A file whose float32 numbers count up from 0."""
    kv_dim, half = DIM * KV_HEADS // HEADS, DIM // HEADS // 2
    n = VOCAB * DIM + LAYERS * (2 * DIM + 2 * DIM * DIM + 2 * kv_dim * DIM + 3 * HIDDEN * DIM) + DIM + 2 * SEQ * half
    n += VOCAB * DIM if vocab < 0 else 0
    header = struct.pack("<7i", DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, vocab, SEQ)
    return header + np.arange(n + extra, dtype="<f4").tobytes()


def test_arrays_over_layers_become_a_tensor_a_layer(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(checkpoint())
    model = open_model(tmp_path)
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    assert shapes["blk.2.attn_k.weight"] == (8, 16)
    assert shapes["blk.0.ffn_down.weight"] == (16, 24)
    assert [t.layer for t in model.tensors if "attn_norm" in t.name] == [0, 1, 2]
    tensors = {tensor.name: tensor for tensor in model.tensors}
    with WeightsReader(model) as reader:
        stream = tensors["blk.1.attn_q.weight"].streams[0]
        first = np.frombuffer(reader.read(stream, 0, 4), "<f4")[0]
    assert first == VOCAB * DIM + LAYERS * DIM + DIM * DIM
    assert sum(t.n_bytes for t in model.tensors) + 28 == model.n_bytes


def test_facts_and_roles_are_known(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(checkpoint())
    model = open_model(tmp_path / "m.bin")
    a = model.architecture
    assert (a.family, a.n_layers, a.n_kv_heads, a.head_dim, a.context_length) == ("llama", 3, 2, 4, 8)
    assert a.tied_embeddings
    assert {t.name for t in model.tensors if t.role == "other"} == {"freq_cis_real", "freq_cis_imag"}


def test_a_negative_vocabulary_means_a_head_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(checkpoint(-VOCAB))
    model = open_model(tmp_path / "m.bin")
    assert not model.architecture.tied_embeddings
    assert model.architecture.vocab_size == VOCAB
    assert model.tensors[-1].name == "output.weight"


@pytest.mark.parametrize(
    ("size", "says"), [(29, "truncated"), (5000, "truncated"), (-1, "truncated"), (4, "not a checkpoint")]
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_file_of_another_size_says_what_its_header_asks_for(
    size: int, says: str, whole: bool, tmp_path: Path
) -> None:
    data = checkpoint()
    cut = data[:size] if says == "truncated" else data + bytes(size)
    (tmp_path / "m.bin").write_bytes(cut)
    with pytest.raises(ModelFileError, match=f"asks for {len(data)} bytes, the file has {len(cut)}: {says}"):
        open_model(tmp_path / "m.bin" if whole else tmp_path)


@pytest.mark.parametrize("data", [b"", b"short", b"\x80\x02}q\x00." * 20, struct.pack("<7i", *[2**31 - 1] * 7) + b"x"])
def test_other_files_called_bin_are_not_claimed(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(data)
    assert not Llama2c.sniff(tmp_path / "m.bin")


def test_two_models_in_a_directory_are_named(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(checkpoint())
    with pytest.raises(ModelFileError, match=r"2 llama2\.c models") as error:
        open_model(tmp_path)
    assert "a.bin, b.bin" in error.value.hint


def test_the_vocabulary_beside_the_model_is_packed_with_it(tmp_path: Path) -> None:
    from simio.container.sources import source_files

    (tmp_path / "m.bin").write_bytes(checkpoint())
    (tmp_path / "tok10.bin").write_bytes(b"the vocabulary")
    (tmp_path / "tokenizer.bin").write_bytes(b"that of another model")
    files = source_files(tmp_path, open_model(tmp_path))
    assert [file.path.name for file in files] == ["m.bin", "tok10.bin"]
