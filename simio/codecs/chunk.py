"""One chunk under one codec: compressed where that helps, raw where it does not. The only place with this rule."""

from __future__ import annotations

from simio.codecs.base import Buffer, Codec


def compress_chunk(codec: Codec, raw: Buffer) -> bytes:
    """The stored form of ``raw``: never longer than ``raw``, and of equal length exactly when it is stored raw."""
    stored = codec.compress(raw)
    return stored if len(stored) < len(raw) else bytes(raw)


def decompress_chunk(codec: Codec, stored: Buffer, raw_bytes: int) -> bytes:
    """The ``raw_bytes`` bytes behind ``stored``; raises ``ModelFileError`` on damage."""
    return bytes(stored) if len(stored) == raw_bytes else codec.decompress(stored, raw_bytes)
