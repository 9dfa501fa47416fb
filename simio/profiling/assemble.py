"""Put what was measured per chunk together into a ``CodecProfile``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from simio.codecs.base import Codec
from simio.profiling.chunking import ChunkRef
from simio.profiling.compressing import Outcome
from simio.profiling.host import host_facts
from simio.profiling.measure import measure_interleaved
from simio.profiling.peek import DECIMALS
from simio.profiling.reference import reference_samples
from simio.profiling.sampling import Strata, extrapolate
from simio.records.codec_profile import CodecProfile, Rate, TensorCompression
from simio.records.model import Model


@dataclass(frozen=True, slots=True)
class Choice:
    """The chunks to compress; for a sample also its strata and the entropy of every chunk [bits/byte]."""

    chosen: Sequence[int]
    strata: Strata = field(default_factory=dict)
    entropies: Sequence[float] = ()

    @property
    def is_sample(self) -> bool:
        """Whether sizes of other chunks are to be extrapolated."""
        return bool(self.strata)


@dataclass(frozen=True, slots=True)
class Task:
    """One profile to make: the model cut into ``chunks`` of at most ``chunk_bytes``, and the codec."""

    model: Model
    codec: Codec
    chunk_bytes: int
    chunks: list[ChunkRef]


def assemble(task: Task, choice: Choice, outcome: Outcome) -> CodecProfile:
    """The profile; measures the decompression rate on the chunks that ``outcome`` kept."""
    facts, everything = outcome.facts, range(len(task.chunks))
    if choice.is_sample:
        stored, interval = _extrapolated(task, choice, outcome)
        entropies = choice.entropies
    else:
        stored, interval = [facts[i].stored_bytes for i in everything], None
        entropies = [facts[i].entropy for i in everything]
    rate, reference = _rates(task.codec, outcome)
    return CodecProfile(
        model=task.model,
        codec=task.codec.name,
        chunk_bytes=task.chunk_bytes,
        basis="sampled" if choice.is_sample else "measured",
        tensors=_tensors(task, stored, entropies, set(facts)),
        decompress=rate,
        reference=reference,
        host=host_facts(task.codec.library_version),
        ratio_interval=interval,
    )


def _extrapolated(task: Task, choice: Choice, outcome: Outcome) -> tuple[list[int], tuple[float, float]]:
    """Stored bytes per chunk, and the 95 % interval of raw/stored."""
    raw = [chunk.n_bytes for chunk in task.chunks]
    estimate = extrapolate(choice.strata, raw, {i: f.stored_bytes for i, f in outcome.facts.items()})
    stored, half = sum(estimate.stored_bytes), estimate.half_width_bytes
    return estimate.stored_bytes, (max(1.0, sum(raw) / max(1.0, stored + half)), sum(raw) / max(1.0, stored - half))


def _rates(codec: Codec, outcome: Outcome) -> tuple[Rate | None, Rate | None]:
    """The decompression rate of these weights, and of the reference measured in turns with it; None where not known."""
    samples = [outcome.samples[index] for index in sorted(outcome.samples)]
    if not samples:
        return None, None
    reference = reference_samples(codec.name)
    if not reference:
        return measure_interleaved([samples])[0], None
    own, other = measure_interleaved([samples, reference])
    return own, other


def _tensors(
    task: Task, stored: Sequence[int], entropies: Sequence[float], compressed: set[int]
) -> tuple[TensorCompression, ...]:
    members: list[list[int]] = [[] for _ in task.model.tensors]
    for index, chunk in enumerate(task.chunks):
        members[chunk.tensor].append(index)
    return tuple(
        TensorCompression(
            tensor=tensor.name,
            raw_bytes=tuple(task.chunks[i].n_bytes for i in indices),
            stored_bytes=tuple(stored[i] for i in indices),
            entropy_bits_per_byte=_mean([(entropies[i], task.chunks[i].n_bytes) for i in indices]),
            basis="measured" if compressed.issuperset(indices) else "sampled",
        )
        for tensor, indices in zip(task.model.tensors, members, strict=True)
    )


def _mean(weighted: Sequence[tuple[float, int]]) -> float:
    """Mean of values weighted by bytes."""
    n_bytes = sum(weight for _, weight in weighted)
    return round(sum(value * weight for value, weight in weighted) / n_bytes, DECIMALS) if n_bytes else 0.0
