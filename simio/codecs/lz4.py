"""LZ4 block format (no frame, no size field: the chunk table knows the raw size)."""

from __future__ import annotations

from dataclasses import dataclass

import lz4.block
import lz4.version

from simio.codecs.base import Buffer, Codec, checked, damaged
from simio.errors import UsageError


@dataclass(frozen=True, slots=True)
class Lz4(Codec):
    """``lz4:1`` is the default fast compressor; ``lz4:2`` to ``lz4:12`` are LZ4 HC at that level."""

    level: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.level <= 12:
            raise UsageError(f"lz4 has no level {self.level}", "use lz4:1 (fast) to lz4:12 (small)")

    @property
    def name(self) -> str:
        """``lz4:N``."""
        return f"lz4:{self.level}"

    @property
    def library_version(self) -> str:
        """Versions of the binding and of the bundled liblz4."""
        return f"lz4 {lz4.version.version} (liblz4 {lz4.library_version_string()})"

    def compress(self, raw: Buffer) -> bytes:
        """One LZ4 block."""
        if self.level == 1:
            return bytes(lz4.block.compress(raw, store_size=False))
        return bytes(lz4.block.compress(raw, mode="high_compression", compression=self.level, store_size=False))

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The content of one LZ4 block; raises ``ModelFileError`` on damage."""
        try:
            return checked(self.name, bytes(lz4.block.decompress(stored, uncompressed_size=raw_bytes)), raw_bytes)
        except lz4.block.LZ4BlockError as error:
            raise damaged(self.name, error) from error
