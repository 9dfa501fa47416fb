"""Which chunks of a partial container are finished: one record a chunk, in order, appended after the chunk.

``NAME.journal``: 32 bytes (magic, identity of the job, XXH3-64 of both), then a record of 48 bytes a chunk: its table
entry and the XXH3-64 of that, seeded with the chunk's number. What a crash cut off or damaged ends the list.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType

import xxhash

from simio.container.chunk_table import ENTRY_BYTES, Chunk
from simio.container.draft import writing

_MAGIC = b"SIMIOJ01"
_HEAD = struct.Struct("<8s16sQ")
_CHECK = struct.Struct("<Q")
RECORD_BYTES = ENTRY_BYTES + _CHECK.size


class PackJournal:
    """The journal at ``path`` of the job with ``identity`` (16 bytes). Whoever opens it holds the lock of its draft."""

    def __init__(self, path: Path, identity: bytes, hint: str) -> None:
        self.path = path
        self._hint = hint
        self._head = _HEAD.pack(_MAGIC, identity, xxhash.xxh3_64_intdigest(_MAGIC + identity))
        with writing(path, hint):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def __enter__(self) -> PackJournal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def finished(self) -> list[Chunk]:
        """The chunks recorded for this job, from the first on; none when the journal is of another one."""
        data = self.path.read_bytes()
        if data[: len(self._head)] != self._head:
            return []
        chunks: list[Chunk] = []
        for at in range(len(self._head), len(data) - RECORD_BYTES + 1, RECORD_BYTES):
            entry, check = data[at : at + ENTRY_BYTES], data[at + ENTRY_BYTES : at + RECORD_BYTES]
            if check != _check(entry, len(chunks)):
                break
            chunks.append(Chunk.from_bytes(entry))
        return chunks

    def keep(self, n_chunks: int) -> None:
        """Forget all but the first ``n_chunks``; with 0, begin a journal of this job."""
        with writing(self.path, self._hint):
            if not n_chunks:
                os.ftruncate(self._descriptor, 0)
                _write(self._descriptor, self._head)
            else:
                os.ftruncate(self._descriptor, len(self._head) + n_chunks * RECORD_BYTES)

    def append(self, chunk: Chunk, number: int) -> None:
        """Record that chunk ``number`` is finished."""
        entry = chunk.to_bytes()
        with writing(self.path, self._hint):
            _write(self._descriptor, entry + _check(entry, number))

    def discard(self) -> None:
        """Remove the journal."""
        self.path.unlink(missing_ok=True)


def _check(entry: bytes, number: int) -> bytes:
    return _CHECK.pack(xxhash.xxh3_64_intdigest(entry, seed=number))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
