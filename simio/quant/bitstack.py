"""BitStack: residual blocks of signs and thin FP16 factors, of which a prefix of any length can be loaded.

BitStack, arXiv 2410.23918: a block is the absolute value decomposition of what is left over, ``W ≈ S ∘ (U·V)`` with
``S = sign(W)`` and ``U·V`` the best of rank k for ``|W|``; the next block takes ``W - S ∘ (U·V)``. The paper has 16
blocks of rank 16. A block of an m×n matrix takes ``mn/8 + 2k(m + n)`` bytes (its Table 6).

With calibration, columns are scaled by the L2 norm of their inputs before the decomposition (the paper: its mean over
calibration samples; here over all tokens at once). The inverse is folded into the layer before, so it takes no bytes;
:meth:`BitStack.dequantize` of the calibrated layout divides by it.
The SVD is that of :mod:`simio.quant.truncated_svd`: exact up to 256 on the smaller side, randomized above.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from simio.errors import UsageError
from simio.quant import importance
from simio.quant.contract import FP16_MAX, Activations, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.truncated_svd import factors, product

_HINT = "write for example bitstack:16 or bitstack:8:rank32"
_OPTIONS = re.compile(r"(\d+)?(?::rank(\d+))?")


@dataclass(frozen=True, slots=True)
class BitStack(Quantizer):
    """``n_blocks`` residual blocks of ``rank`` (at most the matrix's smaller side)."""

    n_blocks: int = 16
    rank: int = 16
    importance: FloatArray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.n_blocks <= 64:
            raise UsageError(f"bitstack: {self.n_blocks} blocks are not between 1 and 64", _HINT)
        if not 1 <= self.rank <= 4096:
            raise UsageError(f"bitstack: {self.rank} is not a rank between 1 and 4096", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"bitstack:{self.n_blocks}" + ("" if self.rank == 16 else f":rank{self.rank}")

    @property
    def rows_apart(self) -> bool:
        """False: all rows share the factors ``V``."""
        return False

    def calibrated(self, activations: Activations) -> BitStack:
        """With columns scaled by the root mean square of their inputs: the ratios of their L2 norms."""
        return replace(self, importance=importance.of_columns(activations))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams of ``w (n_out, n_in)``, for each block i from 0: ``signs_i`` (packed, 1 for w ≥ 0),
        ``u_i (n_out, k)`` and ``v_i (k, n_in)``, FP16 and flat.
        """
        x = checked(w, 1, self.name, FP16_MAX)
        rest, streams = x * self._scales(x.shape[1]), Streams()
        for i in range(self.n_blocks):
            positive = rest >= 0
            u, v = (half.astype(np.float16) for half in factors(np.abs(rest), self._rank(x.shape)))
            magnitude = product(u, v, x.shape)
            rest = rest - np.where(positive, magnitude, -magnitude)
            signs = pack(positive.astype(np.uint8), 1)
            streams |= {f"signs_{i}": signs, f"u_{i}": u.reshape(-1), f"v_{i}": v.reshape(-1)}
        return streams

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)`` from all blocks."""
        return self.dequantize_prefix(streams, shape, self.n_blocks)

    def dequantize_prefix(self, streams: Streams, shape: tuple[int, int], n_blocks: int) -> FloatArray:
        """The weights ``(n_out, n_in)`` from the first ``n_blocks``; the streams of the others may be absent.

        Raises ``UsageError`` when ``n_blocks`` is not between 1 and the layout's.
        """
        if not 1 <= n_blocks <= self.n_blocks:
            raise UsageError(f"{self.name} has 1 to {self.n_blocks} blocks, not {n_blocks}", "ask for fewer blocks")
        w = np.zeros(shape, np.float32)
        for i in range(n_blocks):
            magnitude = product(streams[f"u_{i}"], streams[f"v_{i}"], shape)
            w += np.where(unpack(streams[f"signs_{i}"], 1, w.size).reshape(shape), magnitude, -magnitude)
        return w / self._scales(shape[1])

    def block_bytes(self, shape: tuple[int, int]) -> int:
        """Bytes of one block of a matrix of ``shape``: ``mn/8 + 2k(m + n)``."""
        return packed_bytes(shape[0] * shape[1], 1) + 2 * self._rank(shape) * (shape[0] + shape[1])

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: all blocks."""
        return 8 * self.n_blocks * self.block_bytes(shape) / (shape[0] * shape[1])

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Signs one bit an item; factors as ``uint16``."""
        n = shape[0] * shape[1]
        return {key: unpack(s, 1, n) if key.startswith("signs") else integers(s) for key, s in streams.items()}

    def _rank(self, shape: tuple[int, ...]) -> int:
        return min(self.rank, *shape)

    def _scales(self, n_in: int) -> FloatArray:
        """What each column is multiplied by before the decomposition ``(n_in,)``: never 0."""
        return np.sqrt(importance.for_matrix(self.importance, n_in, self.name)) + np.float32(
            0 if self.importance is None else 1e-3
        )


def bitstack(options: str) -> BitStack:
    """The layout of ``BLOCKS`` with ``:rankK`` behind it; 16 both when nothing is said."""
    match = _OPTIONS.fullmatch(options)
    if not match:
        raise UsageError(f"bitstack: '{options}' is not BLOCKS:rankK", _HINT)
    return BitStack(int(match[1] or 16), int(match[2] or 16))
