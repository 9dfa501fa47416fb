"""The reference buffer: what the decompression rates of device files refer to.

How fast weights decompress depends on the weights as much as on the core, and a profile is seldom made on the device it
is asked about. So a profile also measures its codec, without filters, on a buffer that is the same everywhere: BF16
values of a Gaussian (σ = 0.02), whose bytes compress like trained BF16 weights (1.28 under zstd). The ratio of the two
rates travels; the device file says how fast its cores are on the reference.
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
    """The reference buffer compressed by the codec at the heart of ``codec_name``; empty where it does not shrink."""
    codec = parse(plain_codec(codec_name))
    values = np.random.default_rng(0).normal(0.0, 0.02, N_CHUNKS * MIB // 2).astype(np.float32)
    bf16 = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    chunks = [bf16[i * MIB : (i + 1) * MIB] for i in range(N_CHUNKS)]
    samples = [Sample(codec, compress_chunk(codec, chunk), len(chunk)) for chunk in chunks]
    return [sample for sample in samples if len(sample.stored) < sample.raw_bytes]
