"""Texts as tokens ``(n_texts, n_tokens)`` of equal length: of a file, or written by the model itself.

A model's own text needs no data, and is what it saw in training as far as it can tell: LLM-QAT, arXiv 2305.17888,
section 3.1, which samples the next token from the full-precision model's distribution, as here at temperature 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quality.backend import load_torch
from simio.quality.decoder import Past, to_torch
from simio.quality.opening import Opened, opened
from simio.records.model import Model
from simio.runtime.hyperparameters import Hyperparameters
from simio.runtime.tokenizer import tokenizer_of

Tokens = npt.NDArray[np.int64]

#: Tokens of a text, unless the context holds fewer. Own choice: most of a longer context's gain at little cost.
LENGTH = 256


def of_text(model: Model, text: str, length: int = 0) -> Tokens:
    """``text`` in pieces of ``length`` tokens, each behind the token that begins a text, if the model has one.

    What is left at the end and fills no piece is dropped. ``length`` 0: 256, or what the context holds. Raises
    ``UsageError`` for a text too short to predict a token of, or a length that the context does not hold.
    """
    with opened(model) as it:
        length = _length(it, length)
        tokenizer = tokenizer_of(model, it.source)
        begin, tokens = tokenizer.encode(""), tokenizer.encode(text)
        body = tokens[len(begin) :] if tokens[: len(begin)] == begin else tokens
        step = length - len(begin)
        if len(tokens) < 2 or step < 1:
            raise UsageError(f"a text of {len(tokens)} tokens predicts nothing", "give a longer text")
        n_texts = max(1, len(body) // step)
        pieces = np.array(body[: n_texts * step], np.int64).reshape(n_texts, -1)
        return checked(np.hstack([np.tile(np.array(begin, np.int64), (n_texts, 1)), pieces]), it.blueprint.shape)


def generated(model: Model, n_tokens: int = 4096, length: int = 0, seed: int = 0) -> Tokens:
    """About ``n_tokens`` tokens that ``model`` writes, sampled at temperature 1 in texts of ``length``.

    A text begins with the model's own token for that or, where it has none, with any token, as in LLM-QAT. Equal seeds
    give equal texts. All weights are in RAM meanwhile. Errors as of :func:`of_text`.
    """
    with opened(model) as it:
        return sampled(it, n_tokens, length, [seed])


def halves(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """The first half of the texts and the second: for calibration and for evaluation.

    Raises ``UsageError`` where there is but one.
    """
    if len(tokens) < 2:
        n_tokens = tokens.size
        raise UsageError(
            f"{n_tokens} tokens are one piece of text, and one cannot be halved for calibration and evaluation",
            f"give a text of more than {2 * n_tokens} tokens, or none: then the model writes its own",
        )
    return tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :]


def sampled(it: Opened, n_tokens: int, length: int, seed: list[int]) -> Tokens:
    """:func:`generated` of an opened model."""
    torch, shape = load_torch(), it.blueprint.shape
    length = _length(it, length)
    n_texts = max(1, n_tokens // length)
    rng = np.random.default_rng(seed)
    layers = [to_torch(it.weights.layer(number)) for number in range(shape.n_layers)]
    outer, pasts = to_torch(it.weights.outer()), [Past() for _ in layers]
    tokens = np.empty((n_texts, length), np.int64)
    begin = next(iter(tokenizer_of(it.model, it.source).encode("")), it.blueprint.begin)
    tokens[:, 0] = rng.integers(shape.vocab_size, size=n_texts) if begin is None else begin
    for position in range(length - 1):
        states = it.decoder.embed(outer, torch.from_numpy(tokens[:, position : position + 1]), position)
        for weights, past in zip(layers, pasts, strict=True):
            states = it.decoder.layer(weights, states, past=past)
        logits = it.decoder.logits(outer, states)[:, 0].double()
        cumulative = logits.softmax(dim=-1).cumsum(dim=-1).numpy()
        drawn = rng.random((n_texts, 1)) * cumulative[:, -1:]
        tokens[:, position + 1] = np.minimum((cumulative <= drawn).sum(axis=1), shape.vocab_size - 1)
    return tokens


def checked(tokens: Tokens, shape: Hyperparameters) -> Tokens:
    """``tokens`` as contiguous int64; raises ``UsageError`` for what the decoder cannot read."""
    array = np.ascontiguousarray(tokens)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2 or array.dtype.kind not in "iu":
        raise UsageError(
            f"texts are integers (n_texts, n_tokens) of at least 2 tokens, got {array.dtype} {array.shape}",
            "simio.quality.of_text makes them",
        )
    if array.min() < 0 or array.max() >= shape.vocab_size:
        raise UsageError(f"a token is not in the vocabulary of {shape.vocab_size}", "use the model's own tokenizer")
    if shape.context_length and array.shape[1] > shape.context_length:
        raise UsageError(f"the model's context holds {shape.context_length} tokens", "use shorter texts")
    return array.astype(np.int64, copy=False)


def _length(it: Opened, length: int) -> int:
    context = it.blueprint.shape.context_length
    if length < 0 or length == 1 or (context and length > context):
        raise UsageError(f"texts of {length} tokens cannot be used", f"use 2 to {context or 'any number'}")
    return length or min(LENGTH, context or LENGTH)
