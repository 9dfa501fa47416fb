"""What a quantizer is, and the checks every one of them makes on its input.

A quantizer is a frozen dataclass whose fields are its settings. It turns weights ``(n_out, n_in)`` into named byte
streams, as they would lie in a weights file, and back. Streams with different statistics (codes, scales, zeros) stay
apart, so that they compress apart; layouts whose file format interleaves them (ggml) have the one stream ``data``.

Three things a layout may need beyond the rows it is given: the whole tensor's range, when a large tensor comes in runs
of rows (``for_tensor``); what its inputs look like (``calibrated``); and all rows at once (``rows_apart`` is false).

Rules, held by ``simio.testing.check_quantizer``: streams are flat and add up to ``bits_per_weight`` to the byte; what
they stand for does not change on the way through bytes; equal weights give equal streams; rows given in runs give the
streams of the whole, where rows are apart; zeros come back as zeros; what is no finite matrix is refused.

An entry point of the group ``simio.quantizers`` names a *factory*: a function from the text after the first colon
(``"group32:affine"`` of ``int8:group32:affine``, ``""`` when there is none) to the quantizer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Streams = dict[str, npt.NDArray[Any]]

#: The largest weight of a layout with FP16 scales or minima.
FP16_MAX = 65504.0


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """A whole tensor, for the layouts with one scale for all of it: weights, extremes, mean magnitude, mean square."""

    n_weights: int
    low: float
    high: float
    mean_magnitude: float
    mean_square: float

    @staticmethod
    def of(w: npt.NDArray[Any]) -> TensorSummary:
        """The summary of ``w``, any shape but empty."""
        square = float(np.mean(np.square(w, dtype=np.float64)))
        return TensorSummary(
            w.size, float(w.min()), float(w.max()), float(np.mean(np.abs(w), dtype=np.float64)), square
        )


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """What a matrix multiplies, over ``n_tokens`` calibration tokens ``X (n_tokens, n_in)``.

    ``peak`` and ``mean_magnitude (n_in,)`` are max and mean of ``|X|``, ``gram (n_in, n_in)`` is ``XᵀX / n_tokens``.
    """

    n_tokens: int
    peak: FloatArray
    mean_magnitude: FloatArray
    gram: FloatArray


class Quantizer(Protocol):
    """A weight layout: how weights become bytes. Subclass it: what is not abstract here suits most layouts."""

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        ...

    @property
    def rows_apart(self) -> bool:
        """Whether rows may be quantized in runs, once :meth:`for_tensor` has told of the whole tensor."""
        return True

    @property
    def needs_activations(self) -> bool:
        """Whether :meth:`quantize` works only after :meth:`calibrated`."""
        return False

    def for_tensor(self, summary: TensorSummary) -> Quantizer:
        """This layout set up for a tensor of which :meth:`quantize` will see some rows at a time."""
        return self

    def calibrated(self, activations: Activations) -> Quantizer:
        """This layout set up for a matrix with these inputs."""
        return self

    def quantize(self, w: FloatArray) -> Streams:
        """The byte streams of ``w (n_out, n_in)``; every array is 1-D and C-contiguous.

        Raises ``UsageError`` for anything but a finite, non-empty matrix whose rows divide into whole groups.
        """

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)`` that ``streams`` stand for."""

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight over all streams of a matrix of ``shape``: exact, scales included."""

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """What an entropy coder would be told about: of each stream its integers, one an item, codes unpacked.

        ``codes`` are those of the weights. Scales and other floats stay as they are stored, ``uint16`` or ``uint32``.
        """
        return {key: integers(stream) for key, stream in streams.items()}


Factory = Callable[[str], Quantizer]


def integers(stream: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The items of ``stream`` as unsigned integers of their own width."""
    return stream.view(np.dtype(f"u{stream.itemsize}"))


def fixed(name: str, quantizer: Quantizer) -> Factory:
    """The factory of a layout that has no options."""

    def make(options: str) -> Quantizer:
        if options:
            raise UsageError(f"quantizer '{name}' takes no options, got '{options}'", f"write {name}")
        return quantizer

    return make


def checked(w: npt.NDArray[Any], group: int, what: str, largest: float = float("inf")) -> FloatArray:
    """``w`` as contiguous float32 after the checks that all quantizers share.

    Raises ``UsageError`` when ``w`` is not a matrix, is empty, holds NaN or infinity or a magnitude above ``largest``,
    or when its rows are not a multiple of ``group`` weights. ``what`` names the layout in the message.
    """
    if w.ndim != 2 or w.size == 0:
        raise UsageError(f"{what} needs a matrix (n_out, n_in) of weights, got shape {w.shape}", "reshape it first")
    if w.shape[1] % group:
        raise UsageError(
            f"{what} needs rows of a multiple of {group} weights, got {w.shape[1]}", "choose a smaller group or layout"
        )
    x: FloatArray = np.ascontiguousarray(w, dtype=np.float32)
    peak = float(max(x.max(), -x.min()))
    if not np.isfinite(peak):
        raise UsageError(f"{what}: the weights hold NaN or infinity", "check the weights file")
    if peak > largest:
        raise UsageError(f"{what} cannot hold a weight of magnitude {peak:g} (largest {largest:g})", "use bf16 or f32")
    return x
