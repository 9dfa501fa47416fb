"""Refuse damaged weights files: one way to say so, and the check of where tensors lie that every format shares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from simio.errors import ModelFileError

DOWNLOAD_AGAIN = "download the file again and compare its size and checksum with the publisher's"

#: name, first byte and the byte after the last, counted from the start of the file
Extent = tuple[str, int, int]


def damaged(path: str | Path, what: str, hint: str = DOWNLOAD_AGAIN) -> ModelFileError:
    """The error for a file that cannot be what it claims; to be raised by the caller."""
    return ModelFileError(f"{path}: {what}", hint)


def foreign(path: str | Path, head: bytes, expected: str) -> ModelFileError:
    """The error for a file that begins with ``head`` instead of what its name promises, with what it may be."""
    hint = f"is it a {expected} file?"
    if head.startswith(b"version https://git-lfs"):
        hint = "it is a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    elif head.lstrip()[:1] == b"<":
        hint = "it looks like a web page saved in its place: download the file itself"
    return ModelFileError(f"{path}: begins with {head[:8]!r}, which no {expected} file does", hint)


def check_extents(path: Path, extents: Iterable[Extent], data_start: int, file_bytes: int, holes: bool) -> None:
    """Every tensor lies inside the file's data and no two share a byte; without ``holes`` they also fill it.

    Raises ``ModelFileError`` naming the first tensor that does not fit.
    """
    previous_name, previous_end = "the header", data_start
    for name, start, end in sorted(extents, key=lambda extent: extent[1:]):
        if end > file_bytes:
            raise damaged(path, f"tensor '{name}' ends at byte {end}, but the file has {file_bytes}: it is truncated")
        if start < previous_end and end > start:
            raise damaged(path, f"tensor '{name}' overlaps {previous_name} (byte {start} < {previous_end})")
        if start > previous_end and not holes:
            raise damaged(path, f"{start - previous_end} bytes before tensor '{name}' belong to no tensor")
        previous_name, previous_end = f"tensor '{name}'", max(previous_end, end)
    if previous_end < file_bytes and not holes:
        raise damaged(path, f"the last {file_bytes - previous_end} bytes belong to no tensor")
