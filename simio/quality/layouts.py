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


def quantized(quantizer: Quantizer, original: Original, pad_rows: bool = False) -> tuple[FloatArray, TensorQuality]:
    """The weights as ``quantizer`` gives them back, and what that costs.

    A matrix that the layout cannot hold comes back as it is, with the layout's reason; or, with ``pad_rows``, its rows
    are filled up with zeros to the next width that the layout holds. The zeros are stored, too, and counted.
    """
    w, tensor = original.weights, original.tensor
    if original.activations is None and quantizer.needs_activations:
        return w, _kept(original, "its rows are looked up: there are no activations to calibrate with")
    reason = ""
    for width in _widths(w.shape[1], pad_rows):
        try:
            layout, streams = _quantized(quantizer, original, width)
        except UsageError as error:
            reason = reason or error.message
            continue
        shape = (w.shape[0], width)
        back = np.ascontiguousarray(layout.dequantize(streams, shape)[:, : w.shape[1]])
        off, seen = w - back, original.activations
        return back, TensorQuality(
            tensor.name, tensor.role, tensor.layer, w.size,
            bits_per_weight=layout.bits_per_weight(shape) * width / w.shape[1],
            entropy_bits=symbol_bits(layout.symbols(streams, shape)) / w.size,
            weight_error=_relative(float(np.vdot(off, off)), original.square),
            output_error=_relative(output_square(off, seen.gram), original.output_square) if seen else None,
            padded_to=width if width > w.shape[1] else 0,
        )  # fmt: skip
    return w, _kept(original, reason)


#: Multiples that layouts want rows to be of: their groups and super-blocks.
_MULTIPLES = (16, 32, 64, 128, 256)


def _widths(n_in: int, pad_rows: bool) -> list[int]:
    """Row lengths to try, the real one first."""
    return [n_in, *sorted({-(-n_in // m) * m for m in _MULTIPLES} - {n_in})] if pad_rows else [n_in]


def _quantized(quantizer: Quantizer, original: Original, width: int) -> tuple[Quantizer, Streams]:
    """The layout, calibrated, and its streams, with rows filled up to ``width``."""
    more, seen = width - original.weights.shape[1], original.activations
    if seen is not None:
        padded = seen if not more else Activations(
            seen.n_tokens, np.pad(seen.peak, (0, more)), np.pad(seen.mean_magnitude, (0, more)),
            np.pad(seen.gram, (0, more)),
        )  # fmt: skip
        quantizer = quantizer.calibrated(padded)
    return quantizer, quantizer.quantize(np.pad(original.weights, ((0, 0), (0, more))) if more else original.weights)


def symbol_bits(symbols: Streams) -> float:
    """Bits of all streams under an order-0 entropy coder, each stream with its own distribution."""
    return sum(stream.size * entropy_bits(np.unique(stream, return_counts=True)[1]) for stream in symbols.values())


def _kept(original: Original, reason: str) -> TensorQuality:
    tensor = original.tensor
    return TensorQuality(tensor.name, tensor.role, tensor.layer, original.weights.size, reason=reason)


def _relative(off: float, whole: float) -> float:
    return max(0.0, off) / whole if whole > 0 else 0.0
