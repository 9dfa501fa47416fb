"""Texts: of a file, in pieces; of the model itself, as likely as it says."""

from __future__ import annotations

from pathlib import Path

import decoders
import numpy as np
import pytest
from decoders import Shape

from simio.errors import UsageError
from simio.formats.opening import open_model
from simio.quality import generated, halves, of_text
from simio.records.model import Model

STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. " * 3


@pytest.fixture
def model(tmp_path: Path) -> Model:
    decoders.write_gguf(tmp_path / "m.gguf", Shape(), decoders.random_arrays(Shape()))
    return open_model(tmp_path / "m.gguf")


def test_a_text_comes_in_pieces_behind_its_beginning(shared: Path) -> None:
    model = open_model(shared / "models/stories260K-fp32")
    whole, pieces = of_text(model, STORY, 0), of_text(model, STORY, 16)
    assert whole.shape[0] == 1
    assert pieces.shape[1] == 16
    assert (pieces[:, 0] == 1).all()
    body = pieces[:, 1:].reshape(-1)
    assert (body == whole[0, 1 : 1 + body.size]).all()
    assert whole[0, 1:].size - body.size < 15


def test_without_a_vocabulary_texts_are_numbers(model: Model) -> None:
    assert of_text(model, "1 2 3 4 5 6 7", 3).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("text", "length"), [("7", 0), ("", 0), ("1 2 3", 1), ("1 2 3", 129), ("1 2 3", -2), ("1 99", 2)]
)
def test_texts_that_predict_nothing_are_refused(text: str, length: int, model: Model) -> None:
    with pytest.raises(UsageError):
        of_text(model, text, length)


def test_equal_seeds_write_equal_texts(model: Model) -> None:
    one, two, other = (generated(model, 640, 64, seed) for seed in (0, 0, 1))
    assert one.shape == (10, 64)
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert len(set(one[:, 0].tolist())) > 1  # no beginning is stated: any token


def test_the_next_token_is_drawn_from_the_model_s_distribution(model: Model) -> None:
    """Second tokens behind one first token, over many texts, against the textbook's probabilities."""
    texts = generated(model, 2 * 20000, 2, seed=5)
    first = int(np.bincount(texts[:, 0]).argmax())
    seconds = texts[texts[:, 0] == first, 1]
    logits = decoders.expected_logits(Shape(), decoders.random_arrays(Shape()), [first], neighbours=True)
    share = np.exp(logits - logits.max())
    expected = len(seconds) * share / share.sum()
    likely = expected > 4
    found = np.bincount(seconds, minlength=decoders.VOCAB)
    chi_square = np.sum((found - expected)[likely] ** 2 / expected[likely])
    assert likely.sum() > 5
    assert chi_square < likely.sum() + 5 * np.sqrt(2 * likely.sum())


def test_halves_share_no_text() -> None:
    texts = np.arange(10).reshape(5, 2)
    first, second = halves(texts)
    assert np.concatenate([first, second]).tolist() == texts.tolist()
    with pytest.raises(UsageError):
        halves(texts[:1])
