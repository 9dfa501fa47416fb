"""A trained model writes what it was trained to write."""

from __future__ import annotations

from pathlib import Path

from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.runtime.forward import Decoder
from simio.runtime.hyperparameters import Files, hyperparameters
from simio.runtime.in_ram import InRamWeights
from simio.runtime.kernels import one_blas_thread
from simio.runtime.tokenizer import tokenizer_of

BEGINNING = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball."
)


def told(path: Path, prompt: str, n_tokens: int) -> str:
    model = open_model(path)
    source = Files(model)
    tokenizer, shape = tokenizer_of(model, source), hyperparameters(model, source)
    tokens = tokenizer.encode(prompt)
    fed = 0
    with (
        WeightsReader(model) as reader,
        one_blas_thread(),
        Decoder(model, shape, InRamWeights(model, reader)) as decoder,
    ):
        while len(tokens) < n_tokens:
            new, fed = tokens[fed:], len(tokens)
            tokens.append(decoder.next_token(new))
    return tokenizer.decode(tokens)


def test_a_trained_model_tells_its_story(shared: Path) -> None:
    assert told(shared / "models/stories260K-fp32", "", 120).startswith(BEGINNING)


def test_a_prompt_is_continued(shared: Path) -> None:
    assert told(shared / "models/stories260K-fp32/stories260K.bin", BEGINNING[:60], 120).startswith(BEGINNING)
