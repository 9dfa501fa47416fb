"""Builders of tiny model files, byte by byte where a test needs a damaged one."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "I64": 8, "U32": 4, "F64": 8}


@pytest.fixture(scope="session")
def safetensors_bytes() -> Callable[..., bytes]:
    """Build a safetensors file from ``name → (dtype, shape)`` or ``name → (dtype, shape, data)``."""

    def build(arrays: dict[str, tuple[Any, ...]], metadata: dict[str, str] | None = None) -> bytes:
        header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        body = b""
        for name, (dtype, shape, *given) in arrays.items():
            n_bytes = math.prod(shape) * _BYTES.get(dtype, 1)
            data = given[0] if given else bytes(i % 251 for i in range(n_bytes))
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
            body += data
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + body

    return build


@pytest.fixture(scope="session")
def gguf_bytes() -> Callable[..., bytes]:
    """Build a GGUF file by hand from ``(name, dims, ggml type, offset)`` entries; every field can be wrong."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def build(
        tensors: list[tuple[str, list[int], int, int]],
        metadata: list[bytes] | None = None,
        *,
        data_bytes: int = 4096,
        magic: bytes = b"GGUF",
        version: int = 3,
        n_tensors: int | None = None,
        n_values: int | None = None,
    ) -> bytes:
        values = [text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama"), *(metadata or [])]
        count = len(tensors) if n_tensors is None else n_tensors
        head = magic + struct.pack("<IQQ", version, count, len(values) if n_values is None else n_values)
        for name, dims, kind, offset in tensors:
            values.append(text(name.encode()) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset))
        head += b"".join(values)
        return head + bytes(-len(head) % 32) + bytes(i % 251 for i in range(data_bytes))

    return build


@pytest.fixture(scope="session")
def write_gguf() -> Callable[..., Path]:
    """Write a GGUF model with the ``gguf`` package from ``name → array`` (or ``(raw array, ggml type)``)."""
    import gguf

    def write(path: Path, arch: str, facts: dict[str, Any], tensors: dict[str, Any], big_endian: bool = False) -> Path:
        endianness = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
        writer = gguf.GGUFWriter(path, arch, endianess=endianness)
        for key, value in facts.items():
            if isinstance(value, list):
                writer.add_array(key, value)
            elif isinstance(value, str):
                writer.add_string(key, value)
            else:
                writer.add_uint32(key, value)
        for name, value in tensors.items():
            array, kind = value if isinstance(value, tuple) else (value, None)
            writer.add_tensor(name, np.ascontiguousarray(array), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write
