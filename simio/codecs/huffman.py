"""Huffman coding over bytes (Huffman 1952), with one code a chunk or per N bytes: what rANS is to be held against.

A code word of ``l`` bits is a frequency of ``2^(k − l)`` to rANS: taking in a byte then multiplies the state by ``2^l``
exactly, so a state is a stack of code words. Format and speed are those of ``simio.codecs.rans``; what differs is that
each byte costs whole bits. The Huffman decoder that is fast is zstd's: several bytes a step, in C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simio.codecs.rans import Rans


@dataclass(frozen=True, slots=True)
class Huffman(Rans):
    """``huffman``, one code a chunk, or ``huffman:N``, a code per N bytes."""

    _coder: ClassVar[str] = "huffman"

    @staticmethod
    def _fit(counts: NDArray[np.int64], bits: int) -> NDArray[np.uint32]:
        """``2^(bits − length)`` for each used byte, with lengths of at most ``bits``."""
        while (lengths := _lengths(counts)).max() > bits:
            counts = (counts + 1) >> 1  # flatter counts have a flatter tree
        frequencies: NDArray[np.uint32] = np.where(counts > 0, 1 << (bits - lengths), 0).astype(np.uint32)
        return frequencies


@njit(nogil=True)
def _lengths(counts: Any) -> Any:
    """Lengths of Huffman's code words for ``counts (256,)``; 0 for unused bytes, and for one that is alone."""
    weights, parents = np.zeros(511, np.int64), np.full(511, -1)
    weights[:256] = counts
    n_left, node = np.count_nonzero(counts), 256
    while n_left > 1:
        for _ in range(2):
            least = -1
            for i in range(node):
                if weights[i] and parents[i] < 0 and (least < 0 or weights[i] < weights[least]):
                    least = i
            parents[least] = node
            weights[node] += weights[least]
        node, n_left = node + 1, n_left - 1
    depths = np.zeros(511, np.int64)
    for i in range(node - 2, -1, -1):
        if parents[i] >= 0:
            depths[i] = depths[parents[i]] + 1
    return depths[:256]
