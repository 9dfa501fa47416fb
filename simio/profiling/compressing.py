"""Compress chosen chunks of a model with one thread per core, remembering each in the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk
from simio.errors import ModelFileError
from simio.profiling.chunking import ChunkRef, WeightsSource
from simio.profiling.journal import ChunkFacts, ChunkJournal, chunk_key
from simio.profiling.measure import Sample
from simio.profiling.memory import keep_freed_memory
from simio.profiling.peek import chunk_entropy
from simio.profiling.workers import for_each

#: Called with (bytes done, bytes in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What to compress: ``chosen`` indices into ``chunks``; those in ``keep`` become samples to measure with."""

    source: WeightsSource
    codec: Codec
    chunks: Sequence[ChunkRef]
    chosen: Sequence[int]
    keep: frozenset[int] = frozenset()
    journal: ChunkJournal | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Facts by chunk index, and the kept chunks that shrank."""

    facts: dict[int, ChunkFacts] = field(default_factory=dict)
    samples: dict[int, Sample] = field(default_factory=dict)


def compress_all(work: Work, n_workers: int, progress: Progress | None = None) -> Outcome:
    """Compress every chosen chunk. On any error or Ctrl-C the journal keeps what is done."""
    outcome = Outcome()
    total_bytes = sum(work.chunks[i].n_bytes for i in work.chosen)

    def compress(index: int) -> int:
        facts = outcome.facts[index] = _compress_one(work, index, outcome.samples)
        return facts.raw_bytes

    def tick(done_bytes: int) -> None:
        if work.journal is not None:
            work.journal.flush()
        if progress is not None:
            progress(done_bytes, total_bytes)

    keep_freed_memory()
    for_each(work.chosen, compress, n_workers, tick)
    return outcome


def _compress_one(work: Work, index: int, samples: dict[int, Sample]) -> ChunkFacts:
    chunk = work.chunks[index]
    raw = read_chunk(work.source, chunk)
    key = "" if work.journal is None else chunk_key(raw, chunk.stream.dtype)
    if work.journal is not None and index not in work.keep:
        known = work.journal.find(key, chunk.n_bytes)
        if known is not None:
            return known
    codec, stored, facts = compress_chunk_of(work.codec, chunk, raw)
    if index in work.keep and len(stored) < len(raw):
        samples[index] = Sample(codec, stored, len(raw))
    if work.journal is not None:
        work.journal.add(key, facts)
    return facts


def compress_chunk_of(codec: Codec, chunk: ChunkRef, raw: bytes) -> tuple[Codec, bytes, ChunkFacts]:
    """``raw``, the bytes of ``chunk``, compressed: the codec set up for its layout, what is stored, and the facts."""
    codec = codec.for_layout(chunk.stream.dtype)
    stored = compress_chunk(codec, raw)
    return codec, stored, ChunkFacts(len(raw), len(stored), chunk_entropy(codec, raw, chunk.stream.dtype))


def read_chunk(source: WeightsSource, chunk: ChunkRef) -> bytes:
    """The bytes of ``chunk``. Raises ``ModelFileError`` where the file ends before it does."""
    raw = source.read(chunk.stream, chunk.start, chunk.n_bytes)
    if len(raw) != chunk.n_bytes:
        where = f"stream {chunk.stream.name} at byte {chunk.stream.offset + chunk.start}"
        raise ModelFileError(f"the weights file ended early in {where}", "the file has changed: inspect it again")
    return raw
