"""No compression: stored bytes are the raw bytes."""

from __future__ import annotations

from dataclasses import dataclass

from simio.codecs.base import Buffer, Codec, checked


@dataclass(frozen=True, slots=True)
class Raw(Codec):
    """Stores as is."""

    @property
    def name(self) -> str:
        """``raw``."""
        return "raw"

    @property
    def library_version(self) -> str:
        """``none``."""
        return "none"

    def compress(self, raw: Buffer) -> bytes:
        """A copy of ``raw``."""
        return bytes(raw)

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """A copy of ``stored``."""
        return checked("raw", bytes(stored), raw_bytes)
