"""Model files end to end: write one, ask about it in every runtime, profile it, ask again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from command_line import simio
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

D, FF, VOCAB, LAYERS = 512, 1024, 4096, 6


def matrices() -> dict[str, tuple[int, int]]:
    """A small llama: GGUF name → (n_out, n_in)."""
    shapes = {"token_embd.weight": (VOCAB, D), "output.weight": (VOCAB, D)}
    for layer in range(LAYERS):
        for name, shape in {
            "attn_q": (D, D), "attn_k": (D // 4, D), "attn_v": (D // 4, D), "attn_output": (D, D),
            "ffn_gate": (FF, D), "ffn_up": (FF, D), "ffn_down": (D, FF),
        }.items():  # fmt: skip
            shapes[f"blk.{layer}.{name}.weight"] = shape
    return shapes


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory) -> Path:
    """Gaussian weights as Q8_0, written by the gguf package."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_context_length(2048)
    rng = np.random.default_rng(0)
    for name, shape in matrices().items():
        packed = gguf.quants.quantize(rng.normal(0, 0.02, shape).astype(np.float32), Type.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=Type.Q8_0)
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    return path


@pytest.fixture(scope="module")
def safetensors_file(tmp_path_factory) -> Path:
    """The same shapes as float16, without config.json."""
    path = tmp_path_factory.mktemp("safetensors") / "model.safetensors"
    rng = np.random.default_rng(0)
    hf = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
          "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
          "ffn_down": "mlp.down_proj"}  # fmt: skip
    tensors = {}
    for name, shape in matrices().items():
        parts = name.split(".")
        renamed = f"model.layers.{parts[1]}.{hf[parts[2]]}.weight" if parts[0] == "blk" else {
            "token_embd": "model.embed_tokens.weight", "output": "lm_head.weight"}[parts[0]]  # fmt: skip
        tensors[renamed] = rng.normal(0, 0.02, shape).astype(np.float16)
    save_file(tensors, path)
    return path


@pytest.fixture(params=["gguf_file", "safetensors_file"])
def model_file(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    "options",
    [("--runtime", "resident"), ("--runtime", "mmap", "--ram", "12MB"), ("--runtime", "stream", "--ram", "12MB")],
    ids=lambda words: words[1],
)
def test_a_model_file_is_predicted_in_every_runtime(model_file, options):
    found = simio("predict", "--device", "pixel8", "--model", model_file, *options, "--json").json
    assert found["tokens_per_s"] > 0
    assert found["model"]["source"] == "file"
    assert found["model"]["n_bytes"] == model_file.stat().st_size
    assert found["resolved"]["runtime"] == options[1]
    assert (found["bytes_per_token"] > 1e6) == (options[1] != "resident")


def test_a_codec_on_a_file_samples_its_real_weights(model_file):
    words = ("predict", "--device", "rpi5-sd", "--model", model_file, "--runtime", "stream", "--pin", "0%", "--json")
    raw, compressed = simio(*words).json, simio(*words, "--codec", "zstd:1").json
    assert compressed["compression"]["basis"] in ("sampled", "measured")
    assert 1.0 <= compressed["compression"]["ratio"] <= compressed["compression"]["bound_ratio"] * 1.01
    assert compressed["bytes_per_token"] < raw["bytes_per_token"]


def test_a_stored_profile_answers_without_the_weights(gguf_file, tmp_path):
    stored = tmp_path / "p.simio.json"
    result = simio("profile", gguf_file, "--codec", "zstd:1", "-o", stored, "--json").json
    assert 1.02 < result["ratio"] < 1.06  # Q8_0 of Gaussian weights, facts of the field: 1.04
    assert result["ratio"] <= result["bound_ratio"]
    assert result["decompress_bytes_per_s"]["median"] > 0
    words = ("predict", "--device", "pixel8", "--runtime", "stream", "--ram", "12MB", "--json")
    from_profile = simio(*words, "--model", stored).json
    from_file = simio(*words, "--model", gguf_file, "--codec", "zstd:1").json
    assert from_profile["compression"]["basis"] == "measured"
    assert from_profile["tokens_per_s"] == from_file["tokens_per_s"]


def test_a_profile_refuses_another_codec(gguf_file, tmp_path):
    stored = tmp_path / "p.simio.json"
    simio("profile", gguf_file, "--codec", "zstd:1", "-o", stored)
    result = simio("predict", "--device", "pixel8", "--model", stored, "--codec", "lz4:1")
    assert result.code == 2
    assert "profiled with codec zstd:1, not lz4:1" in result.err


def test_a_truncated_file_is_named_and_no_profile_is_left(gguf_file, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[: gguf_file.stat().st_size // 2])
    result = simio("profile", cut, "-o", tmp_path / "p.json")
    assert result.code == 4
    assert "cut.gguf" in result.err
    assert not (tmp_path / "p.json").exists()


def test_inspect_agrees_with_the_file(model_file):
    table = simio("inspect", model_file, "--json").json
    assert table["n_bytes"] == model_file.stat().st_size
    assert table["n_weights"] == sum(a * b for a, b in matrices().values())
    assert {row["layer"] for row in table["by_layer"]} == set(range(LAYERS))
    assert {row["name"] for row in table["by_role"]} == {"embedding", "attention", "mlp", "head"}


def test_an_interrupted_profile_leaves_nothing_half_written_and_resumes(tmp_path):
    rng = np.random.default_rng(1)
    model = tmp_path / "big.safetensors"
    save_file(
        {f"model.layers.{i}.mlp.up_proj.weight": rng.normal(0, 1, (4096, 4096)).astype(np.float32) for i in range(3)},
        model,
    )
    output = tmp_path / "p.simio.json"
    words = [
        str(Path(sys.executable).with_name("simio")),
        "profile",
        str(model),
        "--codec",
        "zstd:9",
        "-o",
        str(output),
        "--json",
    ]
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journals = tmp_path / "cache" / "chunks"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(p.stat().st_size > 500 for p in journals.glob("*")):
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "Traceback" not in err
    assert not output.exists()
    lines_kept = sum(len(p.read_text().splitlines()) for p in journals.glob("*"))
    assert lines_kept > 0
    second = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(second.stdout)["n_chunks"] == 3 * 64
    assert output.exists()


def test_a_report_is_one_self_contained_page(gguf_file, tmp_path):
    page = tmp_path / "r.html"
    result = simio("predict", "--device", "pixel8", "--model", gguf_file, "--report", page)
    assert result.code == 0
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "Where the time of a token goes" in text
    assert 'src="http' not in text
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".html" and p.name != "cache"] == []
