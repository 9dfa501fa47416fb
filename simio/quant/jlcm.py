"""Codes into small codebooks shared by rows that are alike: jointly learnable codebooks and mappings.

JLCM, arXiv 2309.17361: output channels of similar distribution are grouped, each group has a scalar codebook, and the
rows lie in the groups' order, so that no weight says which codebook it uses. Here the order is by root mean square and
the groups are as even as can be. The row order, which a model can absorb into its neighbouring layers, is stored, since
a matrix alone cannot: 32 / n_in bits a weight.

Codebook and mapping are learnt in turn, each the best for the other (Lloyd), on the weights' error, weighted by the
mean square of each input where that is known; JLCM's descent along the gradient of the model's output is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant import importance, kmeans
from simio.quant.contract import FP16_MAX, Activations, ByteArray, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack

_HINT = "write for example jlcm:2:books16 or jlcm:3:books8"
_OPTIONS = re.compile(r"(\d+)(?::books(\d+))?")


@dataclass(frozen=True, slots=True)
class Jlcm(Quantizer):
    """Codes of ``bits`` into ``n_books`` codebooks of ``2**bits`` FP16 entries; never more codebooks than rows."""

    bits: int
    n_books: int = 16
    importance: FloatArray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.bits not in (2, 3, 4):
            raise UsageError(f"jlcm: codes of {self.bits} bits are not 2, 3 or 4", _HINT)
        if not 1 <= self.n_books <= 4096:
            raise UsageError(f"jlcm: {self.n_books} codebooks are not between 1 and 4096", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"jlcm:{self.bits}:books{self.n_books}"

    @property
    def rows_apart(self) -> bool:
        """False: rows share codebooks."""
        return False

    def calibrated(self, activations: Activations) -> Jlcm:
        """With errors weighted by the mean square of each input."""
        return replace(self, importance=importance.of_columns(activations))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` (packed, rows in their new order), ``codebooks`` (FP16) and ``rows`` (UINT32: where each
        row of the new order stood) of ``w (n_out, n_in)``.
        """
        x = checked(w, 1, self.name, FP16_MAX)
        counts = importance.for_matrix(self.importance, x.shape[1], self.name)
        rows = np.argsort(np.mean(x * x, axis=1), kind="stable")
        x, parts = x[rows], self._parts(len(x))
        codes, books = zip(*(self._coded(x[part], counts) for part in parts), strict=True)
        return {
            "codes": pack(np.concatenate(codes), self.bits),
            "codebooks": np.concatenate(books),
            "rows": rows.astype(np.uint32),
        }

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: the entry each code names, rows back in their place."""
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1]).reshape(shape)
        books = streams["codebooks"].astype(np.float32).reshape(-1, 1 << self.bits)
        w = np.empty(shape, np.float32)
        for book, part in zip(books, self._parts(shape[0]), strict=True):
            w[streams["rows"][part]] = book[codes[part]]
        return w

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, codebooks and the order of rows."""
        n = shape[0] * shape[1]
        books = 2 * len(self._parts(shape[0])) << self.bits
        return 8 * (packed_bytes(n, self.bits) + books + 4 * shape[0]) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes one an item; codebooks and rows as they are."""
        codes = unpack(streams["codes"], self.bits, shape[0] * shape[1])
        return {key: integers(stream) for key, stream in streams.items()} | {"codes": codes}

    def _parts(self, n_out: int) -> list[slice]:
        """The rows of each codebook, in the new order."""
        n_books = min(self.n_books, n_out)
        return [slice(i * n_out // n_books, (i + 1) * n_out // n_books) for i in range(n_books)]

    def _coded(self, x: FloatArray, counts: FloatArray) -> tuple[ByteArray, npt.NDArray[np.float16]]:
        """Codes and codebook of some rows."""
        values = x.reshape(-1, 1)
        n_entries = 1 << self.bits
        book = kmeans.train(values, np.tile(counts, len(x)), n_entries).astype(np.float16).reshape(-1)
        return kmeans.nearest(values, book.astype(np.float32)[:, None]).astype(np.uint8), book


def jlcm(options: str) -> Jlcm:
    """The layout of ``BITS`` with ``:booksN`` behind it."""
    match = _OPTIONS.fullmatch(options)
    if not match:
        raise UsageError(f"jlcm: '{options}' is not BITS:booksN", _HINT)
    return Jlcm(int(match[1]), int(match[2] or 16))
