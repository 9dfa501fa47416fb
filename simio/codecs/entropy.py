"""Order-0 entropy: the bound that stands beside every compression ratio.

``H = −Σ p·log2 p`` [bits per symbol] (Shannon 1948, eq. for discrete noiseless sources) over symbol frequencies ``p``.
A codec without matches, such as Huffman or ANS over bytes, cannot store below ``H/8`` of the raw size; weights hold
almost no matches, so this is what a ratio should be held against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.codecs.base import Buffer


def entropy_bits(counts: NDArray[Any]) -> float:
    """Entropy of the distribution with these symbol ``counts``. [bits per symbol]; 0 without symbols.

    >>> entropy_bits(np.array([1, 1, 1, 1]))
    2.0
    """
    used = counts[counts > 0].astype(np.float64)
    total = float(used.sum())
    if not total:
        return 0.0
    return max(0.0, math.log2(total) - float(used @ np.log2(used)) / total)


def byte_counts(buffer: Buffer) -> NDArray[np.intp]:
    """How often each byte value occurs, shape (256,)."""
    return np.bincount(np.frombuffer(buffer, np.uint8), minlength=256)


def byte_entropy(buffer: Buffer) -> float:
    """Entropy of the bytes of ``buffer``. [bits per byte]"""
    return entropy_bits(byte_counts(buffer))


def symbol_entropy(symbols: NDArray[Any]) -> float:
    """Entropy of an array of integer symbols such as quantization codes. [bits per symbol]"""
    return entropy_bits(np.unique(symbols, return_counts=True)[1])


def streams_entropy(streams: Sequence[Buffer], *, sampled: bool = False) -> float:
    """Entropy of byte streams that are coded apart, averaged over their bytes. [bits per byte]

    A histogram of a sample of N bytes with K used values is too low by ``(K − 1) / (2 N ln 2)`` bits (Miller 1955, Note
    on the bias of information estimates); ``sampled`` adds that term.
    """
    bits, n_bytes = 0.0, 0
    for stream in streams:
        counts = byte_counts(stream)
        entropy = entropy_bits(counts)
        if sampled and len(stream):
            entropy = min(8.0, entropy + (int(np.count_nonzero(counts)) - 1) / (2 * len(stream) * math.log(2)))
        bits += entropy * len(stream)
        n_bytes += len(stream)
    return bits / n_bytes if n_bytes else 0.0
