"""Pack codes of 2, 3, 4 or 8 bits into bytes, low bits first, with no padding but in the last byte."""

from __future__ import annotations

import numpy as np

from simio.quant.contract import ByteArray, Streams, integers


def packed_bytes(n_codes: int, bits: int) -> int:
    """Bytes that ``n_codes`` codes of ``bits`` bits take."""
    return (n_codes * bits + 7) // 8


def pack(codes: ByteArray, bits: int) -> ByteArray:
    """Codes (any shape, each below ``2**bits``) as packed bytes, flat, first code in the lowest bits.

    >>> pack(np.array([1, 2, 3], np.uint8), 4).tolist()
    [33, 3]
    """
    flat = codes.reshape(-1)
    if bits == 8:
        return flat
    per_byte = 8 // bits
    if 8 % bits:
        return np.packbits(_bit_table(flat, bits).reshape(-1), bitorder="little")
    padded = np.pad(flat, (0, -flat.size % per_byte)).reshape(-1, per_byte)
    packed = np.zeros(len(padded), np.uint8)
    for place in range(per_byte):
        packed |= padded[:, place] << np.uint8(place * bits)
    return packed


def unpack(packed: ByteArray, bits: int, n_codes: int) -> ByteArray:
    """The ``n_codes`` codes inside ``packed``; the inverse of :func:`pack`.

    >>> unpack(np.array([33, 3], np.uint8), 4, 3).tolist()
    [1, 2, 3]
    """
    if bits == 8:
        return packed[:n_codes]
    if 8 % bits:
        table = np.unpackbits(packed, bitorder="little")[: n_codes * bits].reshape(n_codes, bits)
        return np.packbits(table, axis=1, bitorder="little").reshape(-1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes: ByteArray = (packed[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    return codes.reshape(-1)[:n_codes]


def unpacked(streams: Streams, bits: int, n_codes: int) -> Streams:
    """``streams`` as an entropy coder is told of them: ``codes`` one an item, the others as integers of their width."""
    return {key: integers(stream) for key, stream in streams.items()} | {
        "codes": unpack(streams["codes"], bits, n_codes)
    }


def _bit_table(codes: ByteArray, bits: int) -> ByteArray:
    return np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits]
