"""Read a container: its index at once, any chunk alone, any bytes of the original files. Every read is verified."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import xxhash

from simio.codecs import parse
from simio.codecs.base import Buffer
from simio.codecs.chunk import decompress_chunk
from simio.container.chunk_table import Chunk
from simio.container.header import HEADER_BYTES, Header, aligned, damaged
from simio.container.index import Index, read_index
from simio.container.layout import Piece
from simio.errors import ContainerError, ModelFileError, UnknownNameError, UsageError
from simio.records.model import Model, Stream


class Container:
    """An open container; a context manager. Any number of threads may read from it at once.

    >>> with Container.open(Path("model.simio")) as container:                    # doctest: +SKIP
    ...     for piece in container.pieces_of("blk.0.attn_q.weight"):
    ...         weights = [container.read_chunk(number) for number in container.chunks_of(piece)]
    """

    def __init__(self, path: Path, descriptor: int, header: Header, index: Index) -> None:
        self.path = path
        self.header = header
        self.index = index
        self._descriptor = descriptor
        self._codecs = [parse(name).for_layout(dtype) for name, dtype in index.codecs]
        self._firsts = [piece.first_chunk for piece in index.pieces]
        raw_ends = np.concatenate([[0], np.cumsum(index.table["raw_bytes"], dtype=np.int64)])
        self._raw_starts: list[int] = raw_ends.tolist()
        self._number = {tensor.name: number for number, tensor in enumerate(index.model.tensors)}
        self._by_tensor: dict[int, list[int]] = {}
        self._by_file: list[list[tuple[int, int]]] = [[] for _ in index.files]
        for number, piece in enumerate(index.pieces):
            self._by_file[piece.file].append((piece.offset, number))
            if piece.tensor is not None:
                self._by_tensor.setdefault(piece.tensor, []).append(number)
        for places in self._by_file:
            places.sort()

    @classmethod
    def open(cls, path: str | Path) -> Container:
        """The container at ``path``; reads its first 4096 bytes and its index, not the payload.

        Raises ``ContainerError`` for a file that is missing, no container, damaged there, cut off or newer than this
        simio, ``MissingPackageError`` or ``UnknownNameError`` for a codec that is not installed.
        """
        path = Path(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            hint = "simio pack MODEL -o model.simio makes one"
            raise ContainerError(f"{path}: cannot be read: {error.strerror}", hint) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                what = "Is a directory" if path.is_dir() else "is no file"
                raise ContainerError(f"{path}: not a simio container: {what}", "name the .simio file")
            n_bytes = os.fstat(descriptor).st_size
            header = Header.from_bytes(_pread(descriptor, path, 0, min(n_bytes, HEADER_BYTES)), path, n_bytes)
            data = _pread(descriptor, path, header.index_offset, header.index_bytes)
            if xxhash.xxh3_64_intdigest(data) != header.index_xxh3:
                raise damaged(path, f"the index (from byte {header.index_offset}) does not fit its checksum")
            return cls(path, descriptor, header, read_index(data, header, path))
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> Container:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def model(self) -> Model:
        """The packed model. Its ``files`` are bare names, its streams' offsets count in those files."""
        return self.index.model

    @property
    def n_chunks(self) -> int:
        """Chunks in all; they are numbered from 0 in the order they lie in the file."""
        return self.header.n_chunks

    def chunk(self, number: int) -> Chunk:
        """Place, lengths, codec number and checksums of a chunk."""
        offset, stored_bytes, raw_bytes, codec, _, stored_xxh3, raw_xxh3 = self.index.table[number].tolist()
        return Chunk(offset, stored_bytes, raw_bytes, codec, stored_xxh3, raw_xxh3)

    def stored_span(self, number: int) -> tuple[int, int]:
        """(offset, bytes) to read for a chunk: both multiples of 4096, fit for O_DIRECT. Neighbours touch."""
        chunk = self.index.table[number]
        return int(chunk["offset"]), aligned(int(chunk["stored_bytes"]))

    def pieces_of(self, tensor: str) -> tuple[Piece, ...]:
        """The pieces of a tensor, in container order; raises ``UnknownNameError`` for a name that is not there."""
        if tensor not in self._number:
            raise UnknownNameError("tensor", tensor, self._number)
        return tuple(self.index.pieces[n] for n in self._by_tensor.get(self._number[tensor], []))

    def chunks_of(self, piece: Piece) -> range:
        """The numbers of a piece's chunks."""
        after = bisect_right(self._firsts, piece.first_chunk)
        return range(piece.first_chunk, self._firsts[after] if after < len(self._firsts) else self.n_chunks)

    def place(self, number: int) -> tuple[Piece, int]:
        """The piece a chunk belongs to, and where its bytes begin in the source file of that piece."""
        piece = self.index.pieces[bisect_right(self._firsts, number) - 1]
        return piece, piece.offset + self._raw_starts[number] - self._raw_starts[piece.first_chunk]

    def describe(self, number: int) -> str:
        """A chunk in words: what a message names."""
        piece, start = self.place(number)
        name = self.index.files[piece.file][0]
        what = (
            f"tensor '{self.model.tensors[piece.tensor].name}'" if piece.tensor is not None else "bytes outside tensors"
        )
        return f"chunk {number} ({what}, from byte {start} of {name})"

    def read_chunk(self, number: int) -> bytes:
        """The weights of a chunk, read, verified and decompressed; raises ``ContainerError`` on damage."""
        return self.unpack_chunk(number, self.read_span(number))

    def read_span(self, number: int) -> bytes:
        """The bytes of a chunk's ``stored_span``, not verified; raises ``ContainerError`` where the file is cut off."""
        offset, n_bytes = self.stored_span(number)
        return self._read(offset, n_bytes)

    def unpack_chunk(self, number: int, region: Buffer) -> bytes:
        """The weights of a chunk from the bytes of its ``stored_span``, verified before and after decompression.

        For readers that fetch the span themselves. Raises ``ContainerError`` on damage.
        """
        return bytes(self.stored(number, region)) if self.is_raw(number) else self._decompress(number, region)

    def is_raw(self, number: int) -> bool:
        """Whether a chunk is stored as it is."""
        return bool(self.index.table[number]["codec"] == 0)

    def stored(self, number: int, region: Buffer) -> memoryview:
        """The stored bytes of a chunk within the bytes of its ``stored_span``, verified; the weights where it is raw.

        Raises ``ContainerError`` on damage.
        """
        chunk = self.chunk(number)
        if len(region) != aligned(chunk.stored_bytes) or xxhash.xxh3_64_intdigest(region) != chunk.stored_xxh3:
            raise damaged(self.path, f"{self.describe(number)} does not fit its checksum")
        return memoryview(region)[: chunk.stored_bytes]

    def _decompress(self, number: int, region: Buffer) -> bytes:
        chunk = self.chunk(number)
        try:
            raw = decompress_chunk(self._codecs[chunk.codec], self.stored(number, region), chunk.raw_bytes)
        except ModelFileError as error:
            raise damaged(self.path, f"{self.describe(number)}: {error.message}") from error
        if xxhash.xxh3_64_intdigest(raw) != chunk.raw_xxh3:
            raise damaged(self.path, f"{self.describe(number)} decompresses to other bytes than were packed")
        return raw

    def read(self, stream: Stream, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` of ``stream`` from its byte ``start``, as ``simio.formats.weights.WeightsReader``."""
        n_bytes = max(0, min(n_bytes, stream.n_bytes - start))
        return self.read_source(stream.file_index, stream.offset + start, n_bytes)

    def read_file(self, name: str) -> bytes:
        """All of a source file such as ``config.json``; raises ``UnknownNameError`` when it was not packed."""
        names = [file for file, _ in self.index.files]
        if name not in names:
            raise UnknownNameError("packed file", name, names)
        return self.read_source(names.index(name), 0, self.index.files[names.index(name)][1])

    def read_source(self, file: int, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` from ``start`` of the ``file``-th source file; raises ``UsageError`` outside of it."""
        if start < 0 or n_bytes < 0 or start + n_bytes > self.index.files[file][1]:
            name, size = self.index.files[file]
            raise UsageError(f"bytes {start} to {start + n_bytes} are not in {name} ({size} bytes)")
        return b"".join(self._parts(file, start, start + n_bytes))

    def _parts(self, file: int, start: int, end: int) -> Iterator[bytes]:
        places = self._by_file[file]
        at = bisect_right(places, (start, len(self._firsts))) - 1
        while start < end:
            piece = self.index.pieces[places[at][1]]
            for number in self._overlapping(piece, start, end):
                first = self.place(number)[1]
                raw = self.read_chunk(number)[start - first : end - first]
                yield raw
                start += len(raw)
            at += 1

    def _overlapping(self, piece: Piece, start: int, end: int) -> Iterator[int]:
        """The chunks of ``piece`` with source bytes from ``start`` to ``end``."""
        numbers = self.chunks_of(piece)
        raw_start = self._raw_starts[piece.first_chunk]
        within = start - piece.offset + raw_start
        for number in range(bisect_right(self._raw_starts, within, numbers.start, numbers.stop) - 1, numbers.stop):
            if self._raw_starts[number] - raw_start + piece.offset < end:
                yield number

    def _read(self, offset: int, n_bytes: int) -> bytes:
        if self._descriptor < 0:
            raise UsageError(f"{self.path} is closed", "read inside its 'with' block")
        return _pread(self._descriptor, self.path, offset, n_bytes)


def _pread(descriptor: int, path: Path, offset: int, n_bytes: int) -> bytes:
    """All of ``n_bytes``; raises ``ContainerError`` where the file ends before."""
    data = b""
    while len(data) < n_bytes:
        try:
            more = os.pread(descriptor, n_bytes - len(data), offset + len(data))
        except OSError as error:
            raise damaged(path, f"cannot be read at byte {offset + len(data)}: {error.strerror}") from error
        if not more:
            raise damaged(path, f"ends at byte {offset + len(data)}")
        data += more
    return data
