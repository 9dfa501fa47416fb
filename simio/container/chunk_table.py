"""The chunk table: where each chunk lies, how it is stored, and its two checksums. 40 bytes a chunk."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ENTRY = struct.Struct("<Q4I2Q")
ENTRY_BYTES = _ENTRY.size
#: The same entry as columns of an array.
COLUMNS = np.dtype(
    [
        ("offset", "<u8"), ("stored_bytes", "<u4"), ("raw_bytes", "<u4"), ("codec", "<u4"), ("reserved", "<u4"),
        ("stored_xxh3", "<u8"), ("raw_xxh3", "<u8"),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chunk:
    """``stored_bytes`` from ``offset`` of the container give ``raw_bytes`` of weights.

    ``codec`` indexes the container's codecs; 0 is raw, and then both lengths are equal. ``stored_xxh3`` covers the
    stored bytes with the zeros up to the next multiple of 4096, ``raw_xxh3`` the weights; both XXH3-64, seed 0.
    """

    offset: int
    stored_bytes: int
    raw_bytes: int
    codec: int
    stored_xxh3: int
    raw_xxh3: int

    def to_bytes(self) -> bytes:
        """The table entry."""
        lengths = (self.offset, self.stored_bytes, self.raw_bytes, self.codec, 0)
        return _ENTRY.pack(*lengths, self.stored_xxh3, self.raw_xxh3)

    @classmethod
    def from_bytes(cls, data: bytes) -> Chunk:
        """The chunk of one table entry."""
        offset, stored_bytes, raw_bytes, codec, _, stored_xxh3, raw_xxh3 = _ENTRY.unpack(data)
        return cls(offset, stored_bytes, raw_bytes, codec, stored_xxh3, raw_xxh3)


def table(data: bytes, n_chunks: int) -> NDArray[Any]:
    """The chunk table in ``data`` as an array with the fields of ``COLUMNS``, one item a chunk."""
    return np.frombuffer(data, COLUMNS, n_chunks)
