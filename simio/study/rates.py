"""How fast one thread decompresses what a layout stores, on rows from the largest matrix of each role.

All codecs of one layout are measured in turns, with the reference buffer of each, so that their ratio travels to
devices (``simio.profiling.reference``). A codec that no device file knows travels as its rate ÷ that of zstd there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk
from simio.errors import UsageError
from simio.profiling.chunking import WeightsSource
from simio.profiling.measure import Sample, measure_interleaved
from simio.profiling.reference import reference_samples
from simio.quant.contract import Activations, Quantizer
from simio.records.codec_profile import Rate, plain_codec
from simio.records.compressibility import Decompression
from simio.service_times import base_codec
from simio.study.quantizing import Surveyed, set_up
from simio.study.tally import Chunks, stream_layout

#: Weights taken from each of at most so many roles.
SAMPLE_WEIGHTS = 1 << 20
N_ROLES = 4
#: Time for the rounds of one codec. [s]
DURATION_S = 0.2

#: Codecs that device files have rates of.
ANCHORS = ("brotli", "lz4", "zstd")
_OTHERS = "zstd:1"


@dataclass(slots=True)
class References:
    """The reference buffers compressed, made when first asked for."""

    made: dict[str, list[Sample]]

    def of(self, codec: Codec) -> list[Sample]:
        """What the rate of ``codec`` is held against; empty where nothing shrinks."""
        text = reference_of(codec)
        if text not in self.made:
            self.made[text] = reference_samples(text)
        return self.made[text]


def reference_of(codec: Codec) -> str:
    """The codec, without filters, that device files anchor ``codec`` to."""
    return plain_codec(codec.name) if base_codec(codec.name) in ANCHORS else _OTHERS


def sampled(matrices: Sequence[Surveyed]) -> list[Surveyed]:
    """The largest matrix of each of the roles with the most weights."""
    by_role: dict[str, list[Surveyed]] = {}
    for surveyed in matrices:
        by_role.setdefault(surveyed.matrix.tensor.role, []).append(surveyed)
    roles = sorted(by_role.values(), key=lambda found: -sum(s.matrix.n_weights for s in found))
    return [max(found, key=lambda s: s.matrix.n_weights) for found in roles[:N_ROLES]]


def measure(
    quantizer: Quantizer,
    codecs: Sequence[Codec],
    matrices: Sequence[Surveyed],
    chunk_bytes: int,
    source: WeightsSource,
    inputs: Mapping[str, Activations],
    references: References,
) -> dict[str, Decompression | None]:
    """The rates by codec; nothing for a codec under which no chunk shrinks. ``inputs`` by tensor, where known."""
    samples = _samples(quantizer, codecs, matrices, chunk_bytes, source, inputs)
    shrunk = {codec.name: codec for codec in codecs if samples[codec.name]}
    sets: dict[str, Sequence[Sample]] = {name: samples[name] for name in shrunk}
    for codec in shrunk.values():
        if reference := references.of(codec):
            sets[f"reference {reference_of(codec)}"] = reference
    if not sets:
        return dict.fromkeys(samples)
    rates = dict(zip(sets, measure_interleaved(list(sets.values()), duration_s=DURATION_S), strict=True))
    return {codec.name: _decompression(codec, rates) if codec.name in shrunk else None for codec in codecs}


def _decompression(codec: Codec, rates: dict[str, Rate]) -> Decompression:
    own, text = rates[codec.name], reference_of(codec)
    reference = rates.get(f"reference {text}")
    relative = own.median_bytes_per_s / reference.median_bytes_per_s if reference else 1.0
    return Decompression(own, base_codec(text), relative)


def _samples(
    quantizer: Quantizer,
    codecs: Sequence[Codec],
    matrices: Sequence[Surveyed],
    chunk_bytes: int,
    source: WeightsSource,
    inputs: Mapping[str, Activations],
) -> dict[str, list[Sample]]:
    """Chunks that shrank, by codec."""
    found: dict[str, list[Sample]] = {codec.name: [] for codec in codecs}
    for surveyed in matrices:
        runs = surveyed.matrix.runs(SAMPLE_WEIGHTS)
        w = surveyed.matrix.read(source, *runs[len(runs) // 2])
        try:
            streams = set_up(quantizer, surveyed, inputs.get(surveyed.matrix.tensor.name)).quantize(w)
        except UsageError:
            continue  # a matrix that this layout leaves as it is
        for key, stream in streams.items():
            layout = stream_layout(quantizer, key, stream)
            chunks = Chunks(layout, chunk_bytes)
            for raw in [*map(bytes, chunks.add(stream.view(np.uint8).data)), *chunks.end()]:
                for codec in codecs:
                    set_for = codec.for_layout(layout)
                    stored = compress_chunk(set_for, raw)
                    if len(stored) < len(raw):
                        found[codec.name].append(Sample(set_for, stored, len(raw)))
    return found
