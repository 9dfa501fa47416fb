"""How fast one worker decompresses the reference, and how much several workers do together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

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
    """Rate of one worker over a round of about ``duration_s``. [bytes of output/s]"""
    return measure_interleaved([samples], duration_s=duration_s)[0].median_bytes_per_s


def work(samples: Sequence[Sample]) -> Callable[[int], int]:
    """Decompress one sample, by number; bytes done."""

    def decompress(number: int) -> int:
        sample = samples[number % len(samples)]
        sample.codec.decompress(sample.stored, sample.raw_bytes)
        return sample.raw_bytes

    return decompress
