"""Huffman coding and nothing else: DEFLATE (RFC 1951) without matches, as zlib's strategy ``Z_HUFFMAN_ONLY`` writes it.

Each block of 32 Ki bytes has a table of its own, with code words of at most 15 bits. zstd's literals are Huffman-coded
too and decompress several times faster: this codec shows what Huffman alone stores, tables following the data.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from simio.codecs.base import Buffer, Codec, checked, damaged

_NO_HEADER = -zlib.MAX_WBITS
_LARGEST_BLOCKS = 9  # zlib's memLevel: 2^(6 + 9) bytes share a table


@dataclass(frozen=True, slots=True)
class Huffman(Codec):
    """``huffman``. It has no level: there is one Huffman code to a histogram."""

    @property
    def name(self) -> str:
        """``huffman``."""
        return "huffman"

    @property
    def library_version(self) -> str:
        """Version of the zlib in use."""
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def compress(self, raw: Buffer) -> bytes:
        """One raw DEFLATE stream."""
        coder = zlib.compressobj(9, zlib.DEFLATED, _NO_HEADER, _LARGEST_BLOCKS, zlib.Z_HUFFMAN_ONLY)
        return coder.compress(raw) + coder.flush()

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The content of one raw DEFLATE stream; raises ``ModelFileError`` on damage."""
        decoder = zlib.decompressobj(_NO_HEADER)
        try:
            raw = decoder.decompress(stored, raw_bytes + 1)
        except zlib.error as error:
            raise damaged(self.name, error) from error
        if not decoder.eof or decoder.unused_data:
            raise damaged(self.name, "its stream does not end where it should")
        return checked(self.name, raw, raw_bytes)
