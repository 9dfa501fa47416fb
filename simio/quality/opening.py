"""A model file opened as a decoder in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from simio.errors import ModelFileError
from simio.formats.weights import WeightsReader
from simio.quality.blueprint import Blueprint, blueprint
from simio.quality.decoder import Decoder
from simio.quality.weights import DecoderWeights
from simio.records.model import Model
from simio.runtime.hyperparameters import Files, Source


@dataclass(frozen=True, slots=True)
class Opened:
    """What there is to compute with, while the file is open."""

    model: Model
    source: Source
    blueprint: Blueprint
    weights: DecoderWeights
    decoder: Decoder


@contextmanager
def opened(model: Model) -> Iterator[Opened]:
    """``model`` to compute with.

    Raises ``UsageError`` for a model whose quality cannot be measured (and why), ``MissingPackageError`` without torch,
    ``ModelFileError`` for one without a token table.
    """
    source = Files(model)
    shape = blueprint(model, source)
    with WeightsReader(model) as reader:
        weights = DecoderWeights(model, shape, reader)
        needed = ("token_embd", "position_embd")[: 2 if shape.shape.rope_style == "none" else 1]
        for use in needed:
            weights.tensor(use, None)
        if weights.tensor("output_norm", None).n_weights != shape.shape.d_model:
            raise ModelFileError(f"{model.name}: its last norm is not as wide as its states")
        yield Opened(model, source, shape, weights, Decoder(shape, weights.outer("rope_freqs").get("rope_freqs")))
