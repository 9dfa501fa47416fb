"""Ternary weights -1, 0, +1 under one scale per tensor, output channel or group.

Three rules. With ``γ`` the first two are ``level = clip(round(w / γ), -1, 1)``, which stands for ``γ·level``:

* ``absmean``: ``γ = mean|w|`` (BitNet b1.58, arXiv 2402.17764, eq. 1-3; Spectra / TriLM, arXiv 2407.12327);
* ``absmedian``: ``γ = median|w|`` (BitNet b1.58 Reloaded, arXiv 2407.09527). Where most weights are 0, so is ``γ``;
* ``twn``: 0 where ``|w| ≤ 0.7·mean|w|``, the scale is the mean of ``|w|`` over the others (Ternary Weight Networks,
  arXiv 1605.04711): the scale of least squared error for these levels.

Weights that are ternary already keep their levels under all three, but their scale only under ``twn``: under
``absmean`` it shrinks to the share of weights that are not 0.

``γ`` has an ε added in the papers, against a division by 0; here levels are found by comparing, so none is needed.
Codes are levels + 1, packed four to a byte, or five with ``base3`` (1.6 bits).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import ByteArray, FloatArray, Quantizer, Streams, TensorSummary, integers
from simio.quant.granularity import TENSOR, Granularity
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.rows import mean_magnitudes
from simio.quant.trits import pack_trits, packed_trit_bytes, unpack_trits

_RULES = ("absmean", "absmedian", "twn")
_HINT = "write for example ternary:absmean, ternary:absmedian:channel or ternary:absmean:group64:base3"
_TWN_THRESHOLD = 0.7  # arXiv 1605.04711: Δ* ≈ 0.7·E|W|

Scales = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Ternary(Quantizer):
    """``rule`` sets scale and threshold, ``grain`` who shares them, ``base3`` packs five codes to a byte."""

    rule: str = "absmean"
    grain: Granularity = TENSOR
    base3: bool = False
    mean_magnitude: float | None = None  # of the whole tensor, where rows come in runs

    def __post_init__(self) -> None:
        if self.rule not in _RULES:
            raise UsageError(f"ternary: '{self.rule}' is not a rule (absmean, absmedian, twn)", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        grain = "" if self.grain == TENSOR else f":{self.grain}"
        return f"ternary:{self.rule}{grain}" + (":base3" if self.base3 else "")

    @property
    def rows_apart(self) -> bool:
        """Not with a median, or a mean of the kept weights, over all rows."""
        return self.rule == "absmean" or self.grain != TENSOR

    def for_tensor(self, summary: TensorSummary) -> Ternary:
        """With one scale for the tensor: that of all its rows."""
        return replace(self, mean_magnitude=summary.mean_magnitude) if self.grain == TENSOR else self

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed) and ``scales`` of ``w (n_out, n_in)``."""
        groups = self.grain.split(w, self.name)
        scales, thresholds = self._twn(groups) if self.rule == "twn" else self._rounded(groups)
        above = groups > thresholds.astype(np.float32)[:, None]
        below = groups < -thresholds.astype(np.float32)[:, None]
        codes = above.view(np.uint8) + np.uint8(1) - below.view(np.uint8)
        return {"codes": pack_trits(codes) if self.base3 else pack(codes, 2), "scales": scales}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: ``(code - 1)·scale``."""
        levels = self._codes(streams, shape).astype(np.float32) - 1
        values: FloatArray = levels.reshape(self.grain.n_scales(shape), -1)
        values *= streams["scales"].astype(np.float32)[:, None]
        return values.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes and scales, exact to the byte."""
        n = shape[0] * shape[1]
        code_bytes = packed_trit_bytes(n) if self.base3 else packed_bytes(n, 2)
        return 8 * (code_bytes + self.grain.scale_bytes(shape)) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; scales as they are."""
        return {"codes": self._codes(streams, shape), "scales": integers(streams["scales"])}

    def _codes(self, streams: Streams, shape: tuple[int, int]) -> ByteArray:
        n = shape[0] * shape[1]
        return unpack_trits(streams["codes"], n) if self.base3 else unpack(streams["codes"], 2, n)

    def _rounded(self, groups: FloatArray) -> tuple[Scales, Scales]:
        """Scale γ as stored, and the threshold γ / 2 above which ``w / γ`` rounds to 1."""
        gamma = np.median(np.abs(groups), axis=1) if self.rule == "absmedian" else self._means(groups)
        scales = gamma.astype(self.grain.scale_type)
        return scales, scales.astype(np.float32) / np.float32(2)

    def _twn(self, groups: FloatArray) -> tuple[Scales, Scales]:
        """Scale (mean magnitude of the kept weights) and threshold."""
        thresholds = (_TWN_THRESHOLD * self._means(groups)).astype(np.float32)
        magnitudes = np.abs(groups)
        kept = magnitudes > thresholds[:, None]
        totals = np.sum(magnitudes, axis=1, dtype=np.float64, where=kept)
        scales = totals / np.maximum(np.count_nonzero(kept, axis=1), 1)
        return scales.astype(self.grain.scale_type), thresholds

    def _means(self, groups: FloatArray) -> npt.NDArray[np.float64]:
        return mean_magnitudes(groups) if self.mean_magnitude is None else np.array([self.mean_magnitude])


def ternary(options: str) -> Ternary:
    """The layout of ``absmean`` (default), ``absmedian`` or ``twn``, then a granularity and ``base3``, if any."""
    rule, *rest = options.split(":") if options else ["absmean"]
    base3 = rest[-1:] == ["base3"]
    grains = rest[:-1] if base3 else rest
    if len(grains) > 1:
        raise UsageError(f"ternary: too many options in '{options}'", _HINT)
    return Ternary(rule, Granularity.parse(grains[0], "ternary", _HINT) if grains else TENSOR, base3)
