"""What a study takes from a decoder that was run: what its matrices multiply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from simio.quant.contract import Activations, Quantizer
from simio.records.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Activations by tensor, for the layouts that need them; ``digest`` identifies model and text."""

    digest: str
    by_tensor: Mapping[str, Activations]

    def activations(self, tensor: str) -> Activations | None:
        """What the matrix ``tensor`` multiplies; None where it is not known."""
        return self.by_tensor.get(tensor)


def looks_at_activations(quantizer: Quantizer) -> bool:
    """Whether :meth:`Quantizer.calibrated` does anything."""
    return type(quantizer).calibrated is not Quantizer.calibrated


def calibrate(model: Model, tokens: npt.NDArray[np.int64]) -> Calibration:
    """Run ``model`` on ``tokens (n_texts, n_tokens)`` and keep what its matrices multiply, all of them in memory.

    Errors as of :func:`simio.quality.activations`.
    """
    from simio.quality import activations

    digest = xxhash.xxh3_128_hexdigest(model.digest.encode() + tokens.tobytes())
    return Calibration(digest, dict(activations(model, tokens)))
