"""Pack codebook indices of 1 to 16 bits into bytes, low bits first, with no padding but in the last byte.

:mod:`simio.quant.packing` does the same, faster, for codes of at most 8 bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simio.quant.contract import ByteArray

IndexArray = npt.NDArray[np.uint16]


def index_bits(n_entries: int) -> int:
    """Bits of an index into a codebook of ``n_entries`` (1 … 65536).

    >>> [index_bits(n) for n in (1, 2, 3, 4096, 65536)]
    [1, 1, 2, 12, 16]
    """
    return max(1, (n_entries - 1).bit_length())


def pack_indices(indices: IndexArray, bits: int) -> ByteArray:
    """Flat ``indices``, each below ``2**bits``, as packed bytes.

    >>> pack_indices(np.array([1, 2, 4095], np.uint16), 12).tolist()
    [1, 32, 0, 255, 15]
    """
    pairs = indices.astype("<u2").view(np.uint8).reshape(-1, 2)
    if bits == 16:
        return pairs.reshape(-1)
    table = np.unpackbits(pairs, axis=1, bitorder="little")[:, :bits]
    return np.packbits(table.reshape(-1), bitorder="little")


def unpack_indices(packed: ByteArray, bits: int, n_indices: int) -> IndexArray:
    """The ``n_indices`` indices inside ``packed``; the inverse of :func:`pack_indices`.

    >>> unpack_indices(np.array([1, 32, 0, 255, 15], np.uint8), 12, 3).tolist()
    [1, 2, 4095]
    """
    if bits == 16:
        return packed.view("<u2").astype(np.uint16)
    table = np.zeros((n_indices, 16), np.uint8)
    table[:, :bits] = np.unpackbits(packed, bitorder="little")[: n_indices * bits].reshape(n_indices, bits)
    return np.packbits(table, axis=1, bitorder="little").view("<u2").reshape(-1).astype(np.uint16)
