"""Containers that say something else than was packed, with checksums that fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash

from simio.container.header import HEADER_BYTES, Header, aligned


def resealed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the facts of a container and make all checksums fit again."""
    data = path.read_bytes()
    header = Header.from_bytes(data[:HEADER_BYTES], path, len(data))
    at = header.index_offset + header.n_chunks * 40
    facts = json.loads(data[at : at + header.facts_bytes])
    change(facts)
    text = json.dumps(facts).encode()
    used = data[header.index_offset : at] + text
    index = used.ljust(aligned(len(used)), b"\0")
    header = replace(
        header, file_bytes=header.index_offset + len(index), index_bytes=len(index), facts_bytes=len(text),
        index_xxh3=xxhash.xxh3_64_intdigest(index),
    )  # fmt: skip
    path.write_bytes(header.to_bytes() + data[HEADER_BYTES : header.index_offset] + index)
