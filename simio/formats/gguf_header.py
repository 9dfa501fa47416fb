"""The header of one GGUF file: magic, metadata, tensor list; walked strictly, without mapping the tensors.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Types, block sizes and magic come from the ``gguf``
package. Its ``GGUFReader`` is not used: on a header with a 128 k vocabulary it takes 7.7 s and 600 MB (this walk:
0.15 s), and it believes whatever a corrupt length says.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simio.formats.damage import check_extents, damaged, foreign
from simio.records.model import Stream

#: Longer arrays (vocabularies) are skipped: only their length is kept.
_KEPT_ITEMS = 4096
_MAX_DIMS = 4  # GGML_MAX_DIMS
_MAX_NESTING = 4
_STRING, _ARRAY = 8, 9
#: GGUF value type → struct code; ``gguf.GGUFValueType`` names them.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class Array:
    """A metadata array: its length, and its items unless it is long."""

    n_items: int
    items: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Header:
    """``metadata`` values are int, float, bool, str or ``Array``; tensors are streams with the tensor's name."""

    metadata: dict[str, Any]
    tensors: tuple[Stream, ...]
    data_start: int


def has_magic(path: Path) -> bool:
    """Whether the file begins like GGUF."""
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def read_header(path: Path, file_index: int) -> Header:
    """Metadata and tensors of one file, tensors in file order.

    Raises ``ModelFileError`` unless magic, version, counts, types and offsets agree with the size of the file.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise damaged(path, f"{path.stat().st_size} bytes are too few for a GGUF header")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Walk(path, data).header(file_index)
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}", "check the path and its permissions") from error


def read_metadata(path: Path, head: bytes, longest: int = _KEPT_ITEMS) -> dict[str, Any]:
    """The metadata in ``head``, the bytes of the file ``path`` before its tensors, however they were read.

    Arrays of up to ``longest`` items come with them. Raises ``ModelFileError`` for a header that is not one.
    """
    walk = _Walk(path, head, longest)
    _, n_values = walk.counts()
    return walk.metadata(n_values)


class _Walk:
    """A cursor over the header; every step checks that its bytes exist."""

    def __init__(self, path: Path, data: mmap.mmap | bytes, longest: int = _KEPT_ITEMS) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.longest = longest
        self.at = 4
        self.order = "<"

    def header(self, file_index: int) -> Header:
        n_tensors, n_values = self.counts()
        metadata = self.metadata(n_values)
        entries = [self._entry() for _ in range(n_tensors)]
        alignment = self._alignment(metadata)
        data_start = -(-self.at // alignment) * alignment
        tensors = self._streams(entries, alignment, data_start, file_index)
        return Header(metadata, tensors, data_start if tensors else self.at)

    def counts(self) -> tuple[int, int]:
        """Tensors and metadata values, after the magic and the version."""
        self._check_start()
        n_tensors, n_values = self.take("Q"), self.take("Q")
        # A tensor entry takes 24 bytes or more, a metadata entry 13.
        if n_tensors * 24 + n_values * 13 > self.size:
            raise damaged(self.path, f"claims {n_tensors} tensors and {n_values} metadata values in {self.size} bytes")
        return n_tensors, n_values

    def take(self, code: str) -> Any:
        """The next scalar of struct type ``code``."""
        n_bytes = struct.calcsize("<" + code)
        self._need(n_bytes, "a value")
        (value,) = struct.unpack_from(self.order + code, self.data, self.at)
        self.at += n_bytes
        return value

    def text(self) -> str:
        """The next string: 64-bit length, then UTF-8."""
        n_bytes = self.take("Q")
        self._need(n_bytes, "a string")
        self.at += n_bytes
        try:
            return self.data[self.at - n_bytes : self.at].decode()
        except UnicodeDecodeError as error:
            raise damaged(self.path, f"a string at byte {self.at - n_bytes} is not UTF-8") from error

    def _need(self, n_bytes: int, what: str) -> None:
        if n_bytes > self.size - self.at:
            raise damaged(
                self.path, f"{what} of {n_bytes} bytes at byte {self.at} exceeds the file ({self.size}): truncated"
            )

    def _check_start(self) -> None:
        if self.data[:4] != b"GGUF":
            raise foreign(self.path, bytes(self.data[:64]), "GGUF")
        version = self.take("I")
        if version & 0xFFFF == 0:  # written on a big-endian machine
            self.order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in (2, 3):
            raise damaged(self.path, f"is GGUF version {version}; 2 and 3 are known", "convert the model again")

    def metadata(self, n_values: int) -> dict[str, Any]:
        """The next ``n_values`` names with their values."""
        metadata: dict[str, Any] = {}
        for _ in range(n_values):
            key = self.text()
            if key in metadata:
                raise damaged(self.path, f"the metadata name '{key}' twice")
            metadata[key] = self._value(self.take("I"), key, 0)
        return metadata

    def _value(self, kind: int, key: str, depth: int) -> Any:
        if kind in _SCALARS:
            return self.take(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY and depth < _MAX_NESTING:
            return self._array(key, depth)
        raise damaged(self.path, f"metadata '{key}' has the unknown type {kind}")

    def _array(self, key: str, depth: int) -> Array:
        kind, n_items = self.take("I"), self.take("Q")
        least = struct.calcsize("<" + _SCALARS[kind]) if kind in _SCALARS else 8
        self._need(n_items * least, f"metadata '{key}'")
        if n_items <= self.longest:
            return Array(n_items, tuple(self._value(kind, key, depth + 1) for _ in range(n_items)))
        if kind in _SCALARS:
            self.at += n_items * least
        else:
            self._skip(kind, n_items, key, depth)
        return Array(n_items, None)

    def _skip(self, kind: int, n_items: int, key: str, depth: int) -> None:
        """Pass over a long array; a vocabulary has 10⁵ strings, so strings are not decoded."""
        if kind != _STRING:
            for _ in range(n_items):
                self._value(kind, key, depth + 1)
            return
        length, data, at, last = struct.Struct(self.order + "Q"), self.data, self.at, self.size - 8
        for _ in range(n_items):
            if at > last:
                break
            at += 8 + length.unpack_from(data, at)[0]
        if at > self.size:
            raise damaged(self.path, f"metadata '{key}' runs past the end of the file ({self.size} bytes): truncated")
        self.at = at

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, dimensions (fastest first, as ggml counts), type and offset of the next tensor."""
        name, n_dims = self.text(), self.take("I")
        if n_dims > _MAX_DIMS:
            raise damaged(self.path, f"tensor '{name}' has {n_dims} dimensions; ggml knows up to {_MAX_DIMS}")
        dims = tuple(self.take("Q") for _ in range(n_dims))
        return name, dims, self.take("I"), self.take("Q")

    def _alignment(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > 2**30:
            raise damaged(self.path, f"general.alignment = {alignment!r} is no power of two")
        return alignment

    def _streams(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], alignment: int, data_start: int, file_index: int
    ) -> tuple[Stream, ...]:
        seen: set[str] = set()
        streams: list[Stream] = []
        for name, dims, kind, offset in entries:
            if name in seen:
                raise damaged(self.path, f"names tensor '{name}' twice")
            if offset % alignment:
                raise damaged(self.path, f"tensor '{name}' lies at offset {offset}, no multiple of {alignment}")
            seen.add(name)
            dtype, n_bytes = self._size(name, dims, kind)
            streams.append(Stream(name, dtype, dims[::-1], file_index, data_start + offset, n_bytes))
        extents = ((s.name, s.offset, s.offset + s.n_bytes) for s in streams)
        check_extents(self.path, extents, data_start, self.size, holes=True)
        return tuple(sorted(streams, key=lambda stream: (stream.offset, stream.n_bytes)))

    def _size(self, name: str, dims: tuple[int, ...], kind: int) -> tuple[str, int]:
        """The ggml type's name and the stored bytes; rows are whole quant blocks."""
        import gguf

        try:
            ggml_type = gguf.GGMLQuantizationType(kind)
        except ValueError as error:
            raise damaged(
                self.path, f"tensor '{name}' has the unknown ggml type {kind}", "a newer gguf package may know it"
            ) from error
        block_weights, block_bytes = gguf.GGML_QUANT_SIZES[ggml_type]
        if dims and dims[0] % block_weights:
            raise damaged(self.path, f"tensor '{name}': rows of {dims[0]} weights are no whole {ggml_type.name} blocks")
        return ggml_type.name, math.prod(dims) // block_weights * block_bytes
