"""The entropy of a chunk from a small part of it: sixteen pieces of about 512 bytes, spread over it.

A histogram of the whole chunk would cost as much as compressing it with ``zstd:1``. Eight KiB give the entropy of one
chunk to about 0.02 bit per byte, and of a tensor better. Pieces are whole quant blocks, so that filters see fields.
"""

from __future__ import annotations

from simio.codecs.base import Codec
from simio.codecs.entropy import streams_entropy
from simio.profiling.chunking import ChunkRef, WeightsSource
from simio.profiling.workers import for_each
from simio.records.weight_types import weight_type
from simio.units import KIB

_PEEK_BYTES = 8 * KIB
_N_PIECES = 16
#: Entropies are kept to this many decimals, in memory as in files.
DECIMALS = 5


def chunk_entropy(codec: Codec, raw: bytes, dtype: str) -> float:
    """Order-0 entropy of the streams that ``codec``, set up for ``dtype``, makes of ``raw``. [bits/byte]"""
    return _entropy(codec, [raw[start : start + n] for start, n in _pieces(len(raw), dtype)], len(raw))


def peek_entropies(source: WeightsSource, codec: Codec, chunks: list[ChunkRef], n_workers: int) -> list[float]:
    """``chunk_entropy`` of every chunk, reading only the pieces. [bits/byte]"""
    entropies = [0.0] * len(chunks)

    def peek(index: int) -> int:
        chunk = chunks[index]
        spans = _pieces(chunk.n_bytes, chunk.stream.dtype)
        pieces = [source.read(chunk.stream, chunk.start + start, n_bytes) for start, n_bytes in spans]
        entropies[index] = _entropy(codec.for_layout(chunk.stream.dtype), pieces, chunk.n_bytes)
        return chunk.n_bytes

    for_each(range(len(chunks)), peek, n_workers)
    return entropies


def _pieces(n_bytes: int, dtype: str) -> list[tuple[int, int]]:
    """(start, bytes) of the pieces of a chunk of ``n_bytes``; a small chunk is one piece."""
    if n_bytes <= _PEEK_BYTES:
        return [(0, n_bytes)]
    block_bytes = weight_type(dtype).block_bytes
    piece_bytes = max(1, _PEEK_BYTES // _N_PIECES // block_bytes) * block_bytes
    n_starts = (n_bytes - piece_bytes) // block_bytes
    return [(n_starts * i // (_N_PIECES - 1) * block_bytes, piece_bytes) for i in range(_N_PIECES)]


def _entropy(codec: Codec, pieces: list[bytes], chunk_bytes: int) -> float:
    seen = b"".join(pieces)
    return round(streams_entropy(codec.streams(seen), sampled=len(seen) < chunk_bytes), DECIMALS)
