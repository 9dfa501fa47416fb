"""What ``simio inspect`` prints, for files and for presets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simio.formats.opening import open_model
from simio.formats.summary import summarize
from simio.records.model import Architecture, KvLayer, Model, Tensor


def _tensor(name: str, role: str, layer: int | None, *, dtype: str, n_weights: int, n_bytes: int) -> Tensor:
    return Tensor(name, (n_weights,), dtype, role, layer, None, 1, n_weights, n_bytes)


@pytest.fixture
def preset() -> Model:
    """Two layers of 1000 weights in 4.5 bits, an embedding of 500 in F16: no files."""
    architecture = Architecture("llama", 2, 16, 4, 2, 4, 40, 96, kv_layers=(KvLayer(16), KvLayer(16, 128)))
    tensors = (
        _tensor("token_embd.weight", "embedding", None, dtype="F16", n_weights=500, n_bytes=1000),
        _tensor("blk.0.ffn_up.weight", "mlp", 0, dtype="Q4_K", n_weights=800, n_bytes=450),
        _tensor("blk.0.attn_q.weight", "attention", 0, dtype="Q4_K", n_weights=800, n_bytes=450),
        _tensor("blk.1.ffn_up.weight", "mlp", 1, dtype="Q4_K", n_weights=800, n_bytes=450),
        _tensor("blk.1.mystery.weight", "other", 1, dtype="F32", n_weights=100, n_bytes=400),
    )
    return Model("tiny:q4_k_m", "preset", "preset", "0" * 32, 2750, architecture, tensors)


def test_shares_add_up_to_the_whole(preset: Model) -> None:
    summary = summarize(preset)
    for shares in (summary.by_role, summary.by_dtype, (*summary.by_layer, summary.outside_layers)):
        assert sum(share.n_bytes for share in shares) == summary.tensor_bytes == 2750
        assert sum(share.n_weights for share in shares) == summary.n_weights == 3000
        assert sum(share.n_tensors for share in shares) == summary.n_tensors == 5


def test_each_share_has_its_own_bits_per_weight(preset: Model) -> None:
    shares = {share.name: share for share in summarize(preset).by_role}
    assert shares["embedding"].bits_per_weight == 16
    assert shares["mlp"].bits_per_weight == 4.5
    assert list(shares) == ["embedding", "attention", "mlp", "other"]


def test_a_token_adds_its_values_in_fp16(preset: Model) -> None:
    assert summarize(preset).kv_bytes_per_token == 2 * 16 * 2


def test_unknown_names_are_reported(preset: Model) -> None:
    summary = summarize(preset)
    assert summary.unknown_names == ("blk.1.mystery.weight",)
    assert "blk.1.mystery.weight" in summary.notes[-1]


def test_the_summary_survives_json(preset: Model) -> None:
    plain = summarize(preset).to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["by_layer"][1] == {
        "layer": 1, "n_tensors": 2, "n_weights": 900, "n_bytes": 850, "bits_per_weight": 8 * 850 / 900,
    }  # fmt: skip
    assert plain["architecture"]["kv_layers"][1] == {"n_values": 16, "window": 128, "fixed_bytes": 0}


def test_a_file_reports_its_own_size(tmp_path: Path, safetensors_bytes: Callable[..., bytes]) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"model.layers.0.mlp.up_proj.weight": ("F16", [4, 4])}))
    summary = summarize(open_model(path))
    assert summary.n_bytes == path.stat().st_size
    assert summary.tensor_bytes == 32
    assert summary.files == (str(path),)
