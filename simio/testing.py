"""Contract suites for plug-ins: what simio's own tests call, shipped so that other packages can call them too.

A suite raises ``AssertionError`` with the broken rule and the input that broke it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import is_dataclass

import numpy as np

from simio.codecs import parse
from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk, decompress_chunk
from simio.errors import ModelFileError
from simio.records.weight_types import WEIGHT_TYPES

_SIZES = (0, 1, 2, 3, 17, 255, 4096, 65537, 200_001)


def check_codec(codec: Codec) -> None:
    """Hold ``codec`` against every rule of ``simio.codecs.base``, in every weight layout simio knows."""
    _check_configuration(codec)
    layouts = {repr(codec): codec} | {repr(c): c for c in map(codec.for_layout, sorted(WEIGHT_TYPES))}
    for one in layouts.values():
        for label, raw in _inputs():
            _check_round_trip(one, label, raw)
        _check_damage(one)
        _check_threads(one)


def _check_configuration(codec: Codec) -> None:
    _require(is_dataclass(codec), f"{codec!r} is not a dataclass")
    _require(type(codec).__dataclass_params__.frozen, f"{codec!r} is not frozen")  # type: ignore[attr-defined]
    _require(parse(codec.name) == codec, f"parse({codec.name!r}) gives another codec")
    _require(bool(codec.library_version), f"{codec.name} names no library")
    hash(codec)


def _inputs() -> Iterator[tuple[str, bytes]]:
    """Inputs of every awkward size: noise, one value, and a skewed distribution as weights have."""
    rng = np.random.default_rng(0)
    for n_bytes in _SIZES:
        yield f"{n_bytes} random bytes", rng.bytes(n_bytes)
        yield f"{n_bytes} equal bytes", b"\x7f" * n_bytes
    floats = (rng.standard_normal(20_000) * 0.02).astype(np.float32)
    floats[:6] = [np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-42]
    yield "float32 weights", floats.tobytes()
    yield "float16 weights", floats.astype(np.float16).tobytes()
    yield "bfloat16 weights", (floats.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    yield "all 16-bit patterns", np.arange(65536, dtype="<u2").tobytes()


def _check_round_trip(codec: Codec, label: str, raw: bytes) -> None:
    where = f"{codec!r} on {label}"
    stored = codec.compress(raw)
    _require(codec.decompress(stored, len(raw)) == raw, f"{where}: decompress does not give the input back")
    _require(codec.compress(raw) == stored, f"{where}: compressing twice gives different bytes")
    for kind in (bytearray, memoryview):
        _require(codec.compress(kind(raw)) == stored, f"{where}: {kind.__name__} input gives different bytes")
        _require(codec.decompress(kind(stored), len(raw)) == raw, f"{where}: {kind.__name__} does not decompress")
    _require(sum(map(len, codec.streams(raw))) == len(raw), f"{where}: streams lose or add bytes")
    chunk = compress_chunk(codec, raw)
    _require(len(chunk) <= len(raw), f"{where}: a stored chunk is longer than the raw one")
    _require(decompress_chunk(codec, chunk, len(raw)) == raw, f"{where}: the chunk does not come back")


def _check_damage(codec: Codec) -> None:
    raw = bytes(range(64)) * 1024
    stored = codec.compress(raw)
    for label, damaged in (("truncated", stored[: len(stored) // 2]), ("empty", b"")):
        try:
            codec.decompress(damaged, len(raw))
        except ModelFileError:
            continue
        raise AssertionError(f"{codec!r}: {label} input raises no ModelFileError")


def _check_threads(codec: Codec) -> None:
    rng = np.random.default_rng(1)
    inputs = [(rng.standard_normal(10_000 + i) * 0.02).astype(np.float32).tobytes() for i in range(16)]
    expected = [codec.compress(raw) for raw in inputs]
    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(codec.compress, inputs * 4))
        raws = list(pool.map(codec.decompress, stored, map(len, inputs * 4)))
    _require(stored == expected * 4, f"{codec!r}: several threads compress to different bytes")
    _require(raws == inputs * 4, f"{codec!r}: several threads decompress to different bytes")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
