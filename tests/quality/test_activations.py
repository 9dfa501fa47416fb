"""Activations against a direct computation in float64."""

from __future__ import annotations

from pathlib import Path

import decoders
import numpy as np
import pytest
from decoders import Shape

from simio.formats.opening import open_model
from simio.quality import activations
from simio.records.model import Model

TEXTS = np.array([[1, 17, 94, 3, 3, 60, 8, 2], [1, 5, 5, 80, 41, 2, 0, 9], [30, 31, 32, 33, 34, 1, 2, 3]])


@pytest.fixture
def model(tmp_path: Path) -> tuple[Model, dict[str, np.ndarray]]:
    arrays = decoders.random_arrays(Shape())
    decoders.write_gguf(tmp_path / "m.gguf", Shape(), arrays)
    return open_model(tmp_path / "m.gguf"), arrays


def inputs_by_textbook(arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """What every matrix of the layers multiplies, all texts behind each other."""
    seen: dict[str, list[np.ndarray]] = {}
    project, mlp = decoders._project, decoders._mlp

    def name_of(weights: np.ndarray) -> str:
        return next(name for name, held in arrays.items() if np.array_equal(held, weights))

    def recording_project(own: dict[str, np.ndarray], use: str, x: np.ndarray) -> np.ndarray:
        seen.setdefault(name_of(own[use + ".weight"]), []).append(x)
        return project(own, use, x)

    def recording_mlp(x: np.ndarray, gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
        g = x @ gate.T
        for w, what in ((gate, x), (up, x), (down, g / (1 + np.exp(-g)) * (x @ up.T))):
            seen.setdefault(name_of(w), []).append(what)
        return mlp(x, gate, up, down)

    monkeypatch.setattr(decoders, "_project", recording_project)
    monkeypatch.setattr(decoders, "_mlp", recording_mlp)
    for text in TEXTS:
        decoders.expected_logits(Shape(), arrays, list(text), neighbours=True)
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def test_activations_are_those_of_the_textbook(
    model: tuple[Model, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = inputs_by_textbook(model[1], monkeypatch)
    found = dict(activations(model[0], TEXTS))
    assert set(found) == set(expected) | {"output.weight"}
    for name, x in expected.items():
        got = found[name]
        assert got.n_tokens == len(x) == TEXTS.size
        np.testing.assert_allclose(got.peak, np.abs(x).max(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.mean_magnitude, np.abs(x).mean(axis=0), rtol=1e-4, atol=1e-5)
        gram = x.T @ x / len(x)
        np.testing.assert_allclose(got.gram, gram, atol=1e-4 * np.abs(gram).max())


def test_matrices_come_in_the_order_of_their_use_and_share_inputs(model: tuple[Model, dict[str, np.ndarray]]) -> None:
    found = list(activations(model[0], TEXTS))
    assert [name for name, _ in found[:7]] == [
        f"blk.0.{use}.weight" for use in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    ]
    by_name = dict(found)
    assert by_name["blk.0.attn_q.weight"] is by_name["blk.0.attn_v.weight"]
    assert by_name["output.weight"].gram.shape == (64, 64)


def test_sums_do_not_depend_on_how_texts_are_batched(
    model: tuple[Model, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dict(activations(model[0], TEXTS))
    monkeypatch.setattr("simio.quality.decoder._BATCH_TOKENS", 8)
    for name, one in activations(model[0], TEXTS):
        assert one.n_tokens == whole[name].n_tokens
        np.testing.assert_allclose(one.gram, whole[name].gram, atol=1e-5 * np.abs(one.gram).max())
        np.testing.assert_array_equal(one.peak, whole[name].peak)
