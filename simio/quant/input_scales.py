"""Scale input channels before quantizing: ``W·diag(s)`` is stored, the inputs are divided by ``s``.

Three ways to choose ``s (n_in,)`` from the inputs X of a calibration text, each around any other layout:

* ``smoothquant`` (arXiv 2211.10438, eq. 4): ``s_j = max|X_j|^α / max|W_j|^(1-α)``, α the migration strength, 0.5. Here
  W is one matrix; the paper takes the largest of those that share their inputs.
* ``awq`` (arXiv 2306.00978, eq. 4 and 5): ``s_j = mean|X_j|^α``, of 20 α in [0, 1) that of least output error
  ``‖X(W - Ŵ)ᵀ‖²``; α = 0 is the layout without scales.
* ``rescale``, compression-aware: the same 20 candidates, but the one with the least entropy of the codes, among those
  whose output error is no larger than without scales. Re-scaling channels by their activations so that codes compress
  better is the idea of Double Compression (arXiv 2502.15443); its own choice of scales could not be looked up, this
  criterion is simio's.

Scales are normalised to ``√(max s · min s) = 1``, as AWQ does, and stored as FP32 ``input_scales``; a runtime folds
them into the layer before, simio divides by them while dequantizing.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simio.errors import UsageError
from simio.quant import parse
from simio.quant.calibrated import Calibrated
from simio.quant.contract import Activations, FloatArray, Quantizer, Streams, checked, integers

#: Candidates of α, and the output rows that tell which is best; more rows change the estimate by less than sampling X.
N_GRID = 20
_ERROR_ROWS = 1024

#: Bounds of the authors' code: of peaks and scales (mit-han-lab/smoothquant), and of scales (mit-han-lab/llm-awq).
_LEAST_PEAK, _LEAST_SCALE = np.float32(1e-5), np.float32(1e-4)

_ALPHA = re.compile(r"alpha([01](?:\.\d+)?|\.\d+):(.*)")


@dataclass(frozen=True, slots=True)
class InputScaled(Calibrated):
    """``inner`` on scaled input channels. A subclass names itself and makes :meth:`_streams`."""

    inner: Quantizer

    def quantize(self, w: FloatArray) -> Streams:
        """The streams of the inner layout, of ``w·diag(s)``, and ``input_scales (n_in,)``.

        Raises ``UsageError`` before :meth:`calibrated`, and where the inputs are of another width.
        """
        x = checked(w, 1, self.name)
        return self._streams(x, self.inputs(x.shape[1]))

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)`` that multiply inputs as they are: the inner layout's, divided by ``s``."""
        scales: FloatArray = streams["input_scales"]
        values = self.inner.dequantize(_inner(streams), shape) / scales
        return values

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Those of the inner layout, and 32 an input channel."""
        return self.inner.bits_per_weight(shape) + 32 / shape[0]

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Those of the inner layout, and the scales as they are."""
        return self.inner.symbols(_inner(streams), shape) | {"input_scales": integers(streams["input_scales"])}

    @abstractmethod
    def _streams(self, w: FloatArray, activations: Activations) -> Streams:
        """The streams of ``w`` for inputs like ``activations``."""

    def _scaled(self, w: FloatArray, scales: FloatArray, activations: Activations) -> Streams:
        inner = self.inner
        if inner.needs_activations:
            inner = inner.calibrated(_divided(activations, scales))
        return inner.quantize(w * scales) | {"input_scales": scales}


@dataclass(frozen=True, slots=True)
class SmoothQuant(InputScaled):
    """Difficulty migrated from inputs to weights by the power ``alpha``."""

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"smoothquant: the migration strength {self.alpha} is not in [0, 1]", "write alpha0.5")

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"smoothquant:{'' if self.alpha == 0.5 else f'alpha{self.alpha}:'}{self.inner.name}"

    def _streams(self, w: FloatArray, activations: Activations) -> Streams:
        w_peak = np.maximum(np.maximum(w.max(axis=0), -w.min(axis=0)), _LEAST_PEAK)
        scales = activations.peak**self.alpha / w_peak ** (1 - self.alpha)
        return self._scaled(w, _normalised(scales, _LEAST_PEAK), activations)


@dataclass(frozen=True, slots=True)
class Awq(InputScaled):
    """Scales of least output error."""

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"awq:{self.inner.name}"

    def _streams(self, w: FloatArray, activations: Activations) -> Streams:
        return min(_candidates(self, w, activations), key=lambda candidate: candidate[1])[0]


@dataclass(frozen=True, slots=True)
class Rescale(InputScaled):
    """Scales of least entropy of the codes that cost no output error."""

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"rescale:{self.inner.name}"

    def _streams(self, w: FloatArray, activations: Activations) -> Streams:
        candidates = _candidates(self, w, activations)
        best, allowed = next(candidates)
        least = self._entropy(best, w.shape)
        for streams, error in candidates:
            if error <= allowed and (entropy := self._entropy(streams, w.shape)) < least:
                best, least = streams, entropy
        return best

    def _entropy(self, streams: Streams, shape: tuple[int, ...]) -> float:
        """Order-0 entropy of the codes in bits a code."""
        codes = self.symbols(streams, (shape[0], shape[1]))["codes"]
        counts = np.unique(codes, return_counts=True)[1]
        return float(np.log2(codes.size) - (counts * np.log2(counts)).sum() / codes.size)


def _candidates(layout: Awq | Rescale, w: FloatArray, activations: Activations) -> Iterator[tuple[Streams, float]]:
    """The streams and the output error of each α in 0, 1/20 … 19/20."""
    for step in range(N_GRID):
        scales = _normalised(activations.mean_magnitude ** np.float32(step / N_GRID), _LEAST_SCALE)
        streams = layout._scaled(w, scales, activations)
        yield streams, output_error(w, layout.dequantize(streams, (w.shape[0], w.shape[1])), activations.gram)


def output_error(w: FloatArray, back: FloatArray, gram: FloatArray) -> float:
    """``‖X(w - back)ᵀ‖²`` a token and output, from the Gram matrix of X; of evenly spaced rows where there are many."""
    rows = slice(None, None, -(-len(w) // _ERROR_ROWS))
    difference = w[rows] - back[rows]
    return float(np.einsum("ij,ij->", difference @ gram, difference, dtype=np.float64)) / len(difference)


def _normalised(scales: FloatArray, least: np.float32) -> FloatArray:
    """``scales``, at least ``least``, with ``√(max·min) = 1``."""
    scales = np.maximum(scales, least)
    normalised: FloatArray = scales / np.sqrt(scales.max() * scales.min())
    return normalised


def _divided(activations: Activations, scales: FloatArray) -> Activations:
    """The inputs that the scaled matrix multiplies."""
    gram = activations.gram / scales[:, None] / scales
    return Activations(activations.n_tokens, activations.peak / scales, activations.mean_magnitude / scales, gram)


def _inner(streams: Streams) -> Streams:
    return {key: stream for key, stream in streams.items() if key != "input_scales"}


def _inner_of(name: str, options: str) -> Quantizer:
    if not options:
        raise UsageError(f"{name} needs a layout to scale", f"write for example {name}:int4:group128")
    return parse(options)


def smoothquant(options: str) -> SmoothQuant:
    """``[alphaX:]layout``."""
    match = _ALPHA.fullmatch(options)
    settings: dict[str, Any] = {"alpha": float(match[1])} if match else {}
    return SmoothQuant(_inner_of("smoothquant", match[2] if match else options), **settings)


def awq(options: str) -> Awq:
    """``layout``."""
    return Awq(_inner_of("awq", options))


def rescale(options: str) -> Rescale:
    """``layout``."""
    return Rescale(_inner_of("rescale", options))
