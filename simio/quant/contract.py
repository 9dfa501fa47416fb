"""What a quantizer is, and the checks every one of them makes on its input.

A quantizer is a frozen dataclass whose fields are its settings. It turns weights ``(n_out, n_in)`` into named byte
streams, as they would lie in a weights file, and back. Streams with different statistics (codes, scales, zeros) stay
apart, so that they compress apart; layouts whose file format interleaves them (ggml) have the one stream ``data``.

An entry point of the group ``simio.quantizers`` names a *factory*: a function from the text after the first colon
(``"group32:affine"`` of ``int8:group32:affine``, ``""`` when there is none) to the quantizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Streams = dict[str, npt.NDArray[Any]]

#: The largest weight of a layout with FP16 scales or minima.
FP16_MAX = 65504.0


class Quantizer(Protocol):
    """A weight layout: how weights become bytes."""

    def quantize(self, w: FloatArray) -> Streams:
        """The byte streams of ``w (n_out, n_in)``; every array is 1-D and C-contiguous.

        Raises ``UsageError`` for anything but a finite, non-empty matrix whose rows divide into whole groups.
        """

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)`` that ``streams`` stand for."""

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight over all streams of a matrix of ``shape``: exact, scales included."""


Factory = Callable[[str], Quantizer]


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
