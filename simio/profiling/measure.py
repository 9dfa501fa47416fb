"""How fast one thread decompresses, measured honestly.

The working set is real compressed chunks of the model. It is decompressed once to warm up, then in timed rounds; when
several working sets are measured, each round runs all of them in a new random order, so that a slow spell of the
machine hits them alike. Reported are the median and the quartiles over rounds, in bytes of output per second.

Chunks that are stored raw are left out: the runtime never decompresses them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from simio.codecs.base import Buffer, Codec
from simio.errors import UsageError
from simio.profiling.memory import keep_freed_memory
from simio.records.codec_profile import Rate

_MIN_ROUNDS = 7
_MAX_ROUNDS = 60
_MIN_ROUND_S = 0.02


class Decompressor(Protocol):
    """Gives back a chunk: a codec set up for its layout, or a reader of containers."""

    def decompress(self, stored: Buffer, raw_bytes: int) -> bytes:
        """The ``raw_bytes`` bytes behind ``stored``."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One compressed chunk and what decompresses it."""

    codec: Decompressor
    stored: bytes
    raw_bytes: int


def measure_decompression(samples: Sequence[tuple[bytes, int]], codec: Codec, *, duration_s: float = 1.5) -> Rate:
    """Rate of ``codec`` over ``samples`` (stored, raw_bytes). [bytes of output/s, one thread]

    Raises ``UsageError`` when no sample is compressed, ``ModelFileError`` on damage.
    """
    working_set = [Sample(codec, stored, raw_bytes) for stored, raw_bytes in samples]
    return measure_interleaved([working_set], duration_s=duration_s)[0]


def measure_interleaved(
    working_sets: Sequence[Sequence[Sample]], *, duration_s: float = 1.5, seed: int = 0
) -> list[Rate]:
    """The rates of several working sets, measured in turns. ``duration_s`` is the time for each of them. [s]"""
    compressed = [[s for s in samples if len(s.stored) < s.raw_bytes] for samples in working_sets]
    if not all(compressed):
        raise UsageError("nothing to decompress: every chunk is stored raw", "measure a codec that shrinks the model")
    keep_freed_memory()
    order = list(range(len(compressed)))
    warm_s = max(_pass_s(samples) for samples in compressed for _ in range(2))
    n_passes = [max(1, round(_MIN_ROUND_S / max(1e-9, _pass_s(samples)))) for samples in compressed]
    n_rounds = min(_MAX_ROUNDS, max(_MIN_ROUNDS, round(duration_s / max(_MIN_ROUND_S, warm_s))))
    rng, rates = random.Random(seed), [[] for _ in order]  # type: tuple[random.Random, list[list[float]]]
    for _ in range(n_rounds):
        rng.shuffle(order)
        for i in order:
            elapsed_s = sum(_pass_s(compressed[i]) for _ in range(n_passes[i]))
            rates[i].append(n_passes[i] * sum(s.raw_bytes for s in compressed[i]) / elapsed_s)
    return [_summary(values) for values in rates]


def _pass_s(samples: Sequence[Sample]) -> float:
    """Time to decompress every sample once. [s]"""
    start_s = time.perf_counter()
    for sample in samples:
        sample.codec.decompress(sample.stored, sample.raw_bytes)
    return time.perf_counter() - start_s


def _summary(rates: Sequence[float]) -> Rate:
    low, median, high = statistics.quantiles(rates, n=4, method="inclusive")
    return Rate(median, low, high, len(rates))
