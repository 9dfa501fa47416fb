"""Compress chosen chunks on a Dask cluster: workers read the model under the same path and send back sizes alone.

Sizes are those of this machine, because the library has to be the same version; what is kept to measure rates with is
compressed here again, held against the workers' sizes, and decompressed here alone.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from simio import codecs
from simio.cluster import Mapper
from simio.errors import ModelFileError, UsageError
from simio.formats.weights import WeightsReader
from simio.profiling.chunking import ChunkRef
from simio.profiling.compressing import Outcome, Progress, Work, compress_all, compress_chunk_of, read_chunk
from simio.profiling.journal import ChunkFacts, ChunkJournal, chunk_key
from simio.records.model import Model
from simio.units import MIB

#: Raw bytes that one task compresses: tenths of a second to a minute, depending on the codec.
BATCH_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Order:
    """What every task needs to know: where the weights are, how large those files are here, and the codec."""

    model: Model  # without its tensors: chunks name their streams
    file_bytes: tuple[int, ...]
    codec: str
    codec_library: str

    @classmethod
    def of(cls, model: Model, work: Work) -> Order:
        """The order for ``work`` on ``model``. Raises ``ModelFileError`` where a file is gone."""
        files = tuple(os.path.abspath(file) for file in model.files)
        sizes = tuple(_size(file, "this machine") for file in files)
        return cls(replace(model, files=files, tensors=()), sizes, work.codec.name, work.codec.library_version)


#: A chunk's number, the chunk, its key, and what compressing it gave, if it was.
_Found = tuple[int, str, ChunkFacts | None]
_Batch = Sequence[tuple[int, ChunkRef]]


def compress_on(mapper: Mapper, model: Model, work: Work, n_workers: int, progress: Progress | None = None) -> Outcome:
    """``compress_all`` with the workers of ``mapper``; ``n_workers`` threads here compress what is kept.

    On any error or Ctrl-C the journal keeps what came back. Raises ``ModelFileError`` where a worker cannot open the
    model or has another one, ``UsageError`` where it has another version of the library.
    """
    order, outcome = Order.of(model, work), Outcome()
    total_bytes, done_bytes = sum(work.chunks[i].n_bytes for i in work.chosen), 0

    def take(found: Sequence[_Found]) -> None:
        nonlocal done_bytes
        for index, key, facts in found:
            if facts is None:
                continue
            outcome.facts[index] = facts
            done_bytes += facts.raw_bytes
            if work.journal is not None and work.journal.find(key, facts.raw_bytes) is None:
                work.journal.add(key, facts)
        if work.journal is not None:
            work.journal.flush()
        if progress is not None:
            progress(done_bytes, total_bytes)

    if work.journal is not None and len(work.journal):
        for found in mapper(partial(_keys, order), _batches(work, work.chosen)):
            take([(index, key, _known(work.journal, work.chunks[index], key)) for index, key, _ in found])
    missing = [index for index in work.chosen if index not in outcome.facts]
    for found in mapper(partial(_compress, order), _batches(work, missing)):
        take(found)
    here = compress_all(replace(work, chosen=sorted(work.keep), journal=None), n_workers)
    _hold_together(here, outcome)
    return Outcome(outcome.facts, here.samples)


def _known(journal: ChunkJournal, chunk: ChunkRef, key: str) -> ChunkFacts | None:
    return journal.find(key, chunk.n_bytes)


def _batches(work: Work, chosen: Sequence[int]) -> Iterator[_Batch]:
    batch: list[tuple[int, ChunkRef]] = []
    n_bytes = 0
    for index in chosen:
        batch.append((index, work.chunks[index]))
        n_bytes += work.chunks[index].n_bytes
        if n_bytes >= BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _keys(order: Order, batch: _Batch) -> list[_Found]:
    """On a worker: what identifies the chunks."""
    _check(order)
    with WeightsReader(order.model) as source:
        return [(index, chunk_key(read_chunk(source, chunk), chunk.stream.dtype), None) for index, chunk in batch]


def _compress(order: Order, batch: _Batch) -> list[_Found]:
    """On a worker: the chunks' keys and sizes."""
    _check(order)
    codec = codecs.parse(order.codec)
    found: list[_Found] = []
    with WeightsReader(order.model) as source:
        for index, chunk in batch:
            raw = read_chunk(source, chunk)
            _, _, facts = compress_chunk_of(codec, chunk, raw)
            found.append((index, chunk_key(raw, chunk.stream.dtype), facts))
    return found


def _check(order: Order) -> None:
    """This worker has the files and the library of the machine that asks."""
    worker = f"worker on {platform.node()}"
    for file, n_bytes in zip(order.model.files, order.file_bytes, strict=True):
        here = _size(file, worker)
        if here != n_bytes:
            raise ModelFileError(
                f"{file} has {here} bytes for the {worker} and {n_bytes} where the profile was asked for",
                "give all workers the same file",
            )
    library = codecs.parse(order.codec).library_version
    if library != order.codec_library:
        raise UsageError(
            f"the {worker} has {library}, this machine {order.codec_library}: sizes may differ",
            "install the same versions everywhere, for example with constraints.txt",
        )


def _size(file: str, who: str) -> int:
    try:
        with open(file, "rb") as opened:
            return os.fstat(opened.fileno()).st_size
    except OSError as error:
        raise ModelFileError(
            f"{who} cannot open {file}: {error.strerror}",
            "every worker reads the model itself: put it under the same path everywhere, such as a shared folder",
        ) from None


def _hold_together(here: Outcome, there: Outcome) -> None:
    """What was compressed on both sides has one size."""
    for index, facts in here.facts.items():
        found = there.facts[index]
        if found.stored_bytes != facts.stored_bytes:
            raise ModelFileError(
                f"chunk {index} compresses to {found.stored_bytes} bytes on a worker and to {facts.stored_bytes} here",
                "their copy of the model is another one: give all workers the same file",
            )
