"""Uniform integer layouts, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from simio.errors import UsageError
from simio.quant.packing import pack, unpack
from simio.quant.uniform import Uniform, int4, int8


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_symmetric_int8_maps_the_absmax_to_127():
    streams = Uniform(8, "tensor").quantize(row(-2.54, 1.27, 0, 0.013))
    assert streams["codes"].view(np.int8).tolist() == [-127, 64, 0, 1]  # 1.27 / 0.02 = 63.5 rounds to even
    assert streams["scales"].tolist() == pytest.approx([0.02])


def test_symmetric_int4_has_codes_from_1_to_15():
    streams = Uniform(4, "channel").quantize(row(-7, -1, 0, 7))
    assert unpack(streams["codes"], 4, 4).tolist() == [1, 7, 8, 15]


def test_affine_keeps_the_ends_of_the_range():
    q = Uniform(2, "channel", "affine")
    streams = q.quantize(row(1, 2, 3, 4))
    assert unpack(streams["codes"], 2, 4).tolist() == [0, 1, 2, 3]
    assert (streams["mins"].tolist(), streams["scales"].tolist()) == ([1.0], [1.0])
    assert q.dequantize(streams, (1, 4)).tolist() == [[1, 2, 3, 4]]


def test_zero_rule_stores_the_code_of_zero():
    q = Uniform(4, "channel", "zero")
    streams = q.quantize(row(-5, 0, 3, 10))
    assert unpack(streams["zeros"], 4, 1).tolist() == [5]
    assert unpack(streams["codes"], 4, 4).tolist() == [0, 5, 8, 15]
    assert q.dequantize(streams, (1, 4)).tolist() == [[-5, 0, 3, 10]]


def test_every_group_has_its_own_scale():
    streams = Uniform(8, 2).quantize(row(127, 1, 1.27, 0.01))
    assert streams["codes"].view(np.int8).tolist() == [127, 1, 127, 1]


def test_error_is_at_most_half_a_step_everywhere():
    w = np.random.default_rng(3).standard_normal((8, 256)).astype(np.float32)
    for bits in (2, 3, 4, 8):
        for rule in ("sym", "affine", "zero"):
            q = Uniform(bits, 64, rule)
            streams = q.quantize(w)
            step = np.repeat(streams["scales"].astype(np.float32), 64).reshape(w.shape)
            # FP16 rounds scale and minimum by 2^-11: at most 2^(b-1) codes and the minimum away
            slack = 2.0**-11 * ((1 << bits) * step + 4)
            limit = (1.0 if rule == "zero" else 0.5) * step + slack
            assert (np.abs(q.dequantize(streams, w.shape) - w) <= limit).all(), (bits, rule)


def test_gptq_sizes_are_those_of_the_checkpoint():
    # 128 codes of 4 bits, an FP16 scale and a 4-bit zero point: 64 + 2 + 0.5 bytes
    assert Uniform(4, 128, "zero").bits_per_weight((256, 256)) == 8 * 66.5 / 128


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packing_comes_back(bits):
    codes = np.random.default_rng(0).integers(0, 1 << bits, 1001).astype(np.uint8)
    assert np.array_equal(unpack(pack(codes, bits), bits, codes.size), codes)


def test_three_bit_codes_run_on_across_bytes():
    # 1 | 2 << 3 | 3 << 6 = 0xd1, the ninth bit opens the second byte
    assert pack(np.array([1, 2, 3], np.uint8), 3).tolist() == [0xD1, 0x00]
    assert pack(np.array([0, 0, 7], np.uint8), 3).tolist() == [0xC0, 0x01]


@pytest.mark.parametrize("options", ["group0", "group1", "row", "group", "group-4", "tensor:clip", "channel:affine:x"])
def test_malformed_options_are_refused(options):
    with pytest.raises(UsageError):
        int8(options)


def test_a_name_reads_back():
    for options in ("tensor", "channel", "group64", "group128:affine", "channel:zero"):
        q = int4(options)
        assert int4(q.name.removeprefix("int4:")) == q


def test_no_granularity_means_the_whole_tensor():
    assert int8("") == Uniform(8, "tensor", "sym")


def test_other_widths_are_refused():
    with pytest.raises(UsageError, match="int7"):
        Uniform(7)
