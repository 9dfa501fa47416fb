"""How fast one worker decompresses the reference, verifying as a run does, and how much several workers do together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simio.container.profile import verified
from simio.profiling.measure import Sample, measure_interleaved
from simio.profiling.reference import reference_samples

#: Key of a device file → the codec that stands for it.
CODECS = {"lz4": "lz4:1", "zstd": "zstd:1", "brotli": "brotli:1"}


def samples_of(codec_name: str) -> list[Sample]:
    """The reference compressed by ``codec_name``, decompressed with a container's checksums."""
    return verified(reference_samples(codec_name))


def rate(samples: Sequence[Sample], duration_s: float) -> float:
    """Rate of one worker over a round of about ``duration_s``. [bytes of output/s]"""
    return measure_interleaved([samples], duration_s=duration_s)[0].median_bytes_per_s


def work(samples: Sequence[Sample]) -> Callable[[int], int]:
    """Decompress one sample, by number; bytes done."""

    def decompress(number: int) -> int:
        sample = samples[number % len(samples)]
        return len(sample.codec.decompress(sample.stored, sample.raw_bytes))

    return decompress
