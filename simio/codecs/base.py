"""What a codec is: the contract every lossless codec and filter fulfils.

A codec is a frozen dataclass whose fields are its whole configuration, registered under the entry-point group
``simio.codecs``. Its fields tell ``simio.codecs.parse`` how it is written:

- a field ``level``: ``zstd:1`` (``zstd`` alone takes the field's default);
- a field ``inner``: ``byteplane(zstd:1)`` — a filter, which rearranges bytes and hands each stream to ``inner``;
- neither: ``raw``.

Rules, held by ``simio.testing.check_codec``:

- ``decompress(compress(x), len(x)) == x`` for every ``x``: empty, one byte, odd sizes, any bit pattern;
- equal input gives equal output, in any thread, any number of threads at once on one object;
- a damaged input that cannot be decompressed raises ``ModelFileError``;
- the heavy part releases the GIL, because profiling runs one thread per core.

Nothing here stores a chunk raw when it did not shrink: that rule lives once, in ``simio.codecs.chunk``.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

from simio.errors import ModelFileError

#: Bytes-like input of a codec: one-dimensional, contiguous, one byte an item.
Buffer: TypeAlias = bytes | bytearray | memoryview


@runtime_checkable
class Codec(Protocol):
    """A lossless codec with its configuration. See the module's text for the rules."""

    @property
    def name(self) -> str:
        """How the codec is written, with its level: ``zstd:1``, ``byteplane(zstd:1)``. ``parse(name)`` reads it."""
        ...

    @property
    def library_version(self) -> str:
        """What compresses: ``zstandard 0.25.0 (libzstd 1.5.7)``. Equal name and library ⇒ equal stored bytes."""
        ...

    def compress(self, raw: Buffer) -> bytes:
        """The compressed form of ``raw``; may be longer than ``raw``."""
        ...

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The ``raw_bytes`` bytes that ``stored`` was compressed from; raises ``ModelFileError`` on damage."""
        ...

    def for_layout(self, dtype: str) -> Codec:
        """The codec to use on weights of type ``dtype`` (``BF16``, ``Q4_K`` …).

        Plain codecs return themselves. A filter returns itself set up for that layout, or its inner codec's choice
        when it has nothing to do there. A filter that was not set up hands its input to its inner codec unchanged.
        """
        return self

    def streams(self, raw: Buffer) -> tuple[Buffer, ...]:
        """The byte streams an entropy coder inside sees: all of ``raw``, or what a filter splits it into."""
        return (raw,)


def damaged(codec: str, reason: object) -> ModelFileError:
    """The error for stored bytes that ``codec`` cannot decompress."""
    return ModelFileError(
        f"stored chunk is damaged: {codec} cannot decompress it ({reason})", "pack or profile the model again"
    )


def checked(codec: str, raw: bytes, raw_bytes: int) -> bytes:
    """``raw`` if it has ``raw_bytes`` bytes; raises ``ModelFileError`` otherwise."""
    if len(raw) != raw_bytes:
        raise damaged(codec, f"{len(raw)} bytes instead of {raw_bytes}")
    return raw
