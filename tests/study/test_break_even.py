"""The break-even is a minimum of two rates, and its verdict a threshold."""

from dataclasses import replace

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from simio.analytic.break_even import pipelined_gain, serial_gain
from simio.predict.suggest import LEAST_GAIN
from simio.records.codec_profile import Rate
from simio.records.compressibility import Decompression, Sizes
from simio.study.break_even import break_even, verdict

rates = st.floats(1e6, 1e12)
ratios = st.floats(1.0, 20.0)
shares = st.floats(0.01, 1.0)


@given(ratios, shares, rates, rates)
def test_the_gains_are_the_times_of_the_two_stages(ratio, share, decompress, storage):
    raw_s, read_s, decompress_s = 1 / storage, 1 / (ratio * storage), share / decompress
    assert pipelined_gain(ratio, share, decompress, storage) == pytest.approx(raw_s / max(read_s, decompress_s))
    assert serial_gain(ratio, share, decompress, storage) == pytest.approx(raw_s / (read_s + decompress_s))


@given(ratios, rates, rates)
def test_a_pipeline_pays_only_where_decompression_is_faster_than_storage(ratio, decompress, storage):
    gain = pipelined_gain(ratio, 1.0, decompress, storage)
    assert gain <= min(ratio, decompress / storage)
    assert (gain > 1) == (ratio > 1 and decompress > storage)


@pytest.mark.parametrize(("ratio", "needed"), [(1.04, 26), (1.12, 9.33), (1.2, 6), (1.27, 4.70), (1.5, 3), (2.0, 2)])
def test_in_series_decompression_must_be_faster_by_what_the_literature_says(ratio, needed):
    assert serial_gain(ratio, 1.0, needed * 1e9, 1e9) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("gain", "says"),
    [(1.42, "pays 1.42×"), (LEAST_GAIN, "pays 1.02×"), (LEAST_GAIN - 1e-6, "below noise"), (1.0, "do not bother"),
     (0.5, "do not bother")],
)  # fmt: skip
def test_verdicts(gain, says):
    assert verdict(gain) == says


SIZES = Sizes(n_weights=800, raw_bytes=800, stored_bytes=400, compressed_bytes=800, bound_bytes=390, entropy_bits=3.9)
ZSTD = Decompression(Rate(1e9, 1e9, 1e9, 7), "zstd", 1.5)


def test_a_device_brings_its_read_curve_and_its_spare_cores():
    # three of four cores are spare, each decompresses 1.5 GB/s of these weights: 4.5 GB/s for 2 GB/s of storage
    worth = break_even(tiny.device(bandwidth=2e9, latency_s=0, decompress=1e9), SIZES, ZSTD)
    assert worth.storage_bytes_per_s == pytest.approx(2e9)
    assert worth.decompress_bytes_per_s == pytest.approx(4.5e9)
    assert (worth.gain, worth.verdict) == (2.0, "pays 2.00×")


def test_half_of_the_bytes_stored_raw_halve_the_work():
    device = tiny.device(bandwidth=5e9, latency_s=0, decompress=1e9)
    assert break_even(device, SIZES, ZSTD).gain == pytest.approx(0.9)
    assert break_even(device, replace(SIZES, compressed_bytes=400), ZSTD).gain == pytest.approx(1.8)


def test_nothing_that_shrinks_is_not_worth_the_bother():
    worth = break_even(tiny.device(), replace(SIZES, stored_bytes=800, compressed_bytes=0), None)
    assert (worth.gain, worth.serial_gain, worth.verdict) == (1.0, 1.0, "do not bother")


def test_what_shrank_without_a_measured_rate_is_not_judged():
    worth = break_even(tiny.device(), SIZES, None)
    assert (worth.gain, worth.decompress_bytes_per_s, worth.verdict) == (1.0, None, "not measured")


def test_a_device_without_a_rate_of_the_codec_is_not_judged():
    assert break_even(tiny.device(), SIZES, replace(ZSTD, anchor="brotli")).verdict == "not known"
