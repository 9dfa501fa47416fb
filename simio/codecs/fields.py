"""Filter for quant-block formats: scales, high bits and codes of all quant blocks apart from each other.

A ggml quant block interleaves a scale or two with its codes, so a byte codec meets a scale every 17 to 210 bytes and
matches nothing. This filter gathers each field of the struct over all quant blocks of a chunk into its own stream.
Half-precision scales are split once more into their low and high bytes: exponents repeat, low mantissa bits do not.
Two 4-bit codes share a byte; they stay together, because an entropy coder over bytes sees both anyway. Eight 3-bit
codes share three bytes (``INT3``), each of which cuts codes elsewhere: they go into three streams.

The streams are framed by ``simio.codecs.framing``; bytes after the last whole quant block form a last stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from simio.codecs.base import Buffer, Codec
from simio.codecs.framing import pack, unpack

#: Fields of each quant block in memory order: (name, bytes, bytes per element). Source: structs of ggml-common.h.
LAYOUTS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "Q4_0": (("d", 2, 2), ("qs", 16, 1)),
    "Q4_1": (("d", 2, 2), ("m", 2, 2), ("qs", 16, 1)),
    "Q5_0": (("d", 2, 2), ("qh", 4, 1), ("qs", 16, 1)),
    "Q5_1": (("d", 2, 2), ("m", 2, 2), ("qh", 4, 1), ("qs", 16, 1)),
    "Q8_0": (("d", 2, 2), ("qs", 32, 1)),
    "Q2_K": (("scales", 16, 1), ("qs", 64, 1), ("d", 2, 2), ("dmin", 2, 2)),
    "Q3_K": (("hmask", 32, 1), ("qs", 64, 1), ("scales", 12, 1), ("d", 2, 2)),
    "Q4_K": (("d", 2, 2), ("dmin", 2, 2), ("scales", 12, 1), ("qs", 128, 1)),
    "Q5_K": (("d", 2, 2), ("dmin", 2, 2), ("scales", 12, 1), ("qh", 32, 1), ("qs", 128, 1)),
    "Q6_K": (("ql", 128, 1), ("qh", 64, 1), ("scales", 16, 1), ("d", 2, 2)),
    "Q8_K": (("d", 4, 4), ("qs", 256, 1), ("bsums", 32, 2)),
    "IQ1_S": (("d", 2, 2), ("qs", 32, 1), ("qh", 16, 2)),
    "IQ1_M": (("qs", 32, 1), ("qh", 16, 1), ("scales", 8, 2)),
    "IQ2_XXS": (("d", 2, 2), ("qs", 64, 1)),
    "IQ2_XS": (("d", 2, 2), ("qs", 64, 2), ("scales", 8, 1)),
    "IQ2_S": (("d", 2, 2), ("qs", 32, 1), ("signs", 32, 1), ("qh", 8, 1), ("scales", 8, 1)),
    "IQ3_XXS": (("d", 2, 2), ("qs", 64, 1), ("scales_signs", 32, 4)),
    "IQ3_S": (("d", 2, 2), ("qs", 64, 1), ("qh", 8, 1), ("signs", 32, 1), ("scales", 4, 1)),
    "IQ4_NL": (("d", 2, 2), ("qs", 16, 1)),
    "IQ4_XS": (("d", 2, 2), ("scales_h", 2, 2), ("scales_l", 4, 1), ("qs", 128, 1)),
    "TQ1_0": (("qs", 48, 1), ("qh", 4, 1), ("d", 2, 2)),
    "TQ2_0": (("qs", 64, 1), ("d", 2, 2)),
    "MXFP4": (("e", 1, 1), ("qs", 16, 1)),
    "NVFP4": (("d", 4, 1), ("qs", 32, 1)),
    "INT3": (("codes", 3, 3),),  # simio.quant.packing
}


def block_bytes(dtype: str) -> int:
    """Bytes of one quant block."""
    return sum(n_bytes for _, n_bytes, _ in LAYOUTS[dtype])


@cache
def columns(dtype: str) -> tuple[slice, ...]:
    """The bytes of a quant block that each stream gathers, as slices in stream order."""
    found, start = [], 0
    for _, n_bytes, width in LAYOUTS[dtype]:
        found += [slice(start + i, start + n_bytes, width) for i in range(width)]
        start += n_bytes
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Fields(Codec):
    """``fields(inner)``. ``dtype`` is set by ``for_layout``; without it the input goes to ``inner`` unchanged."""

    inner: Codec
    dtype: str | None = None

    @property
    def name(self) -> str:
        """``fields(inner)``."""
        return f"fields({self.inner.name})"

    @property
    def library_version(self) -> str:
        """Version of this module's format and the inner library."""
        return f"fields format 1 over {self.inner.library_version}"

    def for_layout(self, dtype: str) -> Codec:
        """Fields for the types of ``LAYOUTS``; anything else is for the inner codec."""
        if dtype in LAYOUTS:
            return Fields(self.inner.for_layout("U8"), dtype)
        return self.inner.for_layout(dtype)

    def streams(self, raw: Buffer) -> tuple[Buffer, ...]:
        """The fields in memory order, wide elements byte by byte from low to high, then the tail."""
        if self.dtype is None:
            return self.inner.streams(raw)
        n_bytes = block_bytes(self.dtype)
        n_blocks = len(raw) // n_bytes
        blocks = np.frombuffer(raw, np.uint8, n_blocks * n_bytes).reshape(n_blocks, n_bytes)
        gathered = (np.ascontiguousarray(blocks[:, column]).reshape(-1).data for column in columns(self.dtype))
        return (*gathered, memoryview(raw)[n_blocks * n_bytes :])

    def compress(self, raw: Buffer) -> bytes:
        """Each field compressed on its own; see ``simio.codecs.framing``."""
        return self.inner.compress(raw) if self.dtype is None else pack(self.inner, self.streams(raw))

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The quant blocks put together again; raises ``ModelFileError`` on damage."""
        if self.dtype is None:
            return self.inner.decompress(stored, raw_bytes)
        n_bytes = block_bytes(self.dtype)
        n_blocks, n_tail = divmod(raw_bytes, n_bytes)
        blocks = np.empty((n_blocks, n_bytes), np.uint8)
        lengths = [blocks[:, column].size for column in columns(self.dtype)]
        *gathered, tail = unpack(self.inner, stored, [*lengths, n_tail])
        for column, stream in zip(columns(self.dtype), gathered, strict=True):
            blocks[:, column] = np.frombuffer(stream, np.uint8).reshape(blocks[:, column].shape)
        return blocks.tobytes() + tail
