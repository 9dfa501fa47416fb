"""Pack codes of three values five to a byte: 3^5 = 243 of the 256 values, 1.6 bits a code.

The 1.6-bit packing of ternary models (Spectra 1.1, arXiv 2506.23025): byte = Σ code_k·3^k, first code at k = 0.
"""

from __future__ import annotations

import numpy as np

from simio.quant.contract import ByteArray

PER_BYTE = 5
_POWERS = np.array([1, 3, 9, 27, 81], np.uint8)


def packed_trit_bytes(n_codes: int) -> int:
    """Bytes that ``n_codes`` codes take."""
    return -(-n_codes // PER_BYTE)


def pack_trits(codes: ByteArray) -> ByteArray:
    """Codes 0, 1 and 2 (any shape) as packed bytes, flat.

    >>> pack_trits(np.array([1, 2, 0, 0, 0, 2], np.uint8)).tolist()
    [7, 2]
    """
    flat = codes.reshape(-1)
    padded = np.pad(flat, (0, -flat.size % PER_BYTE)).reshape(-1, PER_BYTE)
    packed: ByteArray = np.einsum("ij,j->i", padded, _POWERS)
    return packed


def unpack_trits(packed: ByteArray, n_codes: int) -> ByteArray:
    """The ``n_codes`` codes inside ``packed``; the inverse of :func:`pack_trits`.

    >>> unpack_trits(np.array([7, 2], np.uint8), 6).tolist()
    [1, 2, 0, 0, 0, 2]
    """
    codes: ByteArray = packed[:, None] // _POWERS % np.uint8(3)
    return codes.reshape(-1)[:n_codes]
