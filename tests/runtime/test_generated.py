"""Generated models: the preset's shapes and types, random weights that say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from simio.errors import SimioError, UnknownNameError, UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.models import preset
from simio.runtime import generated
from simio.runtime.forward import Decoder
from simio.runtime.generated import generate, shape_of
from simio.runtime.hyperparameters import Files, hyperparameters
from simio.runtime.in_ram import InRamWeights
from simio.runtime.kernels import dequantize

TINY = {"d_model": 256, "d_ff": 512, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64, "vocab_size": 300}


def made(path: Path, name: str = "tl1b:q4_k_m", n_layers: int = 2, **changes: int) -> Path:
    generate(shape_of(name, n_layers, TINY | changes), path)
    return path


@pytest.mark.parametrize("name", ["tl1b:q4_k_m", "qwen3-0.6b:q8_0", "qwen2.5-0.5b:f16", "llama-3.2-1b:q4_0"])
def test_a_generated_file_has_the_tensors_of_its_shape_and_runs(name: str, tmp_path: Path) -> None:
    model = open_model(made(tmp_path / "m.gguf", name))
    expected = {(t.name, t.shape, t.dtype, t.n_bytes) for t in shape_of(name, 2, TINY).tensors}
    assert {(t.name, t.shape, t.dtype, t.n_bytes) for t in model.tensors} == expected
    shape = hyperparameters(model, Files(model))
    with WeightsReader(model) as reader, Decoder(model, shape, InRamWeights(model, reader)) as decoder:
        logits = decoder.feed([1, 2, 3])
    assert np.isfinite(logits).all()
    assert 0.1 < logits.std() < 10


def test_a_mixture_of_experts_is_generated_and_runs(tmp_path: Path) -> None:
    model = open_model(made(tmp_path / "m.gguf", "qwen3-30b-a3b:q4_0", 1))
    assert (model.architecture.n_experts, model.architecture.n_experts_used) == (128, 8)
    shape = hyperparameters(model, Files(model))
    with WeightsReader(model) as reader, Decoder(model, shape, InRamWeights(model, reader)) as decoder:
        assert np.isfinite(decoder.feed([1, 2, 3])).all()


def test_it_says_that_it_is_generated(tmp_path: Path) -> None:
    path = made(tmp_path / "m.gguf")
    assert any("generated" in note for note in open_model(path).notes)
    fields = GGUFReader(path).fields
    assert fields["simio.generated"].contents() is True
    assert "generated" in fields["general.name"].contents()


def test_all_layers_of_a_preset_are_those_of_the_preset() -> None:
    whole, cut = preset("llama-3.1-8b:q4_k_m"), shape_of("llama-3.1-8b:q4_k_m")
    assert whole.tensors == cut.tensors
    assert {t.layer for t in shape_of("llama-3.1-8b:q4_k_m", 4).tensors} == {None, 0, 1, 2, 3}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    model = shape_of("tl1b:q8_0", 1, TINY)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(model, tmp_path / name, seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_equal_rows_lie_a_pool_apart_and_rows_have_their_own_scales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "POOL_BYTES", 100 * 272)
    model = open_model(made(tmp_path / "m.gguf", "tl1b:q8_0", 1))
    table = next(t for t in model.tensors if t.role == "embedding")
    with WeightsReader(model) as reader:
        data = reader.read(table.streams[0], 0, table.n_bytes)
    rows = [data[at : at + 272] for at in range(0, len(data), 272)]
    assert len(rows) == 300
    assert len(set(rows)) == 100
    assert all(rows[i] == rows[i - 100] for i in range(100, 300))
    scales = np.log(dequantize("Q8_0", data, 300, 256).std(axis=1))
    assert 0.2 < scales.std() < 0.4


def test_progress_ends_with_all_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    model = shape_of("tl1b:q8_0", 1, TINY)
    generate(model, tmp_path / "m.gguf", progress=lambda done, total: seen.append((done, total)))
    total = sum(t.n_bytes for t in model.tensors)
    assert seen[-1] == (total, total)


def test_an_interrupted_generation_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("old")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(shape_of("tl1b:q8_0", 1, TINY), path, progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "changes", "error"),
    [
        ("gemma-2-2b", {}, UsageError),
        ("tl1b:iq2_xxs", {}, UsageError),
        ("tl1b", {"d_modell": 1}, UnknownNameError),
        ("tl1b", {"n_kv_heads": 3}, UsageError),
        ("no-such-model", {}, UnknownNameError),
    ],
)
def test_what_cannot_be_generated_is_refused(
    name: str, changes: dict[str, int], error: type[SimioError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        generate(shape_of(name, 1, TINY | changes), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())
