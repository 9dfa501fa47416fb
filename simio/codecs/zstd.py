"""Zstandard (RFC 8878): one frame a chunk, with its content size and without a checksum."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import zstandard

from simio.codecs.base import Buffer, Codec, checked, damaged
from simio.errors import UsageError

#: ZSTD_minCLevel() and ZSTD_maxCLevel() of libzstd 1.5.
_LEVELS = (-131072, 22)


class _Contexts(threading.local):
    """zstd contexts of one thread: they are not thread-safe, and building one costs a large allocation."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        found = self.compressors.get(level)
        if found is None:
            found = self.compressors[level] = zstandard.ZstdCompressor(level=level)
        return found


_contexts = _Contexts()


@dataclass(frozen=True, slots=True)
class Zstd(Codec):
    """``zstd:N`` with N from 1 (fast) to 22 (small); negative levels are faster still. Default 3, as zstd's own."""

    level: int = 3

    def __post_init__(self) -> None:
        if not _LEVELS[0] <= self.level <= _LEVELS[1] or self.level == 0:
            raise UsageError(f"zstd has no level {self.level}", "use zstd:1 to zstd:22, or zstd:-1 and below for speed")

    @property
    def name(self) -> str:
        """``zstd:N``."""
        return f"zstd:{self.level}"

    @property
    def library_version(self) -> str:
        """Versions of the binding and of the bundled libzstd."""
        return f"zstandard {zstandard.__version__} (libzstd {'.'.join(map(str, zstandard.ZSTD_VERSION))})"

    def compress(self, raw: Buffer) -> bytes:
        """One zstd frame."""
        return _contexts.compressor(self.level).compress(raw)

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The content of one zstd frame; raises ``ModelFileError`` on damage."""
        try:
            if zstandard.frame_content_size(stored) != raw_bytes:
                raise damaged(self.name, f"its frame does not hold {raw_bytes} bytes")
            return checked(self.name, _contexts.decompressor.decompress(stored), raw_bytes)
        except zstandard.ZstdError as error:
            raise damaged(self.name, error) from error
