"""How a filter stores several streams in one chunk.

Format, per stream in the filter's order: stored length as little-endian uint32, then that many bytes. The raw lengths
are not stored: they follow from the chunk's raw size and its layout. A stream is raw where its stored length equals
its raw length (the rule of ``simio.codecs.chunk``), so that noise such as a mantissa plane costs nothing to decompress.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from simio.codecs.base import Buffer, Codec, damaged
from simio.codecs.chunk import compress_chunk, decompress_chunk

_LENGTH = struct.Struct("<I")


def pack(inner: Codec, streams: Iterable[Buffer]) -> bytes:
    """Compress each stream with ``inner`` and join them."""
    parts: list[bytes] = []
    for stream in streams:
        stored = compress_chunk(inner, stream)
        parts += (_LENGTH.pack(len(stored)), stored)
    return b"".join(parts)


def unpack(inner: Codec, stored: Buffer, raw_lengths: Sequence[int]) -> list[bytes]:
    """The streams inside ``stored``, of ``raw_lengths`` bytes; raises ``ModelFileError`` on damage."""
    view, position, streams = memoryview(stored), 0, []
    for raw_bytes in raw_lengths:
        start = position + _LENGTH.size
        if start > len(view):
            raise damaged(inner.name, "a stream is missing")
        position = start + _LENGTH.unpack_from(view, position)[0]
        if position > len(view):
            raise damaged(inner.name, "a stream is cut off")
        streams.append(decompress_chunk(inner, view[start:position], raw_bytes))
    if position != len(view):
        raise damaged(inner.name, f"{len(view) - position} bytes too many")
    return streams
