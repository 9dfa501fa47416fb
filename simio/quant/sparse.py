"""N:M sparsity: of every M weights along the input axis the N largest are kept, in any layout, with their places.

2:4 and its storage, the kept values and for each its place among the four in 2 bits: Mishra et al. 2021, Accelerating
Sparse Deep Neural Networks, arXiv 2104.08378, section 3; N:M in general: arXiv 2102.04010. Sparse and quantized
together as in Compress, then Prompt (arXiv 2305.11186). Kept are the largest ``|w|`` or, once calibrated, the largest
``|w_ij|·‖X_j‖`` (Wanda, arXiv 2306.11695, eq. 1). The kept weights of a row, in order, are a row of the inner layout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from simio import quant
from simio.errors import UsageError
from simio.quant.contract import (
    Activations,
    ByteArray,
    FloatArray,
    Quantizer,
    Streams,
    TensorSummary,
    checked,
)
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.salience import fits

_PATTERN = re.compile(r"(\d+)of(\d+)")
_HINT = "write for example sparse:2of4:int4:group32, sparse:1of4:f16 or sparse:4of8:int8:channel"
_INDEX_BITS = {2: 1, 4: 2, 8: 3, 16: 4}
_SOME_TENSOR = TensorSummary(1, -1.0, 1.0, 0.5, 0.3)


@dataclass(frozen=True, slots=True)
class NofM(Quantizer):
    """``kept`` of every ``out_of`` weights lie in the layout ``inner``; ``out_of`` is 2, 4, 8 or 16."""

    kept: int
    out_of: int
    inner: Quantizer
    norms: FloatArray | None = field(default=None, compare=False, repr=False)  # ‖X_j‖ / √n_tokens by input channel

    def __post_init__(self) -> None:
        if self.out_of not in _INDEX_BITS or not 0 < self.kept < self.out_of:
            raise UsageError(f"sparse: {self.kept} of {self.out_of} is not a pattern (N below M of 2, 4, 8, 16)", _HINT)
        if isinstance(self.inner, NofM) or self.inner.needs_activations:
            raise UsageError(f"sparse: kept weights cannot lie in the layout {self.inner.name}", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"sparse:{self.kept}of{self.out_of}:{self.inner.name}"

    @property
    def rows_apart(self) -> bool:
        """Not where the inner layout asks for a figure of the whole tensor: that of the kept weights is another."""
        return self.inner.rows_apart and self.inner.for_tensor(_SOME_TENSOR) == self.inner

    def calibrated(self, activations: Activations) -> NofM:
        """With weights that count as the norm of their input."""
        return replace(self, norms=np.sqrt(np.diag(activations.gram)))

    def quantize(self, w: FloatArray) -> Streams:
        """The inner layout's streams of the kept weights, and ``places`` (packed indices, ascending within M)."""
        x = checked(w, self.out_of, self.name)
        fits(self.norms, x.shape[1], self.name)
        scores = np.abs(x) if self.norms is None else np.abs(x) * self.norms
        ranked = np.argsort(-scores.reshape(-1, self.out_of), axis=1, kind="stable")
        places = np.sort(ranked[:, : self.kept].astype(np.uint8), axis=1)
        values = np.take_along_axis(x.reshape(-1, self.out_of), places, axis=1)
        streams = self.inner.quantize(values.reshape(self._kept_shape(x.shape)))
        return streams | {"places": pack(places, _INDEX_BITS[self.out_of])}

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``, 0 where they were not kept."""
        values = self.inner.dequantize(self._inner_streams(streams), self._kept_shape(shape))
        dense = np.zeros((shape[0] * shape[1] // self.out_of, self.out_of), np.float32)
        np.put_along_axis(dense, self._places(streams, shape), values.reshape(-1, self.kept), axis=1)
        return dense.reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight, kept or not, of a matrix of ``shape``: exact to the byte."""
        kept_shape = self._kept_shape(shape)
        n_kept = kept_shape[0] * kept_shape[1]
        place_bytes = packed_bytes(n_kept, _INDEX_BITS[self.out_of])
        return (self.inner.bits_per_weight(kept_shape) * n_kept + 8 * place_bytes) / (shape[0] * shape[1])

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """The inner layout's symbols; ``places`` as the pattern of each M weights, its indices side by side."""
        bits = _INDEX_BITS[self.out_of]
        shifts = np.arange(self.kept, dtype=np.uint64) * np.uint64(bits)
        patterns = np.sum(self._places(streams, shape).astype(np.uint64) << shifts, axis=1, dtype=np.uint64)
        narrow = np.min_scalar_type((1 << bits * self.kept) - 1)
        found = self.inner.symbols(self._inner_streams(streams), self._kept_shape(shape))
        return found | {"places": patterns.astype(narrow)}

    def _kept_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[0], shape[1] // self.out_of * self.kept

    def _places(self, streams: Streams, shape: tuple[int, int]) -> ByteArray:
        """The places kept within each M weights, ``(n_weights / M, N)``."""
        n_kept = shape[0] * shape[1] // self.out_of * self.kept
        return unpack(streams["places"], _INDEX_BITS[self.out_of], n_kept).reshape(-1, self.kept)

    @staticmethod
    def _inner_streams(streams: Streams) -> Streams:
        return {key: stream for key, stream in streams.items() if key != "places"}


def sparse(options: str) -> NofM:
    """The layout of ``NofM`` weights, with the layout of those kept behind it (default ``f16``)."""
    pattern, _, inner = options.partition(":")
    match = _PATTERN.fullmatch(pattern)
    if not match:
        raise UsageError(f"sparse: '{pattern}' is not a pattern", _HINT)
    return NofM(int(match[1]), int(match[2]), quant.parse(inner or "f16"))
