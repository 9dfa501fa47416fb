"""Brotli (RFC 7932), generic mode, 4 MiB window."""

from __future__ import annotations

from dataclasses import dataclass

import brotli

from simio.codecs.base import Buffer, Codec, checked, damaged
from simio.errors import UsageError


@dataclass(frozen=True, slots=True)
class Brotli(Codec):
    """``brotli:N`` with quality N from 0 to 11. Default 5: quality 11, the library's, takes seconds per MiB."""

    level: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 11:
            raise UsageError(f"brotli has no level {self.level}", "use brotli:0 (fast) to brotli:11 (small)")

    @property
    def name(self) -> str:
        """``brotli:N``."""
        return f"brotli:{self.level}"

    @property
    def library_version(self) -> str:
        """Version of the package, which is that of the bundled library."""
        return f"brotli {brotli.__version__}"

    def compress(self, raw: Buffer) -> bytes:
        """One brotli stream."""
        return bytes(brotli.compress(raw, quality=self.level))

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The content of one brotli stream; raises ``ModelFileError`` on damage."""
        try:
            return checked(self.name, brotli.decompress(stored), raw_bytes)
        except brotli.error as error:
            raise damaged(self.name, error) from error
