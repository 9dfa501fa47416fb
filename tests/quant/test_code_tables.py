"""Codes and levels of NF4, FP4, NVFP4, MXFP4, powers of two and power laws against what is published."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from reference_levels import E2M1, NF4

from simio import quant
from simio.quant.minifloat import E2M1 as FP4
from simio.quant.nf4 import LEVELS, dynamic_levels
from simio.quant.packing import pack


def decoded(name: str, codes: list[int], **streams: np.ndarray) -> list[float]:
    """What ``codes`` of one row stand for."""
    layout = quant.parse(name)
    bits = int(name[5]) if name.startswith(("shift", "power")) else 4
    packed = pack(np.array(codes, np.uint8), bits)
    return layout.dequantize({"codes": packed, **streams}, (1, len(codes)))[0].tolist()


def test_nf4_levels_are_those_of_qlora_to_the_digit():
    assert np.array_equal(LEVELS, np.array(NF4, np.float32))
    assert decoded("nf4:group16", list(range(16)), scales=np.ones(1, np.float32)) == np.array(NF4, np.float32).tolist()


def test_nf4_levels_are_quantiles_of_a_gaussian():
    """QLoRA, equation 4: middles of quantiles for 7 negative and 8 positive levels, and 0 (bitsandbytes' offset)."""
    outermost, inverse = 0.9677083, NormalDist().inv_cdf
    positive = [inverse(p) for p in np.linspace(outermost, 0.5, 9)[:-1]]
    negative = [-inverse(p) for p in np.linspace(outermost, 0.5, 8)[:-1]]
    expected = np.sort([*positive, *negative, 0.0]) / max(positive)
    np.testing.assert_allclose(LEVELS, expected, atol=2e-7)


def test_dynamic_eight_bit_numbers():
    levels = dynamic_levels()
    assert len(np.unique(levels)) == 256
    positive = levels[levels > 0]
    assert positive[-1] == 1
    for i in range(7):  # decade i holds 2^i numbers in even steps between 10^(i-7) and 10^(i-6)
        low, high = 10.0 ** (i - 7), 10.0 ** (i - 6)
        inside = positive[(positive > low) & (positive < high)]
        assert len(inside) == 2**i
        np.testing.assert_allclose(inside, low + (high - low) * (np.arange(2**i) + 0.5) / 2**i, rtol=1e-6)
    assert np.array_equal(np.sort(-levels[levels < 0]), positive[:-1])


def test_fp4_codes_are_those_of_the_mx_specification():
    assert decoded("fp4:tensor", list(range(16)), scales=np.ones(1, np.float32)) == E2M1
    w = np.array([[*E2M1[:8], *E2M1[9:]]], np.float32)  # 6 fixes the scale at 1
    layout = quant.parse("fp4:tensor")
    assert layout.symbols(layout.quantize(w), w.shape)["codes"].tolist() == [*range(8), *range(9, 16)]


def test_fp4_halves_round_to_the_even_code():
    middles = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
    assert FP4.codes(middles).tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert FP4.codes(np.nextafter(middles, np.float32(9))).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_fp4_never_writes_a_negative_zero():
    assert FP4.codes(np.array([-0.0, -0.1, -0.25], np.float32)).tolist() == [0, 0, 0]


def test_an_exponent_bias_halves_a_channel():
    scale, biases = np.array([2.0], np.float32), np.array([3], np.uint8)
    assert decoded("fp4:channel:bias", [7, 9], biases=biases, tensor_scale=scale) == [6 * 2 / 8, -0.5 * 2 / 8]


def test_exponent_biases_follow_the_size_of_a_channel():
    w = np.array([E2M1[:8]], np.float32) * np.array([[1], [1 / 4], [1 / 1024], [0]], np.float32)
    layout = quant.parse("fp4:channel:bias")
    streams = layout.quantize(w)
    assert streams["biases"].tolist() == [0, 2, 10, 0]
    assert np.array_equal(layout.dequantize(streams, w.shape), w)


def test_nvfp4_scales_are_e4m3_under_one_float():
    """E4M3 0x38 is 1, 0x40 is 2, 0x7E is 448; the group of the largest weight has 448."""
    w = np.zeros((1, 48), np.float32)
    w[0, [0, 16, 32]] = [6 * 448, 6, 12]
    layout = quant.parse("nvfp4")
    streams = layout.quantize(w)
    assert streams["tensor_scale"].tolist() == [1.0]
    assert streams["scales"].tolist() == [0x7E, 0x38, 0x40]
    assert np.array_equal(layout.dequantize(streams, w.shape), w)


@pytest.mark.parametrize(("code", "scale"), [(127, 1.0), (128, 2.0), (120, 2.0**-7), (1, 2.0**-126), (250, 2.0**123)])
def test_mxfp4_of_ggml_stands_for_what_the_mx_specification_says(code, scale):
    """E8M0: 2^(code - 127). ggml keeps element j beside element j + 16 in byte j."""
    block = np.array([code, *(i | (15 - i) << 4 for i in range(16))], np.uint8)
    values = quant.parse("mxfp4").dequantize({"data": block}, (1, 32))[0]
    assert values.tolist() == [scale * E2M1[i] for i in (*range(16), *range(15, -1, -1))]


@pytest.mark.parametrize("exponent", [-20, -1, 0, 5])
def test_mxfp4_shares_the_power_of_two_below_the_largest_weight(exponent):
    """MX specification, section 6.3: shared exponent = floor(log2(max|w|)) - 2, 2 being E2M1's largest exponent."""
    w = np.full((1, 32), 1.5 * 2.0**exponent, np.float32)
    assert quant.parse("mxfp4").quantize(w)["data"][0] == exponent - 2 + 127


@pytest.mark.parametrize(("bits", "levels"), [(2, [1, 2]), (3, [1, 2, 4, 8]), (4, [1, 2, 4, 8, 16, 32, 64, 128])])
def test_shift_codes_are_signed_powers_of_two_without_zero(bits, levels):
    """DenseShift, arXiv 2208.09708."""
    scale = np.array([levels[-1]], np.float32)
    assert decoded(f"shift{bits}:channel", list(range(2**bits)), scales=scale) == [*levels, *(-x for x in levels)]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_powers_of_two_come_back_exactly(bits):
    powers = 2.0 ** -np.arange(2 ** (bits - 1))
    w = np.array([[*powers, *-powers]], np.float32)
    layout = quant.parse(f"shift{bits}")
    np.testing.assert_allclose(layout.dequantize(layout.quantize(w), w.shape), w, rtol=1e-6)


@pytest.mark.parametrize("a", [32, 48, 64])
def test_power_levels_are_whole_numbers_to_the_power_of_one_over_a(a):
    """PowerQuant, arXiv 2301.09858: back by |code / (2^(b-1) - 1)|^(1/a) times the largest weight."""
    streams = {"scales": np.array([2.0], np.float32), "exponents": np.array([a], np.uint8)}
    expected = [2 * np.sign(k) * (abs(k) / 7) ** (64 / a) for k in range(-7, 8)]
    np.testing.assert_allclose(decoded("power4:channel", list(range(1, 16)), **streams), expected, rtol=1e-6)


@pytest.mark.parametrize("a", [24, 32, 48, 64])
def test_weights_on_power_levels_come_back_with_their_exponent(a):
    steps = np.arange(-7, 8) / 7
    w = (np.sign(steps) * np.abs(steps) ** (64 / a)).astype(np.float32)[None]
    layout = quant.parse("power4:channel")
    streams = layout.quantize(w)
    np.testing.assert_allclose(layout.dequantize(streams, w.shape), w, atol=0.012)
    assert abs(int(streams["exponents"][0]) - a) <= 1
