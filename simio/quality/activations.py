"""What each matrix multiplies on calibration text, gathered while the full-precision decoder runs, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simio.quality.backend import Tensor, load_torch
from simio.quality.decoder import through, to_torch
from simio.quality.opening import opened
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
        magnitude = x.abs()
        new = _Sums(len(x), magnitude.amax(dim=0), magnitude.sum(dim=0), x.T @ x)
        held = self._sums.setdefault(name, new)
        if held is not new:
            held.n_tokens += new.n_tokens
            held.peak = load_torch().maximum(held.peak, new.peak)
            held.magnitude += new.magnitude
            held.gram += new.gram

    def found(self) -> dict[str, Activations]:
        """The inputs by name; matrices that multiply the same share one record."""
        return {
            name: Activations(
                sums.n_tokens,
                sums.peak.numpy(),
                (sums.magnitude / sums.n_tokens).numpy(),
                (sums.gram / sums.n_tokens).numpy(),
            )
            for name, sums in self._sums.items()
        }


def activations(model: Model, tokens: Tokens) -> Iterator[tuple[str, Activations]]:
    """The name and the inputs of every matrix of the layers and of the head, in the order of their use.

    ``tokens (n_texts, n_tokens)`` run through the decoder in full precision. In memory are the states of all tokens,
    one layer and its four grams. Errors as of :func:`simio.quality.measure`.
    """
    with opened(model) as it:
        outer = to_torch(it.weights.outer())
        tokens = checked(tokens, it.blueprint.shape)
        states = it.decoder.embed(outer, load_torch().from_numpy(tokens))
        for layer in range(it.blueprint.shape.n_layers):
            weights, inputs = to_torch(it.weights.layer(layer)), Inputs()
            through(it.decoder, weights, states, inputs.add)
            found = inputs.found()
            for use in INPUT_OF:
                if use in weights:
                    yield it.weights.tensor(use, layer).name, found[INPUT_OF[use]]
        inputs = Inputs()
        inputs.add(INPUT_OF["output"], it.decoder.final(outer, states))
        head = "token_embd" if it.weights.is_tied else "output"
        yield it.weights.tensor(head, None).name, inputs.found()[INPUT_OF["output"]]
