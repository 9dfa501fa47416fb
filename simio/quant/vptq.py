"""Vectors of weights as indices into codebooks: a main one, one for what it leaves over, one for outlier columns.

VPTQ, arXiv 2409.17066, and the layout of its checkpoints (github.com/microsoft/VPTQ, ``v8-k65536-256``): a vector is
``length`` consecutive output channels of one input column, zeros pad the last ones; codebooks are FP16; a residual
codebook holds what the main one leaves over; outlier columns have a codebook of their own and no residual.
Bits a weight: ``(log2 k + log2 r) / length`` and the codebooks.

Centroids are those of k-means weighted by the Hessian's diagonal, as there; that is the mean square of each input.
VPTQ's second-order correction of later columns and its fine-tuning are left out. Outlier vectors are half as long as
the others (own choice). A codebook never has more entries than there are vectors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant import importance, kmeans
from simio.quant.contract import FP16_MAX, Activations, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.index_packing import index_bits, pack_indices, unpack_indices
from simio.quant.packing import packed_bytes

_HINT = "write for example vptq:v8:k4096, vptq:v8:k4096:r256 or vptq:v8:k4096:r256:o1 (1 % of the columns as outliers)"
_OPTIONS = re.compile(r"v(\d+):k(\d+)(?::r(\d+))?(?::o(\d+))?")


@dataclass(frozen=True, slots=True)
class Vptq(Quantizer):
    """Vectors of ``length`` weights; ``n_entries`` and ``n_residual`` (0: none) in the codebooks.

    ``outlier_percent`` of the columns, those that count most, are outliers: by mean square of their inputs, or of their
    weights where nothing is known of the inputs.
    """

    length: int
    n_entries: int
    n_residual: int = 0
    outlier_percent: int = 0
    importance: FloatArray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.length <= 64:
            raise UsageError(f"vptq: vectors of {self.length} weights are not between 1 and 64 long", _HINT)
        if not 2 <= self.n_entries <= 65536 or not (self.n_residual == 0 or 2 <= self.n_residual <= 65536):
            raise UsageError("vptq: a codebook has 2 to 65536 entries", _HINT)
        if not 0 <= self.outlier_percent <= 50:
            raise UsageError(f"vptq: {self.outlier_percent} % of the columns cannot be outliers (at most 50)", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        residual = f":r{self.n_residual}" if self.n_residual else ""
        outliers = f":o{self.outlier_percent}" if self.outlier_percent else ""
        return f"vptq:v{self.length}:k{self.n_entries}{residual}{outliers}"

    @property
    def rows_apart(self) -> bool:
        """False: all rows share the codebooks."""
        return False

    def calibrated(self, activations: Activations) -> Vptq:
        """With centroids and outliers weighted by the mean square of each input."""
        return replace(self, importance=importance.of_columns(activations))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams of ``w (n_out, n_in)``: ``indices`` (packed) and ``codebook`` (FP16); with a residual codebook
        ``residual_indices`` and ``residual_codebook``; with outliers ``outlier_columns`` (UINT32, ascending),
        ``outlier_indices`` and ``outlier_codebook``.
        """
        x = checked(w, 1, self.name, FP16_MAX / 2)
        weights = importance.for_matrix(self.importance, x.shape[1], self.name)
        outliers = self._outliers(x, weights)
        plain = np.delete(np.arange(x.shape[1]), outliers)
        vectors, counts = _vectors(x[:, plain], self.length), _repeated(weights[plain], x.shape[0], self.length)
        streams, restored = _coded(vectors, counts, self.n_entries, "")
        if self.n_residual:
            streams |= _coded(vectors - restored, counts, self.n_residual, "residual_")[0]
        if self.outlier_percent:
            counts = _repeated(weights[outliers], x.shape[0], self._outlier_length)
            streams["outlier_columns"] = outliers
            streams |= _coded(_vectors(x[:, outliers], self._outlier_length), counts, self.n_entries, "outlier_")[0]
        return streams

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: entry of the main codebook plus that of the residual one."""
        n_out, n_in = shape
        indices, w = self.symbols(streams, shape), np.empty(shape, np.float32)
        vectors = _looked_up(streams, indices, "", self.length)
        if self.n_residual:
            vectors += _looked_up(streams, indices, "residual_", self.length)
        if not self.outlier_percent:
            return _matrix(vectors, n_out, n_in)
        outliers = streams["outlier_columns"]
        plain = np.delete(np.arange(n_in), outliers)
        w[:, plain] = _matrix(vectors, n_out, plain.size)
        w[:, outliers] = _matrix(_looked_up(streams, indices, "outlier_", self._outlier_length), n_out, outliers.size)
        return w

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: indices, codebooks, outlier columns, exact to the byte."""
        books = self._books(shape).values()
        stored = sum(packed_bytes(n, index_bits(k)) + 2 * k * length for n, k, length in books)
        return 8 * (stored + 4 * self._n_outliers(shape[1])) / (shape[0] * shape[1])

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Indices one an item (``uint16``); codebooks and columns as they are."""
        found = {key: integers(stream) for key, stream in streams.items()}
        for prefix, (n, k, _) in self._books(shape).items():
            found[f"{prefix}indices"] = unpack_indices(streams[f"{prefix}indices"], index_bits(k), n)
        return found

    @property
    def _outlier_length(self) -> int:
        return max(1, self.length // 2)

    def _n_outliers(self, n_in: int) -> int:
        """At least one where outliers are asked for, and never all columns."""
        return min(max(1, round(n_in * self.outlier_percent / 100)), n_in - 1) if self.outlier_percent else 0

    def _outliers(self, x: FloatArray, weights: FloatArray) -> npt.NDArray[np.uint32]:
        counts = np.mean(x * x, axis=0) if self.importance is None else weights
        first = np.argsort(-counts, kind="stable")[: self._n_outliers(x.shape[1])]
        return np.sort(first).astype(np.uint32)

    def _books(self, shape: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
        """Of each codebook, by the prefix of its streams: vectors, entries, vector length."""
        n_outliers = self._n_outliers(shape[1])
        sizes = {"": (shape[1] - n_outliers, self.n_entries, self.length)}
        if self.n_residual:
            sizes["residual_"] = (shape[1] - n_outliers, self.n_residual, self.length)
        if self.outlier_percent:
            sizes["outlier_"] = (n_outliers, self.n_entries, self._outlier_length)
        counted = {prefix: (-(-shape[0] // length) * n, k, length) for prefix, (n, k, length) in sizes.items()}
        return {prefix: (n, min(k, n), length) for prefix, (n, k, length) in counted.items()}


def _vectors(x: FloatArray, length: int) -> FloatArray:
    """``x (n_out, n)`` as vectors ``(⌈n_out / length⌉·n, length)`` down its columns, zeros below the last row."""
    padded, n_blocks = np.pad(x, ((0, -len(x) % length), (0, 0))), -(-len(x) // length)
    return np.ascontiguousarray(padded.reshape(n_blocks, length, x.shape[1]).transpose(0, 2, 1)).reshape(-1, length)


def _matrix(vectors: FloatArray, n_out: int, n_columns: int) -> FloatArray:
    """The inverse of :func:`_vectors`."""
    length, n_blocks = vectors.shape[1], -(-n_out // vectors.shape[1])
    blocks = vectors.reshape(n_blocks, n_columns, length).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks.reshape(n_blocks * length, n_columns)[:n_out])


def _repeated(weights: FloatArray, n_out: int, length: int) -> FloatArray:
    """The weight of each vector: that of its column."""
    return np.tile(weights, -(-n_out // length))


def _coded(vectors: FloatArray, counts: FloatArray, n_entries: int, prefix: str) -> tuple[Streams, FloatArray]:
    """Indices and codebook as streams, and the vectors they stand for."""
    n_entries = min(n_entries, len(vectors))
    book = kmeans.train(vectors, counts, n_entries).astype(np.float16)
    indices = kmeans.nearest(vectors, book.astype(np.float32))
    packed = pack_indices(indices, index_bits(n_entries))
    return {f"{prefix}indices": packed, f"{prefix}codebook": book.reshape(-1)}, book.astype(np.float32)[indices]


def _looked_up(streams: Streams, indices: Streams, prefix: str, length: int) -> FloatArray:
    book: FloatArray = streams[f"{prefix}codebook"].astype(np.float32).reshape(-1, length)
    return book[indices[f"{prefix}indices"]]


def vptq(options: str) -> Vptq:
    """The layout of ``vLENGTH:kENTRIES``, with ``:rENTRIES`` (residual) and ``:oPERCENT`` (outliers) behind it."""
    match = _OPTIONS.fullmatch(options)
    if not match:
        raise UsageError(f"vptq: '{options}' is not vLENGTH:kENTRIES", _HINT)
    length, n_entries, n_residual, outliers = (int(value or 0) for value in match.groups())
    return Vptq(length, n_entries, n_residual, outliers)
