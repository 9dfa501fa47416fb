"""The reference buffer: what the decompression rates of device files refer to.

How fast weights decompress depends on the weights as much as on the core, and a profile is seldom made on the device it
is asked about. So a profile also measures its codec, without filters, on a buffer that is the same everywhere: BF16
values of a Gaussian (σ = 0.02), whose bytes compress like trained BF16 weights (1.28 under zstd). The ratio of the two
rates travels; the device file says how fast its cores are on the reference. For codecs without an entropy coder (LZ4),
which find nothing there, it is INT8 codes of a Gaussian with σ = 2, as one outlier makes of a tensor with one scale:
they shrink to 0.81.
"""

from __future__ import annotations

import numpy as np

from simio.codecs import parse
from simio.codecs.chunk import compress_chunk
from simio.profiling.measure import Sample
from simio.records.codec_profile import plain_codec
from simio.units import MIB

N_CHUNKS = 8


def reference_samples(codec_name: str) -> list[Sample]:
    """The reference buffer compressed by the codec at the heart of ``codec_name``; empty where nothing shrinks."""
    codec = parse(plain_codec(codec_name))
    for buffer in (_bf16, _narrow_codes):
        data = buffer()
        chunks = [data[i * MIB : (i + 1) * MIB] for i in range(N_CHUNKS)]
        samples = [Sample(codec, compress_chunk(codec, chunk), len(chunk)) for chunk in chunks]
        shrunk = [sample for sample in samples if len(sample.stored) < sample.raw_bytes]
        if shrunk:
            return shrunk
    return []


def _bf16() -> bytes:
    values = np.random.default_rng(0).normal(0.0, 0.02, N_CHUNKS * MIB // 2).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def _narrow_codes() -> bytes:
    return np.round(np.random.default_rng(0).normal(0.0, 2.0, N_CHUNKS * MIB)).astype(np.int8).tobytes()
