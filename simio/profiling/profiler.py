"""Profile a model under a codec: compressed size of every chunk, decompression rate, entropy bound."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from simio.cluster import workers
from simio.codecs.base import Codec
from simio.errors import UsageError
from simio.formats.weights import WeightsReader
from simio.profiling.assemble import Choice, Task, assemble
from simio.profiling.cache import ProfileCache, ProfileKey
from simio.profiling.chunking import ChunkRef, WeightsSource, cut
from simio.profiling.compressing import Progress, Work, compress_all
from simio.profiling.host import n_usable_cpus
from simio.profiling.journal import ChunkJournal
from simio.profiling.on_cluster import compress_on
from simio.profiling.peek import peek_entropies
from simio.profiling.sampling import Strata, draw, stratify
from simio.records.codec_profile import CodecProfile
from simio.records.model import Model
from simio.units import MB, MIB

#: How much of the model, compressed, the decompression rate is measured on. [bytes of output]
WORKING_SET_BYTES = 64 * MB


def profile(
    model: Model,
    codec: Codec,
    *,
    chunk_bytes: int = MIB,
    sample: float | None = None,
    seed: int = 0,
    n_workers: int | None = None,
    progress: Progress | None = None,
    cache: ProfileCache | None = None,
    scheduler: str | None = None,
) -> CodecProfile:
    """Compress the chunks of ``model`` with ``codec`` on ``n_workers`` threads and measure decompression on one.

    ``sample`` (0 to 1) draws that share of each stratum of chunks (seeded by ``seed``) and extrapolates the others;
    ``ratio_interval`` is then the 95 % interval of the ratio. With ``cache``, a finished profile returns at once and
    an interrupted one resumes. With ``scheduler`` (see ``cluster.workers``) the chunks are compressed by the workers of
    a Dask cluster, which need the model under the same path, and rates are measured on this machine alone; the profile
    is the same. ``progress(done_bytes, total_bytes)`` is called from this thread, about ten times a
    second.

    Raises ``UsageError`` for a preset, an option out of range or a scheduler that does not answer, ``ModelFileError``
    when weights cannot be read, ``WriteError`` when the cache cannot be written.
    """
    _check(sample, n_workers)
    task = Task(model, codec, chunk_bytes, cut(model, chunk_bytes))
    sample = None if sample == 1 else sample
    key = ProfileKey(model, codec, chunk_bytes, sample, seed)
    if cache is not None and (found := cache.find(key)) is not None:
        if progress is not None:
            progress(found.raw_bytes, found.raw_bytes)
        return found
    n_workers = n_workers or n_usable_cpus()
    with WeightsReader(model) as source, _journal(cache, codec) as journal:
        choice = _choose(task, source, n_workers, sample, seed)
        keep = _working_set(task.chunks, choice.chosen, seed)
        work = Work(source, codec, task.chunks, choice.chosen, keep, journal)
        if scheduler is None:
            outcome = compress_all(work, n_workers, progress)
        else:
            with workers(scheduler, n_workers) as mapper:
                outcome = compress_on(mapper, model, work, n_workers, progress)
    result = assemble(task, choice, outcome)
    if cache is not None:
        cache.store(key, result)
    return result


def _check(sample: float | None, n_workers: int | None) -> None:
    if sample is not None and not (math.isfinite(sample) and 0 < sample <= 1):
        raise UsageError(f"cannot sample {sample:g} of the chunks", "give a share above 0 and up to 1, such as 1%")
    if n_workers is not None and n_workers < 1:
        raise UsageError(f"cannot profile with {n_workers} workers", "leave it out to use every core")


def _journal(cache: ProfileCache | None, codec: Codec) -> AbstractContextManager[ChunkJournal | None]:
    return nullcontext() if cache is None else cache.journal(codec)


def _choose(task: Task, source: WeightsSource, n_workers: int, sample: float | None, seed: int) -> Choice:
    if sample is None:
        return Choice(range(len(task.chunks)))
    entropies = peek_entropies(source, task.codec, task.chunks, n_workers)
    strata = stratify(task.model, task.chunks, entropies)
    return Choice(draw(strata, sample, seed), strata, entropies)


def _working_set(chunks: Sequence[ChunkRef], chosen: Sequence[int], seed: int) -> frozenset[int]:
    """About ``WORKING_SET_BYTES`` of the chosen chunks, the same share of each stream type, to measure rates with."""
    by_type: Strata = defaultdict(list)
    for index in chosen:
        by_type[chunks[index].stream.dtype].append(index)
    share = WORKING_SET_BYTES / max(1, sum(chunks[i].n_bytes for i in chosen))
    return frozenset(draw(by_type, min(1.0, share), seed, at_least=1))
