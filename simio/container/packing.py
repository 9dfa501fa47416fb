"""Pack a model into a container: compress on all cores, write in order, finish in one step, resume when interrupted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from simio import __version__
from simio.codecs import Codec, parse
from simio.codecs.chunk import compress_chunk
from simio.container.chunk_table import Chunk, table
from simio.container.codec_choice import CodecChoice
from simio.container.draft import Draft
from simio.container.header import HEADER_BYTES, VERSION, Header, aligned
from simio.container.index import Index, without_folders
from simio.container.journal import PackJournal
from simio.container.layout import Layout, lay_out
from simio.container.model_format import FORMAT
from simio.container.residency import Residency
from simio.container.sources import SourceFile, source_files
from simio.errors import UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.profiling.chunking import check_chunk_bytes
from simio.profiling.host import n_usable_cpus
from simio.profiling.memory import keep_freed_memory
from simio.profiling.workers import in_order
from simio.records.model import Model
from simio.units import MIB

#: Called with (bytes of the source done, in all).
Progress = Callable[[int, int], None]

#: Compressed chunks wait for their predecessors in at most about this much memory.
_WAITING_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Packed:
    """A finished container. ``stored_bytes`` are those of all chunks without padding; ``n_resumed`` chunks were kept
    from an interrupted run."""

    path: Path
    index: Index
    source_bytes: int
    stored_bytes: int
    file_bytes: int
    n_chunks: int
    n_raw_chunks: int
    n_resumed: int


@dataclass(frozen=True, slots=True)
class _Job:
    """All that decides the content of a container. ``numbers`` is the codec number of every piece."""

    model: Model
    files: tuple[SourceFile, ...]
    layout: Layout
    chunk_bytes: int
    codecs: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]
    residency: Residency

    @property
    def source_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)

    @property
    def libraries(self) -> dict[str, str]:
        return {name: parse(name).library_version for name, _ in self.codecs}

    def identity(self) -> bytes:
        """Equal for jobs whose chunks are equal as long as the sources' bytes are."""
        files = [(file.path.name, file.n_bytes) for file in self.files]
        pieces, libraries = self.layout.pieces, self.libraries
        facts = (VERSION, self.model.digest, files, self.chunk_bytes, self.codecs, self.numbers, pieces, libraries)
        return xxhash.xxh3_128_digest(repr(facts).encode())


def pack(
    source: Path,
    output: Path,
    choice: CodecChoice,
    *,
    chunk_bytes: int = MIB,
    n_workers: int | None = None,
    progress: Progress | None = None,
) -> Packed:
    """Write the model at ``source`` with its companion files to the container ``output``.

    Until it is complete it is ``output`` + ``.partial`` beside a ``.journal``. A later call with the same arguments
    keeps the finished chunks that still fit the source; the result is the same, byte for byte, whatever the number of
    workers and interruptions.

    Raises ``ModelFileError`` for a damaged source or one that changes meanwhile, ``ContainerError`` while another
    process packs to ``output``, ``WriteError`` when that cannot be written, ``UsageError`` for bad options.
    """
    check_chunk_bytes(chunk_bytes)
    if n_workers is not None and n_workers < 1:
        raise UsageError(f"cannot pack with {n_workers} workers", "leave it out to use every core")
    job = _job(source, choice, chunk_bytes)
    _check_output(output, job.files)
    hint = f"make room or choose another output; the same command then goes on from {output}.partial"
    with Draft(output, hint) as draft, PackJournal(Path(f"{output}.journal"), job.identity(), hint) as journal:
        try:
            return _Packing(job, draft, journal, n_workers or n_usable_cpus(), progress).run()
        except BaseException:
            if not journal.finished():
                draft.discard()
                journal.discard()
            raise


def _job(source: Path, choice: CodecChoice, chunk_bytes: int) -> _Job:
    model = open_model(source)
    if model.format == FORMAT:
        raise UsageError(f"{source} is packed already", "simio unpack gives back the model file it was packed from")
    files = source_files(source, model)
    layout = lay_out(model, files, chunk_bytes)
    residency = choice.residency_of(model)
    choice.check(model)
    chosen = choice.for_tensors(tensor.name for tensor in model.tensors)
    known = {("raw", "U8"): 0}
    numbers = []
    for piece in layout.pieces:
        codec = choice.default if piece.tensor is None else chosen[piece.tensor]
        dtype = layout.chunks[piece.first_chunk].stream.dtype
        key = ("raw", "U8") if codec.name == "raw" else (codec.name, dtype)
        numbers.append(known.setdefault(key, len(known)))
    return _Job(model, files, layout, chunk_bytes, tuple(known), tuple(numbers), residency)


def _check_output(output: Path, files: Sequence[SourceFile]) -> None:
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output}: no such directory", f"create it: mkdir -p {output.parent}")
    if output.is_dir():
        raise UsageError(f"{output} is a directory", f"name a file: -o {output / 'model.simio'}")
    for file in files:
        if output.exists() and os.path.samefile(output, file.path):
            raise UsageError(f"{output} is what would be packed", "choose another output")


class _Packing:
    """One run of a job: what is kept, what is compressed, and the table of chunks as it grows."""

    def __init__(
        self, job: _Job, draft: Draft, journal: PackJournal, n_workers: int, progress: Progress | None
    ) -> None:
        self.job = job
        self.draft = draft
        self.journal = journal
        self.n_workers = n_workers
        self.progress = progress
        self.reader = WeightsReader(replace(job.model, files=tuple(str(file.path) for file in job.files)))
        self.codecs: list[Codec] = [parse(name).for_layout(dtype) for name, dtype in job.codecs]
        ends = [*(piece.first_chunk for piece in job.layout.pieces[1:]), len(job.layout.chunks)]
        starts = (piece.first_chunk for piece in job.layout.pieces)
        self.numbers = [n for n, start, end in zip(job.numbers, starts, ends, strict=True) for _ in range(end - start)]
        self.chunks: list[Chunk] = []
        self.end = HEADER_BYTES
        self.done_bytes = 0

    def run(self) -> Packed:
        """Resume, compress the rest, write index and header, finish."""
        keep_freed_memory()
        with self.reader:
            n_resumed = self._resume()
            self._compress_rest()
        for file in self.job.files:
            file.check_unchanged()
        packed = self._close(n_resumed)
        self.draft.finish()
        self.journal.discard()
        return packed

    def _resume(self) -> int:
        """Keep finished chunks up to the first that no longer fits its source or was not written well."""
        known = self.journal.finished()

        def is_good(number: int) -> bool:
            chunk = known[number]
            region = self.draft.read(chunk.offset, aligned(chunk.stored_bytes))
            whole = len(region) == aligned(chunk.stored_bytes) and _xxh3(region) == chunk.stored_xxh3
            return whole and _xxh3(self._raw(number)) == chunk.raw_xxh3

        with closing(in_order(range(len(known)), is_good, self.n_workers, self._n_in_flight)) as results:
            for number, good in enumerate(results):
                if not good:
                    break
                self._count(known[number])
        self.journal.keep(len(self.chunks))
        self.draft.resize(self.end if self.chunks else 0)
        return len(self.chunks)

    def _compress_rest(self) -> None:
        rest = range(len(self.chunks), len(self.job.layout.chunks))
        with closing(in_order(rest, self._compress, self.n_workers, self._n_in_flight)) as results:
            for region, chunk in results:
                placed = replace(chunk, offset=self.end)
                self.draft.write(region, placed.offset)
                self.journal.append(placed, len(self.chunks))
                self._count(placed)

    @property
    def _n_in_flight(self) -> int:
        return self.n_workers + max(1, min(3 * self.n_workers, _WAITING_BYTES // self.job.chunk_bytes))

    def _raw(self, number: int) -> bytes:
        ref = self.job.layout.chunks[number]
        return self.reader.read(ref.stream, ref.start, ref.n_bytes)

    def _compress(self, number: int) -> tuple[bytes, Chunk]:
        """The padded stored region of a chunk and its table entry, still without a place."""
        raw = self._raw(number)
        stored = compress_chunk(self.codecs[self.numbers[number]], raw)
        codec = self.numbers[number] if len(stored) < len(raw) else 0
        region = stored.ljust(aligned(len(stored)), b"\0")
        return region, Chunk(0, len(stored), len(raw), codec, _xxh3(region), _xxh3(raw))

    def _count(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.end = chunk.offset + aligned(chunk.stored_bytes)
        self.done_bytes += chunk.raw_bytes
        if self.progress is not None:
            self.progress(self.done_bytes, self.job.source_bytes)

    def _close(self, n_resumed: int) -> Packed:
        """Write index and header: now the partial file is a container."""
        job, n_chunks = self.job, len(self.chunks)
        index = Index(
            writer=f"simio {__version__}",
            chunk_bytes=job.chunk_bytes,
            model=without_folders(job.model),
            files=tuple((file.path.name, file.n_bytes) for file in job.files),
            codecs=job.codecs,
            libraries=job.libraries,
            pieces=job.layout.pieces,
            table=table(b"".join(chunk.to_bytes() for chunk in self.chunks), n_chunks),
            residency=job.residency,
        )
        data, facts_bytes = index.to_bytes()
        file_bytes = self.end + len(data)
        header = Header(file_bytes, self.end, len(data), facts_bytes, n_chunks, _xxh3(data))
        self.draft.write(data, self.end)
        self.draft.write(header.to_bytes(), 0)
        return Packed(
            path=self.draft.path,
            index=index,
            source_bytes=job.source_bytes,
            stored_bytes=sum(chunk.stored_bytes for chunk in self.chunks),
            file_bytes=file_bytes,
            n_chunks=n_chunks,
            n_raw_chunks=sum(chunk.codec == 0 for chunk in self.chunks),
            n_resumed=n_resumed,
        )


def _xxh3(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)
