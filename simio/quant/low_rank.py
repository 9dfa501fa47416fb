"""A quantized matrix plus a product of two thin FP16 ones: ``W ≈ Q + U·V``.

INT2.1, arXiv 2306.08162, corrects an INT2 matrix by a low-rank one; LQ-LoRA, arXiv 2311.12023, Algorithm 1, finds
both in turn: ``U·V`` is the best of its rank for ``W - Q``, ``Q`` quantizes ``W - U·V``, until the error no longer
falls. Here ``Q`` comes first, so the result is never worse than the quantizer alone plus its correction. With
calibration, columns are weighted by the root mean square of their inputs before the SVD (LQ-LoRA's weighted version,
with inputs in the place of its Fisher information); INT2.1's training of the factors is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from simio.errors import UsageError
from simio.quant import importance, parse
from simio.quant.contract import FP16_MAX, Activations, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.truncated_svd import factors, product

_HINT = "write for example lowrank:16:int2:group64"
_ROUNDS = 5
_FACTORS = ("factor_u", "factor_v")


@dataclass(frozen=True, slots=True)
class LowRank(Quantizer):
    """``inner`` quantizes what the factors of ``rank`` (at most the matrix's smaller side) leave over."""

    rank: int
    inner: Quantizer
    importance: FloatArray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 4096:
            raise UsageError(f"lowrank: {self.rank} is not a rank between 1 and 4096", _HINT)
        if isinstance(self.inner, LowRank):
            raise UsageError("lowrank: the quantizer inside is low-rank already", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"lowrank:{self.rank}:{self.inner.name}"

    @property
    def rows_apart(self) -> bool:
        """False: all rows share ``V``."""
        return False

    @property
    def needs_activations(self) -> bool:
        """As the quantizer inside does."""
        return self.inner.needs_activations

    def calibrated(self, activations: Activations) -> LowRank:
        """With inner quantizer and SVD set up for these inputs."""
        weights = importance.of_columns(activations)
        return replace(self, inner=self.inner.calibrated(activations), importance=weights)

    def quantize(self, w: FloatArray) -> Streams:
        """The inner quantizer's streams of ``w - U·V``, and ``factor_u (n_out, rank)``, ``factor_v (rank, n_in)``,
        both FP16 and flat, of ``w (n_out, n_in)``.
        """
        x = checked(w, 1, self.name, FP16_MAX)
        columns = np.sqrt(importance.for_matrix(self.importance, x.shape[1], self.name)).clip(1e-3)
        rest, best, least = x, Streams(), np.inf
        for _ in range(_ROUNDS):
            inner = self.inner.quantize(rest)
            left = x - self.inner.dequantize(inner, x.shape)
            u, v = factors(left * columns, self._rank(x.shape))
            pair = [half.astype(np.float16) for half in (u, v / columns)]
            correction = product(pair[0], pair[1], x.shape)
            error = float(np.square((left - correction) * columns).sum(dtype=np.float64))
            if error >= least:
                break
            least, rest = error, x - correction
            best = inner | {key: half.reshape(-1) for key, half in zip(_FACTORS, pair, strict=True)}
        return best

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: the inner quantizer's plus ``U·V``."""
        correction = product(streams["factor_u"], streams["factor_v"], shape)
        return self.inner.dequantize(_without_factors(streams), shape) + correction

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: the inner quantizer's and ``16·rank·(m + n) / mn``."""
        factor_bits = 16 * self._rank(shape) * (shape[0] + shape[1])
        return self.inner.bits_per_weight(shape) + factor_bits / (shape[0] * shape[1])

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """The inner quantizer's, and the factors as ``uint16``."""
        pair = {key: integers(streams[key]) for key in _FACTORS}
        return self.inner.symbols(_without_factors(streams), shape) | pair

    def _rank(self, shape: tuple[int, ...]) -> int:
        return min(self.rank, *shape)


def _without_factors(streams: Streams) -> Streams:
    return {key: stream for key, stream in streams.items() if key not in _FACTORS}


def lowrank(options: str) -> LowRank:
    """The layout of ``RANK:QUANTIZER``, the quantizer as :func:`simio.quant.parse` reads it."""
    rank, _, inner = options.partition(":")
    if not rank.isdecimal() or not inner:
        raise UsageError(f"lowrank: '{options}' is not RANK:QUANTIZER", _HINT)
    return LowRank(int(rank), parse(inner))
