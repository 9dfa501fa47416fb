"""What a container says about compression: exact sizes from its index, the decompression rate measured on its chunks.

Unlike a profile made from a model file, whose codec is run for the purpose, this one is of the very bytes that would be
read, checksums included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from simio import paths
from simio.codecs import parse
from simio.codecs.base import Buffer
from simio.container.model_format import FORMAT
from simio.container.reading import Container
from simio.container.residency import tensor_plan
from simio.errors import ProfileError, WriteError
from simio.profiling import profile_file
from simio.profiling.host import cpu_name, host_facts
from simio.profiling.measure import Decompressor, Sample, measure_interleaved
from simio.profiling.reference import reference_samples
from simio.records.codec_profile import CodecProfile, Rate, TensorCompression

#: Chunks the decompression rate is measured on.
N_SAMPLES = 32


def profile_of_container(path: Path) -> CodecProfile:
    """The profile of the container at ``path``; its decompression rate is measured once per host and remembered.

    Raises ``ContainerError`` for a damaged container.
    """
    with Container.open(path) as container:
        model = replace(container.model, format=FORMAT, files=(str(path),))
        known = _remembered(container)
        if known is not None:
            return replace(known, model=model)
        measured = replace(_measure(container), model=model)
        try:
            known_at = _place(container)
            known_at.parent.mkdir(parents=True, exist_ok=True)
            profile_file.save(measured, known_at)
        except (OSError, WriteError):  # a cache that cannot be written costs time, not the answer
            return measured
        return measured


def sizes_of_container(container: Container) -> CodecProfile:
    """The profile of an open container without decompression rates: nothing of its payload is read."""
    codec = _main_codec(container)
    return CodecProfile(
        model=container.model,
        codec=codec,
        chunk_bytes=container.index.chunk_bytes,
        basis="packed",
        tensors=tuple(_sizes(container, tensor.name) for tensor in container.model.tensors),
        decompress=None,
        host=host_facts(parse(codec).library_version),
        plan=tensor_plan(container),
    )


def _measure(container: Container) -> CodecProfile:
    sizes = sizes_of_container(container)
    rate, reference = _rates(container, sizes.codec)
    return replace(sizes, decompress=rate, reference=reference)


def _main_codec(container: Container) -> str:
    """The codec of most bytes that tokens decompress; ``raw`` only where no tensor is compressed."""
    raw_bytes: Counter[str] = Counter()
    for chunk in map(container.chunk, _decompressed(container)):
        raw_bytes[container.index.codecs[chunk.codec][0]] += chunk.raw_bytes
    return raw_bytes.most_common(1)[0][0] if raw_bytes else "raw"


def _decompressed(container: Container) -> list[int]:
    """The compressed chunks that tokens decompress: of tensors that no plan holds decompressed, if there are any."""
    codecs = container.index.table["codec"].tolist()
    places = dict(enumerate(container.index.residency))
    found: dict[bool, list[int]] = {False: [], True: []}
    for piece in container.index.pieces:
        if piece.tensor is not None:
            is_held = places.get(piece.tensor) == "ram"
            found[is_held] += [number for number in container.chunks_of(piece) if codecs[number]]
    return found[False] or found[True]


def _sizes(container: Container, tensor: str) -> TensorCompression:
    numbers = [number for piece in container.pieces_of(tensor) for number in container.chunks_of(piece)]
    table = container.index.table[numbers]
    return TensorCompression(
        tensor, tuple(table["raw_bytes"].tolist()), tuple(table["stored_bytes"].tolist()), 0.0, "packed"
    )


@dataclass(frozen=True, slots=True)
class _Unpacking:
    """Decompression of one chunk as the runtime does it, checksums included."""

    container: Container
    number: int

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The weights of the chunk."""
        return self.container.unpack_chunk(self.number, stored)


def _rates(container: Container, codec: str) -> tuple[Rate | None, Rate | None]:
    """The rate of these chunks, and of the reference measured in turns with it; None where nothing gets smaller."""
    table = container.index.table
    compressed = [n for n in _decompressed(container) if container.stored_span(n)[1] < table["raw_bytes"][n]]
    if not compressed:
        return None, None
    chosen = compressed[:: -(-len(compressed) // N_SAMPLES)]
    samples = [_sample(container, number) for number in chosen]
    reference = verified(reference_samples(codec))
    rates = measure_interleaved([samples, reference] if reference else [samples], duration_s=0.5)
    return rates[0], rates[1] if reference else None


@dataclass(frozen=True, slots=True)
class _Verifying:
    """A decompressor with the checksums that a container's reader computes before and after."""

    inner: Decompressor

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The raw bytes."""
        xxhash.xxh3_64_intdigest(stored)
        raw = self.inner.decompress(stored, raw_bytes)
        xxhash.xxh3_64_intdigest(raw)
        return raw


def verified(samples: Iterable[Sample]) -> list[Sample]:
    """``samples`` decompressed as from a container: that is the rate a runtime meets."""
    return [replace(sample, codec=_Verifying(sample.codec)) for sample in samples]


def _sample(container: Container, number: int) -> Sample:
    chunk = container.chunk(number)
    return Sample(_Unpacking(container, number), container.read_span(number), chunk.raw_bytes)


def _place(container: Container) -> Path:
    identity = xxhash.xxh3_64_hexdigest(f"{container.header.index_xxh3}|{cpu_name()}".encode())
    return paths.cache_dir() / "containers" / f"{identity}{profile_file.SUFFIX}"


def _remembered(container: Container) -> CodecProfile | None:
    try:
        return profile_file.load(_place(container))
    except ProfileError:
        return None
