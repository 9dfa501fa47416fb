"""One matrix under one layout: what comes back, what it takes, and how far off it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simio.codecs.entropy import entropy_bits
from simio.errors import UsageError
from simio.quant.contract import Activations, FloatArray, Quantizer, Streams
from simio.records.model import Tensor
from simio.records.quality import TensorQuality


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """A matrix ``(n_out, n_in)`` in full precision; ``activations`` None: its rows are looked up."""

    tensor: Tensor
    weights: FloatArray
    activations: Activations | None
    square: float  # ‖W‖²
    output_square: float  # ‖XWᵀ‖² / n_tokens

    @staticmethod
    def of(tensor: Tensor, weights: FloatArray, activations: Activations | None) -> Original:
        """With what errors are relative to."""
        seen = output_square(weights, activations.gram) if activations else 0.0
        return Original(tensor, weights, activations, float(np.vdot(weights, weights)), seen)


def output_square(w: FloatArray, gram: FloatArray) -> float:
    """``‖XWᵀ‖² / n_tokens = tr(W G Wᵀ)`` of ``w (n_out, n_in)`` with ``G = XᵀX / n_tokens``: no tokens needed."""
    return float(np.vdot(w @ gram, w))


def quantized(quantizer: Quantizer, original: Original) -> tuple[FloatArray, TensorQuality]:
    """The weights as ``quantizer`` gives them back, and what that costs.

    A matrix that the layout cannot hold comes back as it is, with the layout's reason.
    """
    w, tensor = original.weights, original.tensor
    found = TensorQuality(tensor.name, tensor.role, tensor.layer, w.size)
    if original.activations is not None:
        quantizer = quantizer.calibrated(original.activations)
    elif quantizer.needs_activations:
        return w, _kept(found, "its rows are looked up: there are no activations to calibrate with")
    try:
        streams = quantizer.quantize(w)
    except UsageError as error:
        return w, _kept(found, error.message)
    back = quantizer.dequantize(streams, (w.shape[0], w.shape[1]))
    off = w - back
    output = output_square(off, original.activations.gram) if original.activations else None
    quality = TensorQuality(
        tensor.name, tensor.role, tensor.layer, w.size,
        bits_per_weight=quantizer.bits_per_weight((w.shape[0], w.shape[1])),
        entropy_bits=symbol_bits(quantizer.symbols(streams, (w.shape[0], w.shape[1]))) / w.size,
        weight_error=_relative(float(np.vdot(off, off)), original.square),
        output_error=None if output is None else _relative(output, original.output_square),
    )  # fmt: skip
    return back, quality


def symbol_bits(symbols: Streams) -> float:
    """Bits of all streams under an order-0 entropy coder, each stream with its own distribution."""
    return sum(stream.size * entropy_bits(np.unique(stream, return_counts=True)[1]) for stream in symbols.values())


def _kept(found: TensorQuality, reason: str) -> TensorQuality:
    return TensorQuality(found.tensor, found.role, found.layer, found.n_weights, reason=reason)


def _relative(off: float, whole: float) -> float:
    return max(0.0, off) / whole if whole > 0 else 0.0
