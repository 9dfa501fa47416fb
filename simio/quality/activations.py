"""What each matrix multiplies on calibration text, gathered while the full-precision decoder runs, layer by layer."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from simio.quality.backend import Tensor, load_torch
from simio.quality.decoder import Weights, through, to_torch
from simio.quality.opening import Opened, opened
from simio.quality.texts import Tokens, checked
from simio.quality.weights import INPUT_OF
from simio.quant.contract import Activations
from simio.records.model import Model


@dataclass(slots=True)
class _Sums:
    n_tokens: int
    peak: Tensor
    magnitude: Tensor
    gram: Tensor


class Inputs:
    """Sums over the inputs of some matrices, float32; :meth:`add` is a :data:`simio.quality.decoder.Tap`."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    def add(self, name: str, x: Tensor) -> None:
        """Count the tokens ``x (…, n_in)`` in."""
        x = x.flatten(0, -2)
        magnitude, width = x.abs(), x.shape[-1]
        if name not in self._sums:
            self._sums[name] = _Sums(0, x.new_zeros(width), x.new_zeros(width), x.new_zeros(width, width))
        held = self._sums[name]
        held.n_tokens += len(x)
        held.peak = load_torch().maximum(held.peak, magnitude.amax(dim=0))
        held.magnitude += magnitude.sum(dim=0)
        held.gram.addmm_(x.T, x)

    def found(self) -> dict[str, Activations]:
        """The inputs by name, once all are added: sums become means where they lie, a gram may be 100s of MB."""
        found = {}
        for name, sums in self._sums.items():
            means = sums.magnitude.div_(sums.n_tokens), sums.gram.div_(sums.n_tokens)
            found[name] = Activations(sums.n_tokens, sums.peak.numpy(), *(mean.numpy() for mean in means))
        return found


def activations(model: Model, tokens: Tokens) -> Generator[tuple[str, Activations]]:
    """The name and the inputs of every matrix of the layers and of the head, in the order of their use.

    ``tokens (n_texts, n_tokens)`` run through the decoder in full precision. In memory are the states of all tokens,
    their rows of the token table, one layer, and its four grams. Matrices that multiply the same share one record.
    Errors as of :func:`simio.quality.measure`.
    """
    with opened(model) as it:
        tokens = checked(tokens, it.blueprint.shape)
        outer = to_torch(it.weights.outer("position_embd", "output_norm"))
        states = it.decoder.embed(*_only_rows(it, outer, tokens))
        for layer in range(it.blueprint.shape.n_layers):
            weights, inputs = to_torch(it.weights.layer(layer)), Inputs()
            through(it.decoder, weights, states, inputs.add)
            del weights
            found = inputs.found()
            for use, name in it.weights.multiplied(layer).items():
                yield name, found[INPUT_OF[use]]
            del inputs, found
        inputs = Inputs()
        inputs.add(INPUT_OF["output"], it.decoder.final(outer, states))
        for name in it.weights.multiplied(None).values():
            yield name, inputs.found()[INPUT_OF["output"]]


def multiplied(model: Model) -> frozenset[str]:
    """The names of the matrices that :func:`activations` tells of; its errors, but for those of tokens."""
    with opened(model) as it:
        layers = (*range(it.blueprint.shape.n_layers), None)
        return frozenset(name for layer in layers for name in it.weights.multiplied(layer).values())


def _only_rows(it: Opened, outer: Weights, tokens: Tokens) -> tuple[Weights, Tensor]:
    """What :meth:`Decoder.embed` takes, with a token table of the rows that ``tokens`` name: whole it may be 1 GB."""
    ids, places = np.unique(tokens, return_inverse=True)
    rows = it.weights.table_rows(ids)
    return {**outer, **to_torch({"token_embd": rows})}, load_torch().from_numpy(places.reshape(tokens.shape))
