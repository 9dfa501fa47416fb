"""How fast one worker decompresses the reference, and how much several workers do together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import xxhash

from simio.codecs import parse
from simio.profiling.measure import Sample, measure_interleaved
from simio.profiling.reference import N_CHUNKS, reference_samples
from simio.units import MIB

#: Key of a device file → the codec that stands for it.
CODECS = {"lz4": "lz4:1", "zstd": "zstd:1", "brotli": "brotli:1"}
#: Standard deviation of the codes of the other reference: narrow enough for a codec that only finds repetitions.
NARROW_CODES = 2.0


def samples_of(codec_name: str) -> list[Sample]:
    """The reference compressed by ``codec_name``: simio's reference buffer, else INT8 codes that do shrink.

    LZ4 has no entropy coder: Gaussian BF16 does not shrink, and what does not shrink is stored raw. INT8 codes of a
    standard deviation of 2, as one outlier makes of a tensor with one scale, shrink to 0.81.
    """
    return reference_samples(codec_name) or _narrow_codes(codec_name)


def _narrow_codes(codec_name: str) -> list[Sample]:
    codec = parse(codec_name)
    codes = np.round(np.random.default_rng(0).normal(0.0, NARROW_CODES, N_CHUNKS * MIB)).astype(np.int8).tobytes()
    chunks = [codes[i * MIB : (i + 1) * MIB] for i in range(N_CHUNKS)]
    return [Sample(codec, codec.compress(chunk), len(chunk)) for chunk in chunks]


def rate(samples: Sequence[Sample], duration_s: float) -> float:
    """Rate of one worker over a round of about ``duration_s``, verifying as a run does. [bytes of output/s]"""
    alone = measure_interleaved([samples], duration_s=0.8 * duration_s)[0].median_bytes_per_s
    raw = bytes(max(sample.raw_bytes for sample in samples))
    n, begin_s = 0, time.perf_counter()
    while n == 0 or time.perf_counter() - begin_s < 0.2 * duration_s:
        n += sum(_verify(sample, raw) for sample in samples)
    return 1 / (1 / alone + (time.perf_counter() - begin_s) / n)


def work(samples: Sequence[Sample]) -> Callable[[int], int]:
    """Decompress one sample, by number; bytes done."""

    def decompress(number: int) -> int:
        sample = samples[number % len(samples)]
        return _verify(sample, sample.codec.decompress(sample.stored, sample.raw_bytes))

    return decompress


def _verify(sample: Sample, raw: bytes) -> int:
    """The checksums of a chunk before and after decompression, as a container's reader computes them; its bytes."""
    xxhash.xxh3_64_intdigest(sample.stored)
    xxhash.xxh3_64_intdigest(raw)
    return sample.raw_bytes
