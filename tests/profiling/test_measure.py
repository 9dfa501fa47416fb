"""Measuring decompression: what is timed and what is left out. No rate is asserted."""

import numpy as np
import pytest

from simio.codecs import parse
from simio.codecs.chunk import compress_chunk
from simio.errors import ModelFileError, UsageError
from simio.profiling.measure import Sample, measure_decompression, measure_interleaved
from simio.profiling.profiler import profile
from simio.profiling.reference import reference_samples

ZSTD = parse("zstd:1")
RAW = bytes(1000) * 20
NOISE = np.random.default_rng(0).bytes(5000)


def test_a_rate_has_ordered_quartiles_over_its_rounds():
    rate = measure_decompression([(ZSTD.compress(RAW), len(RAW))] * 3, ZSTD, duration_s=0.05)
    assert 0 < rate.low_bytes_per_s <= rate.median_bytes_per_s <= rate.high_bytes_per_s
    assert rate.n >= 7


def test_chunks_stored_raw_are_not_decompressed():
    samples = [(ZSTD.compress(RAW), len(RAW)), (compress_chunk(ZSTD, NOISE), len(NOISE))]
    assert measure_decompression(samples, ZSTD, duration_s=0.01).median_bytes_per_s > 0


def test_nothing_compressed_is_nothing_to_measure():
    with pytest.raises(UsageError, match="nothing to decompress"):
        measure_decompression([(NOISE, len(NOISE))], ZSTD)


def test_working_sets_are_measured_in_turns():
    order = []

    class Spy:
        def __init__(self, label):
            self.label = label

        def decompress(self, stored, raw_bytes):
            order.append(self.label)

    sets = [[Sample(Spy(label), b"x", 1000)] for label in "ab"]
    rates = measure_interleaved(sets, duration_s=0.001)
    assert len(rates) == 2
    middle = "".join(order[len(order) // 4 :])
    assert middle.count("ab") + middle.count("ba") >= 3  # neither runs all its rounds first


def test_damaged_samples_are_reported():
    with pytest.raises(ModelFileError, match="damaged"):
        measure_decompression([(b"not zstd", 100)], ZSTD)


def test_a_profile_measures_its_codec_on_the_reference_too(model):
    found = profile(model, parse("zstd:1"))
    assert found.reference is not None
    assert found.reference.n == found.decompress.n  # measured in the same rounds


def test_the_reference_compresses_like_trained_bf16_weights():
    samples = reference_samples("byteplane(zstd:1)")
    ratio = sum(s.raw_bytes for s in samples) / sum(len(s.stored) for s in samples)
    assert ratio == pytest.approx(1.28, abs=0.02)


def test_a_codec_without_an_entropy_coder_has_narrow_codes_for_a_reference():
    samples = reference_samples("lz4:1")
    assert sum(len(s.stored) for s in samples) / sum(s.raw_bytes for s in samples) == pytest.approx(0.81, abs=0.02)
    assert reference_samples("raw") == []
