"""Layouts of one decoder, measured together: errors of every matrix, divergence of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from simio.errors import UsageError
from simio.quality.activations import Inputs
from simio.quality.backend import Tensor, load_torch
from simio.quality.decoder import Weights, through, to_torch
from simio.quality.divergence import Predictions, Reference
from simio.quality.layouts import Original, quantized
from simio.quality.opening import Opened, opened
from simio.quality.texts import Tokens, checked, sampled
from simio.quality.weights import INPUT_OF
from simio.quant import parse
from simio.quant.contract import Activations, FloatArray, Quantizer
from simio.records.model import Model
from simio.records.quality import LayoutQuality, Quality, TensorQuality

#: What can be quantized: the matrices of the layers; the head, where it is a matrix of its own; the token table, which
#: is the head, too, where there is no other, and is quantized without activations.
PARTS = ("layers", "head", "embedding")


def measure(
    model: Model,
    quantizers: Sequence[str | Quantizer],
    *,
    calibration: Tokens | None = None,
    evaluation: Tokens | None = None,
    parts: Sequence[str] = ("layers", "head"),
    pad_rows: bool = False,
    n_tokens: int = 4096,
    seed: int = 0,
    on_layer: Callable[[int, int], None] | None = None,
) -> Quality:
    """What each of ``quantizers`` (names or layouts) costs ``model``.

    Texts are tokens ``(n_texts, n_tokens)``, of :func:`simio.quality.of_text` for example; those not given are about
    ``n_tokens`` tokens that the model writes itself, different ones for calibration and evaluation. ``parts`` are what
    is quantized: by default every matrix of the layers, and the head unless it is the token table. Layouts are
    calibrated on the inputs in full precision, those of layers before it not quantized. Norms and biases stay,
    and so does, with the reason, a matrix that a layout cannot hold, unless ``pad_rows`` fills its rows up with zeros.
    ``on_layer`` is told (layers done, layers).

    In memory are one layer, its activations, and the states of the evaluation tokens once per layout; while the model
    writes texts, all its weights. Raises ``UsageError`` for a model that cannot be computed, texts it cannot read, and
    no layouts or parts; ``UnknownNameError`` for a layout; ``MissingPackageError`` without torch.
    """
    layouts = [parse(one) if isinstance(one, str) else one for one in quantizers]
    wrong = [part for part in parts if part not in PARTS]
    if not layouts or not parts or wrong:
        raise UsageError(
            f"nothing to measure: layouts {list(quantizers)}, parts {list(parts)}",
            f"name a layout such as int8:channel, and parts of {', '.join(PARTS)}",
        )
    with opened(model) as it:
        shape = it.blueprint.shape
        given = [
            sampled(it, n_tokens, 0, [seed, number]) if tokens is None else checked(tokens, shape)
            for number, tokens in enumerate((calibration, evaluation))
        ]
        run = _Run(it, layouts, frozenset(parts), pad_rows, *given)
        for layer in range(shape.n_layers):
            run.layer(layer)
            if on_layer is not None:
                on_layer(layer + 1, shape.n_layers)
        full, found = run.finish()
    return Quality(
        model.name, model.digest, tuple(part for part in PARTS if part in parts), given[0].size, full.kl.size,
        full.perplexity, float(full.entropy.mean()), found,
    )  # fmt: skip


@dataclass(slots=True)
class _Variant:
    """The decoder under one layout: its states on the evaluation tokens, and its matrices so far."""

    quantizer: Quantizer
    pad_rows: bool
    states: Tensor
    outer: dict[str, Tensor]
    tensors: list[TensorQuality] = field(default_factory=list)

    def quantized(self, weights: Weights, originals: dict[str, Original]) -> dict[str, Tensor]:
        """``weights`` with ``originals`` as this layout gives them back."""
        changed: dict[str, FloatArray] = {}
        for use, original in originals.items():
            changed[use], quality = quantized(self.quantizer, original, self.pad_rows)
            self.tensors.append(quality)
        return {**weights, **to_torch(changed)}


class _Run:
    """Full precision and all layouts, side by side, from the table to the head."""

    def __init__(
        self, it: Opened, layouts: list[Quantizer], parts: frozenset[str], pad_rows: bool, calibration: Tokens,
        evaluation: Tokens,
    ) -> None:  # fmt: skip
        self._it, self._parts, self._evaluation = it, parts, evaluation
        self._plain = it.weights.outer()
        self._outer = to_torch(self._plain)
        torch = load_torch()
        tokens = torch.from_numpy(evaluation)
        self._calibrating = it.decoder.embed(self._outer, torch.from_numpy(calibration))
        self._states = it.decoder.embed(self._outer, tokens)
        self._variants = [_Variant(layout, pad_rows, self._states, dict(self._outer)) for layout in layouts]
        table = {"token_embd": self._original("token_embd", None)} if "embedding" in parts else {}
        for variant in self._variants:
            variant.outer = variant.quantized(variant.outer, table)
            variant.states = it.decoder.embed(variant.outer, tokens)

    def layer(self, number: int) -> None:
        """Everyone goes through a layer."""
        plain, decoder = self._it.weights.layer(number), self._it.decoder
        weights, inputs = to_torch(plain), Inputs()
        through(decoder, weights, self._calibrating, inputs.add)
        through(decoder, weights, self._states)
        found = inputs.found()
        originals = {
            use: Original.of(self._it.weights.tensor(use, number), plain[use], found[INPUT_OF[use]])
            for use in INPUT_OF
            if use in plain and "layers" in self._parts
        }
        for variant in self._variants:
            through(decoder, variant.quantized(weights, originals), variant.states)

    def finish(self) -> tuple[Predictions, tuple[LayoutQuality, ...]]:
        """The head, and what comes out."""
        reference = Reference(self._it.decoder, self._outer, self._states, self._evaluation)
        full = reference.compare(self._outer, self._states)
        head = {}
        if "head" in self._parts and not self._it.weights.is_tied:
            inputs = Inputs()
            inputs.add(INPUT_OF["output"], self._it.decoder.final(self._outer, self._calibrating))
            head = {"output": self._original("output", inputs.found()[INPUT_OF["output"]])}
        found = []
        for variant in self._variants:
            outer = variant.quantized(variant.outer, head)
            found.append(_summary(variant, reference.compare(outer, variant.states)))
        return full, tuple(found)

    def _original(self, use: str, activations: Activations | None) -> Original:
        return Original.of(self._it.weights.tensor(use, None), self._plain[use], activations)


def _summary(variant: _Variant, predictions: Predictions) -> LayoutQuality:
    held = [tensor for tensor in variant.tensors if not tensor.reason]
    seen = [tensor for tensor in held if tensor.output_error is not None]
    n_weights = sum(tensor.n_weights for tensor in held)
    return LayoutQuality(
        quantizer=variant.quantizer.name,
        n_weights=n_weights,
        n_kept=sum(tensor.n_weights for tensor in variant.tensors) - n_weights,
        bits_per_weight=_mean(held, "bits_per_weight"),
        entropy_bits=_mean(held, "entropy_bits"),
        weight_error=_mean(held, "weight_error"),
        output_error=_mean(seen, "output_error"),
        kl=float(predictions.kl.mean()),
        kl_p99=float(np.percentile(predictions.kl, 99)),
        perplexity=predictions.perplexity,
        tensors=tuple(variant.tensors),
    )


def _mean(tensors: list[TensorQuality], name: str) -> float:
    """Over the weights of ``tensors``; 0 without any."""
    total = sum(getattr(tensor, name) * tensor.n_weights for tensor in tensors)
    return float(total) / max(1, sum(tensor.n_weights for tensor in tensors))
