"""The header of one safetensors file: 8 bytes of length, JSON, then the tensors without a gap.

Format: https://github.com/huggingface/safetensors#format. The ``safetensors`` package gives no byte offsets, and simio
needs them to read chunks; so the header is parsed here, as strictly as there.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TypeGuard

from simio.formats.damage import check_extents, damaged, foreign
from simio.records.model import Stream

#: The reference implementation refuses longer headers (``MAX_HEADER_SIZE``).
MAX_HEADER_BYTES = 100_000_000

#: Bits per element. F4 and F6 pack several elements into shared bytes.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def looks_like_header(path: Path) -> bool:
    """Whether the first bytes could begin a safetensors file: a length that fits, then an opening brace."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def read_header(path: Path, file_index: int) -> tuple[list[Stream], int]:
    """The tensors of one file, in file order, and the byte where their data begins.

    Each comes as a ``Stream`` whose name is the tensor's. Raises ``ModelFileError`` unless header, shapes and offsets
    agree with each other and with the size of the file.
    """
    try:
        file_bytes = path.stat().st_size
        text = _header_bytes(path, file_bytes)
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}", "check the path and its permissions") from error
    data_start = 8 + len(text)
    entries = _parse(path, text)
    streams = [_stream(path, name, entry, file_index, data_start) for name, entry in entries.items()]
    extents = ((s.name, s.offset, s.offset + s.n_bytes) for s in streams)
    check_extents(path, extents, data_start, file_bytes, holes=False)
    return sorted(streams, key=lambda s: (s.offset, s.n_bytes)), data_start


def _header_bytes(path: Path, file_bytes: int) -> bytes:
    if file_bytes == 0:
        raise damaged(path, "the file is empty")
    if file_bytes < 10:
        raise damaged(path, f"{file_bytes} bytes are too few for a safetensors header")
    with path.open("rb") as file:
        head = os.pread(file.fileno(), 64, 0)
        n_bytes = int.from_bytes(head[:8], "little")
        if n_bytes > file_bytes - 8 and head[8:9] != b"{":
            raise foreign(path, head, "safetensors")
        if n_bytes > file_bytes - 8:
            raise damaged(path, f"the header claims {n_bytes} bytes, but only {file_bytes - 8} follow: truncated")
        if not 2 <= n_bytes <= MAX_HEADER_BYTES:
            raise damaged(path, f"a header of {n_bytes} bytes is outside 2 … {MAX_HEADER_BYTES}")
        return os.pread(file.fileno(), n_bytes, 8)


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise damaged(path, f"the header names '{twice}' twice")
        return table

    try:
        entries = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise damaged(
            path, f"the header is not JSON ({error})", "is it a safetensors file? Download it again"
        ) from error
    if not isinstance(entries, dict):
        raise damaged(path, "the header is not a JSON object")
    entries.pop("__metadata__", None)
    if not entries:
        raise damaged(path, "the file has no tensors", "choose the file that carries the weights")
    return entries


def _stream(path: Path, name: str, entry: Any, file_index: int, data_start: int) -> Stream:
    if not isinstance(entry, dict):
        raise damaged(path, f"tensor '{name}' is described by {type(entry).__name__}, not by an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise damaged(path, f"tensor '{name}' has the unknown type {dtype!r}", f"known types: {', '.join(DTYPE_BITS)}")
    if not _are_counts(shape):
        raise damaged(path, f"tensor '{name}' has the shape {shape!r}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise damaged(path, f"tensor '{name}' has the data_offsets {offsets!r}")
    n_bytes = offsets[1] - offsets[0]
    needed_bits = math.prod(shape) * DTYPE_BITS[dtype]
    if needed_bits != 8 * n_bytes:
        raise damaged(path, f"tensor '{name}' ({dtype} {shape}) needs {needed_bits / 8:g} bytes but has {n_bytes}")
    return Stream(name, dtype, tuple(shape), file_index, data_start + offsets[0], n_bytes)


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    """A short list of integers ≥ 0, each within 64 bits (a Python bool is no count)."""
    return (
        isinstance(value, list) and len(value) <= 32 and all(type(item) is int and 0 <= item < 2**64 for item in value)
    )
