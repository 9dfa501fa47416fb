"""Filter for floating-point weights: exponents in one stream, mantissas and signs in others.

Trained weights use about 40 of the 256 exponents, while their mantissas are noise (ZipNN, arXiv 2411.05239, §III):
apart, the exponents compress to about a third and the noise is stored as it is. Each value is rotated left by one bit,
which moves the sign below the mantissa and aligns the exponent to a byte:

    BF16  s eeeeeeee mmmmmmm    → plane 0 eeeeeeee,  plane 1 mmmmmmms
    F16   s eeeee mmmmmmmmmm    → plane 0 eeeeemmm,  plane 1 mmmmmmms
    F32   s eeeeeeee mmmm…      → plane 0 eeeeeeee,  planes 1–3 mantissa from high to low, sign last

Bits only move, so every pattern (NaN payloads, −0) comes back. Bytes after the last whole value form a last stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.codecs.base import Buffer, Codec
from simio.codecs.framing import pack, unpack

#: Weight type → little-endian unsigned integer of its width.
_WORDS = {"BF16": "<u2", "F16": "<u2", "F32": "<u4"}

#: Values handled at once: few enough for the CPU's cache, enough that threads rarely meet at the interpreter lock.
_TILE = 1 << 16


@dataclass(frozen=True, slots=True)
class BytePlane(Codec):
    """``byteplane(inner)``. ``dtype`` is set by ``for_layout``; without it the input goes to ``inner`` unchanged."""

    inner: Codec
    dtype: str | None = None

    @property
    def name(self) -> str:
        """``byteplane(inner)``."""
        return f"byteplane({self.inner.name})"

    @property
    def library_version(self) -> str:
        """Version of this module's format and the inner library."""
        return f"byteplane format 1 over {self.inner.library_version}"

    def for_layout(self, dtype: str) -> Codec:
        """Planes for ``BF16``, ``F16`` and ``F32``; anything else is for the inner codec."""
        if dtype in _WORDS:
            return BytePlane(self.inner.for_layout("U8"), dtype)
        return self.inner.for_layout(dtype)

    def streams(self, raw: Buffer) -> tuple[Buffer, ...]:
        """The planes from exponent down, then the odd bytes at the end."""
        if self.dtype is None:
            return self.inner.streams(raw)
        word = np.dtype(_WORDS[self.dtype])
        n_words = len(raw) // word.itemsize
        planes = _split(np.frombuffer(raw, word, n_words))
        return (*(plane.data for plane in planes), memoryview(raw)[n_words * word.itemsize :])

    def compress(self, raw: Buffer) -> bytes:
        """Each plane compressed on its own; see ``simio.codecs.framing``."""
        return self.inner.compress(raw) if self.dtype is None else pack(self.inner, self.streams(raw))

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The planes put together again; raises ``ModelFileError`` on damage."""
        if self.dtype is None:
            return self.inner.decompress(stored, raw_bytes)
        word = np.dtype(_WORDS[self.dtype])
        n_words, n_tail = divmod(raw_bytes, word.itemsize)
        *planes, tail = unpack(self.inner, stored, [n_words] * word.itemsize + [n_tail])
        values = _merge([np.frombuffer(plane, np.uint8) for plane in planes], word)
        return values.tobytes() + tail


def _split(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of each value rotated left by one bit, highest first. Shape (bytes per value, values)."""
    width, n_bits = values.dtype.itemsize, 8 * values.dtype.itemsize
    planes = np.empty((width, len(values)), np.uint8)
    for start in range(0, len(values), _TILE):
        tile = values[start : start + _TILE]
        here = slice(start, start + len(tile))
        for i in range(width - 1):
            planes[i, here] = tile >> (n_bits - 9 - 8 * i)  # keeps the low byte
        planes[width - 1, here] = tile << 1
        planes[width - 1, here] |= (tile >> (n_bits - 1)).astype(np.uint8)
    return planes


def _merge(planes: list[NDArray[np.uint8]], word: np.dtype[Any]) -> NDArray[Any]:
    """The inverse of ``_split``: values of type ``word`` from their planes."""
    n_bits = 8 * word.itemsize
    values = np.empty(len(planes[0]), word)
    for start in range(0, len(values), _TILE):
        here = slice(start, start + _TILE)
        lowest = planes[-1][here].astype(word)
        tile = lowest << (n_bits - 1)  # the sign
        tile |= lowest >> 1
        for i, plane in enumerate(planes[:-1]):
            tile |= plane[here].astype(word) << (n_bits - 9 - 8 * i)
        values[here] = tile
    return values
