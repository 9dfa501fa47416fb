"""Pack codes of 1 … 8 bits into bytes, low bits first, with no padding but in the last byte.

Eight codes in the bytes of one 64-bit word are drawn together in three steps: pairs, fours, eight.
"""

from __future__ import annotations

import numpy as np

from simio.quant.contract import ByteArray, Streams, integers

#: The even bytes, 16-bit and 32-bit fields of a 64-bit word, and their width.
_FIELDS = ((np.uint64(0x00FF00FF00FF00FF), 8), (np.uint64(0x0000FFFF0000FFFF), 16), (np.uint64(0x00000000FFFFFFFF), 32))

#: Words packed at a time: they stay in the processor's cache.
_RUN_WORDS = 1 << 13


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
    packed = np.empty((-(-flat.size // 8), bits), np.uint8)
    for start in range(0, len(packed), _RUN_WORDS):
        part = flat[8 * start : 8 * (start + _RUN_WORDS)]
        words = np.zeros(-(-part.size // 8), "<u8")
        words.view(np.uint8)[: part.size] = part
        for level, (even, width) in enumerate(_FIELDS):
            odd = words & ~even
            odd >>= np.uint64(width - (bits << level))
            words &= even
            words |= odd
        packed[start : start + _RUN_WORDS] = words.view(np.uint8).reshape(-1, 8)[:, :bits]
    return packed.reshape(-1)[: packed_bytes(flat.size, bits)]


def unpack(packed: ByteArray, bits: int, n_codes: int) -> ByteArray:
    """The ``n_codes`` codes inside ``packed``; the inverse of :func:`pack`.

    >>> unpack(np.array([33, 3], np.uint8), 4, 3).tolist()
    [1, 2, 3]
    """
    if bits == 8:
        return packed[:n_codes]
    n_words = -(-n_codes // 8)
    padded = np.pad(packed[: packed_bytes(n_codes, bits)], (0, n_words * bits - packed_bytes(n_codes, bits)))
    words = np.zeros(n_words, "<u8")
    words.view(np.uint8).reshape(-1, 8)[:, :bits] = padded.reshape(-1, bits)
    for level, (even, width) in reversed(tuple(enumerate(_FIELDS))):
        gap = np.uint64(width - (bits << level))
        low = even & (even >> gap)  # the first ``bits << level`` bits of each pair of fields
        odd = words & ~low
        odd <<= gap
        words &= low
        words |= odd
    codes: ByteArray = words.view(np.uint8)[:n_codes]
    return codes


def unpacked(streams: Streams, bits: int, n_codes: int) -> Streams:
    """``streams`` as an entropy coder is told of them: ``codes`` one an item, the others as integers of their width."""
    return {key: integers(stream) for key, stream in streams.items()} | {
        "codes": unpack(streams["codes"], bits, n_codes)
    }
