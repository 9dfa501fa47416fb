"""Matrices come back as they were stored, in any runs."""

import gguf
import numpy as np
import pytest
from gguf import quants
from safetensors.numpy import save_file
from small_weights import gaussian

from simio.errors import ModelFileError, UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.quant.contract import TensorSummary
from simio.study import matrices as room
from simio.study.matrices import ROWS_TOGETHER, matrices


def read_all(path, most_weights=1 << 22):
    """Every matrix by name, read in runs."""
    model = open_model(path)
    found, kept = matrices(model)
    with WeightsReader(model) as source:
        whole = {
            m.tensor.name: np.concatenate([m.read(source, first, n) for first, n in m.runs(most_weights)])
            for m in found
        }
    return whole, {k.tensor: k.reason for k in kept}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("most_weights", [1, 5000, 1 << 22])
def test_plain_numbers_come_back(tmp_path, dtype, most_weights):
    w = gaussian((333, 48)).astype(dtype)
    save_file({"model.layers.0.mlp.up_proj.weight": w}, tmp_path / "a.safetensors")
    whole, _ = read_all(tmp_path / "a.safetensors", most_weights)
    assert np.array_equal(whole["model.layers.0.mlp.up_proj.weight"], w.astype(np.float32))


def test_blocks_come_back_as_gguf_reads_them(tmp_path):
    w = gaussian((64, 256))
    data = quants.quantize(w, gguf.GGMLQuantizationType.Q8_0)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("blk.0.ffn_up.weight", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole, _ = read_all(tmp_path / "a.gguf", 1000)
    assert np.array_equal(whole["blk.0.ffn_up.weight"], quants.dequantize(data, gguf.GGMLQuantizationType.Q8_0))


def test_integers_come_back_times_their_scale(tmp_path):
    codes = np.random.default_rng(0).integers(-127, 128, (64, 32), dtype=np.int8)
    scales = np.linspace(0.1, 1, 64, dtype=np.float32)[:, None]
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({name: codes, f"{name}_scale": scales}, tmp_path / "a.safetensors")
    whole, _ = read_all(tmp_path / "a.safetensors", 500)
    assert np.allclose(whole[name], codes * scales, rtol=1e-6)


def test_a_stack_of_experts_is_one_matrix_of_all_their_rows(tmp_path):
    w = gaussian((4, 24, 32))
    save_file({"model.layers.0.mlp.experts.gate_up_proj": w}, tmp_path / "a.safetensors")
    whole, _ = read_all(tmp_path / "a.safetensors", 300)
    assert np.array_equal(whole["model.layers.0.mlp.experts.gate_up_proj"], w.reshape(96, 32))


def test_matrices_of_gpt2_are_turned_so_that_rows_are_outputs(tmp_path):
    w = gaussian((48, 96))
    folder = tmp_path / "gpt2"
    folder.mkdir()
    save_file({"h.0.attn.c_attn.weight": w, "wte.weight": gaussian((50, 48))}, folder / "model.safetensors")
    config = '{"model_type": "gpt2", "n_layer": 1, "n_embd": 48, "n_head": 4, "vocab_size": 50}'
    (folder / "config.json").write_text(config)
    whole, _ = read_all(folder, 480)
    assert np.array_equal(whole["h.0.attn.c_attn.weight"], w.T)
    assert whole["wte.weight"].shape == (50, 48)


def test_what_is_no_matrix_is_kept_with_its_reason(tmp_path):
    rows = {
        "norm.weight": np.ones(8, np.float32),
        "conv.weight": np.ones((2, 3, 4, 5), np.float32),
        "h.0.up_proj.weight": np.ones((0, 8), np.float32),
        "ids": np.ones((4, 4), np.int32),
        "whole.weight": np.ones((4, 4), np.int8),
        "good.weight": np.ones((4, 4), np.float32),
    }
    save_file(rows, tmp_path / "a.safetensors")
    whole, kept = read_all(tmp_path / "a.safetensors")
    assert list(whole) == ["good.weight"]
    assert kept["norm.weight"] == "no matrix: 1 dimension"
    assert kept["conv.weight"] == "no matrix: 4 dimensions"
    assert kept["h.0.up_proj.weight"] == "no weights"
    assert "I32" in kept["ids"]
    assert "scale" in kept["whole.weight"]


def test_runs_are_whole_rows_and_end_at_whole_bytes(model_file):
    found, _ = matrices(open_model(model_file))
    table = next(m for m in found if m.shape == (1000, 256))
    assert table.runs(1 << 22) == [(0, 1000)]
    assert table.runs(400 * 256) == [(0, ROWS_TOGETHER), (320, 320), (640, 320), (960, 40)]
    assert table.runs(1)[:2] == [(0, 1), (1, 1)]


def test_the_summary_of_the_runs_is_that_of_the_whole(model_file, monkeypatch):
    monkeypatch.setattr(room, "RUN_WEIGHTS", 30_000)
    model = open_model(model_file)
    found, _ = matrices(model)
    table = next(m for m in found if m.shape == (1000, 256))
    with WeightsReader(model) as source:
        summary, whole = table.summary(source), TensorSummary.of(table.read(source, 0, 1000))
    assert (summary.n_weights, summary.low, summary.high) == (whole.n_weights, whole.low, whole.high)
    assert summary.mean_square == pytest.approx(whole.mean_square, rel=1e-9)
    assert summary.mean_magnitude == pytest.approx(whole.mean_magnitude, rel=1e-6)


def test_the_digest_is_that_of_the_bytes(tmp_path):
    digests = []
    for change in (0, 0, 1):
        w = gaussian((64, 64))
        w[40, 3] += change
        save_file({"a.weight": w}, tmp_path / "a.safetensors")
        model = open_model(tmp_path / "a.safetensors")
        with WeightsReader(model) as source:
            digests.append(matrices(model)[0][0].digest(source))
    assert digests[0] == digests[1] != digests[2]


def test_a_preset_has_no_weights():
    from simio import models

    with pytest.raises(UsageError, match="preset without weights"):
        matrices(models.preset("llama-3.2-1b:q4_k_m"))


def test_a_file_that_shrank_is_said_to(model_file):
    model = open_model(model_file)
    found, _ = matrices(model)
    model_file.write_bytes(model_file.read_bytes()[:2000])
    with WeightsReader(model) as source, pytest.raises(ModelFileError):
        found[0].read(source, 0, found[0].shape[0])
