"""What is already known, by content: append-only files of lines, each with a checksum.

Every write appends whole lines in a single call, so several processes can share the file. A line that a crash cut off,
or that is damaged, fails its checksum and is skipped: what it said is found out again.

``ChunkJournal`` keeps a line a chunk, one file per codec and library version:
``<xxh3-128 of the raw bytes> <raw bytes> <stored bytes> <entropy, bits/byte> <crc32 of the line so far>``.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import xxhash

from simio.codecs.base import Buffer
from simio.errors import WriteError

_FACTS = re.compile(r"([0-9a-f]{32}) (\d{1,12}) (\d{1,12}) (\d\.\d{1,9})")
_HINT = "free some space, set SIMIO_CACHE to another folder, or profile without the cache"


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """What compressing one chunk gave. ``entropy`` is in bits per byte of the streams the codec sees."""

    raw_bytes: int
    stored_bytes: int
    entropy: float


def chunk_key(raw: Buffer, dtype: str) -> str:
    """Identity of a chunk: its bytes, and its layout because filters depend on it."""
    return xxhash.xxh3_128_hexdigest(raw, seed=zlib.crc32(dtype.encode()))


class Lines:
    """An append-only file of lines of text. ``add`` may be called from any thread; ``flush`` from one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[str] = []
        self._file: int | None = None

    def read(self) -> Iterator[str]:
        """The lines that are whole, in order; raises ``WriteError`` when the file cannot be read."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise WriteError(f"cannot read the profiling cache {self._path}: {error.strerror}", _HINT) from error
        for line in lines:
            text, _, checksum = line.rpartition(b" ")
            if text and checksum == b"%08x" % zlib.crc32(text):
                yield text.decode(errors="replace")

    def add(self, text: str) -> None:
        """Remember a line; written at the next ``flush``."""
        self._pending.append(f"{text} {zlib.crc32(text.encode()):08x}")

    def flush(self) -> None:
        """Append what was added; raises ``WriteError`` when the cache cannot be written."""
        lines, self._pending = self._pending, []
        if not lines:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                lines = ["", *lines]  # ends a line that a crash cut off
            os.write(self._file, ("\n".join(lines) + "\n").encode())
        except OSError as error:
            raise WriteError(f"cannot write the profiling cache {self._path}: {error.strerror}", _HINT) from error

    def close(self) -> None:
        """Flush and close the file."""
        try:
            self.flush()
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None


class ChunkJournal:
    """Facts by chunk key, backed by one file. ``add`` may be called from any thread; ``flush`` from one."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self._known: dict[str, ChunkFacts] = {}
        for line in self._lines.read():
            if match := _FACTS.fullmatch(line):
                self._known[match[1]] = ChunkFacts(int(match[2]), int(match[3]), float(match[4]))

    def __enter__(self) -> ChunkJournal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str, raw_bytes: int) -> ChunkFacts | None:
        """The facts of the chunk with this key, if known."""
        facts = self._known.get(key)
        return facts if facts is not None and facts.raw_bytes == raw_bytes else None

    def add(self, key: str, facts: ChunkFacts) -> None:
        """Remember a chunk; written at the next ``flush``."""
        self._known[key] = facts
        self._lines.add(f"{key} {facts.raw_bytes} {facts.stored_bytes} {facts.entropy:.5f}")

    def flush(self) -> None:
        """Append what was added; raises ``WriteError`` when the cache cannot be written."""
        self._lines.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._lines.close()
