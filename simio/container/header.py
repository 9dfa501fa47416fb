"""The first 4096 bytes of a container: what it is, how long it is, where its index lies. See docs/container.md."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from pathlib import Path

import xxhash

from simio.container.chunk_table import ENTRY_BYTES
from simio.errors import ContainerError

MAGIC = b"\x93SIMIO\r\n"
VERSION = 1
#: Every region of the file starts on a multiple of this, and is zero-padded to it: what O_DIRECT asks for at most.
ALIGNMENT = 4096
HEADER_BYTES = 4096

#: magic, version, header bytes, alignment, bytes of a table entry; then the fields of ``Header``; checksum at the end.
_START = struct.Struct("<8s4I")
_FIELDS = struct.Struct("<6Q")
_CHECKSUM = struct.Struct("<Q")
_CHECKSUM_AT = HEADER_BYTES - _CHECKSUM.size

PACK_AGAIN = "copy or download it again, or pack the model again"


def aligned(n_bytes: int) -> int:
    """``n_bytes`` rounded up to the alignment.

    >>> aligned(1), aligned(4096)
    (4096, 4096)
    """
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def damaged(path: Path, what: str) -> ContainerError:
    """The error for a container that is not as it was packed; to be raised by the caller."""
    return ContainerError(f"{path}: damaged container: {what}", PACK_AGAIN)


@dataclass(frozen=True, slots=True)
class Header:
    """``file_bytes`` is the exact length of the file; ``index_xxh3`` covers the index with its padding."""

    file_bytes: int
    index_offset: int
    index_bytes: int  # with padding, up to the end of the file
    facts_bytes: int  # of the JSON behind the chunk table
    n_chunks: int
    index_xxh3: int

    def to_bytes(self) -> bytes:
        """The header as stored, ``HEADER_BYTES`` long."""
        start = _START.pack(MAGIC, VERSION, HEADER_BYTES, ALIGNMENT, ENTRY_BYTES)
        body = (start + _FIELDS.pack(*astuple(self))).ljust(_CHECKSUM_AT, b"\0")
        return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))

    @classmethod
    def from_bytes(cls, data: bytes, path: Path, file_bytes: int) -> Header:
        """The header in ``data``, the start of the file ``path`` of ``file_bytes``.

        Raises ``ContainerError`` for a file that is no container, is damaged, cut off, too long or of a later version.
        """
        if data[: len(MAGIC)] != MAGIC:
            raise ContainerError(f"{path}: not a simio container", "simio pack MODEL -o model.simio makes one")
        if len(data) < HEADER_BYTES:
            raise damaged(path, f"{file_bytes} bytes are too few for its header")
        if xxhash.xxh3_64_intdigest(data[:_CHECKSUM_AT]) != _CHECKSUM.unpack_from(data, _CHECKSUM_AT)[0]:
            raise damaged(path, "the header (bytes 0 to 4095) does not fit its checksum")
        _, version, *sizes = _START.unpack_from(data)
        if version > VERSION:
            raise ContainerError(f"{path}: container version {version} is newer than this simio reads", "update simio")
        if sizes != [HEADER_BYTES, ALIGNMENT, ENTRY_BYTES] or version != VERSION:
            raise damaged(path, f"version {version} with header, alignment and table entry of {sizes} bytes")
        return cls(*_FIELDS.unpack_from(data, _START.size))._checked(path, file_bytes)

    def _checked(self, path: Path, file_bytes: int) -> Header:
        if self.file_bytes != file_bytes:
            raise damaged(path, f"it has {file_bytes} bytes, but was packed with {self.file_bytes}")
        used = self.n_chunks * ENTRY_BYTES + self.facts_bytes
        starts_well = HEADER_BYTES <= self.index_offset == aligned(self.index_offset)
        if not starts_well or self.index_offset + self.index_bytes != file_bytes or self.index_bytes != aligned(used):
            raise damaged(path, "the places and sizes in its header do not fit each other")
        return self
