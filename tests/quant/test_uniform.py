"""Uniform integer layouts, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from simio.errors import UsageError
from simio.quant.clip_search import N_FACTORS
from simio.quant.packing import pack, packed_bytes, unpack
from simio.quant.uniform import Uniform, from_options, int4, int8
from simio.testing import check_quantizer

NEW_OPTIONS = (
    "input",
    "input:affine",
    "input:zero:clip0.8",
    "group32:input",
    "group128:input:zero",
    "group48:input:affine:search",
    "tensor:search",
    "tensor:affine:clip0.75",
    "channel:search",
    "group128:clip0.9",
    "group128:zero:search",
    "group64:affine:clip0.05",
)


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


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("n_codes", [0, 1, 7, 8, 1001, 70_000])
def test_packing_comes_back(bits, n_codes):
    codes = np.random.default_rng(0).integers(0, 1 << bits, n_codes).astype(np.uint8)
    packed = pack(codes, bits)
    assert len(packed) == packed_bytes(n_codes, bits)
    assert np.array_equal(unpack(packed, bits, n_codes), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_are_a_string_of_bits_low_ones_first(bits):
    codes = np.random.default_rng(1).integers(0, 1 << bits, 1001).astype(np.uint8)
    table = np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits]
    assert np.array_equal(pack(codes, bits), np.packbits(table.reshape(-1), bitorder="little"))


def test_three_bit_codes_run_on_across_bytes():
    # 1 | 2 << 3 | 3 << 6 = 0xd1, the ninth bit opens the second byte
    assert pack(np.array([1, 2, 3], np.uint8), 3).tolist() == [0xD1, 0x00]
    assert pack(np.array([0, 0, 7], np.uint8), 3).tolist() == [0xC0, 0x01]


@pytest.mark.parametrize(
    "options",
    [
        *("group0", "group1", "row", "group", "group-4", "tensor:clip", "channel:affine:x", "tensor:", "tensor:input"),
        *("group32:group64", "channel:affine:zero", "clip0", "clip1.5", "clip0.9:search", "input:input"),
    ],
)
def test_malformed_options_are_refused(options):
    with pytest.raises(UsageError):
        int8(options)


def test_a_name_reads_back():
    for options in ("tensor", "channel", "group64", "group128:affine", "channel:zero", *NEW_OPTIONS):
        q = int4(options)
        assert int4(q.name.removeprefix("int4:")) == q


def test_no_granularity_means_the_whole_tensor():
    assert int8("") == Uniform(8, "tensor", "sym")


def test_other_widths_are_refused():
    with pytest.raises(UsageError, match="int7"):
        Uniform(7)


@pytest.mark.parametrize("options", NEW_OPTIONS)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_the_contract_holds(bits, options):
    check_quantizer(from_options(bits, options), n_in=256)


def test_options_come_in_any_order():
    assert int4("clip0.9:affine:group128") == int4("group128:affine:clip0.9") == Uniform(4, 128, "affine", clip=0.9)
    assert int8("input") == int8("channel:input") == Uniform(8, "channel", axis="input")
    assert int4("input:group128") == Uniform(4, 128, axis="input")
    assert int4("group128:clip1") == int4("group128")


def test_input_channels_have_scales_of_their_own():
    w = np.array([[127, 1.27, 0], [-1, -0.5, 0]], np.float32)
    q = Uniform(8, "channel", axis="input")
    streams = q.quantize(w)
    assert streams["scales"].tolist() == pytest.approx([1, 0.01, 0])
    assert streams["codes"].view(np.int8).tolist() == [127, 127, 0, -1, -50, 0]
    assert q.bits_per_weight(w.shape) == 8 + 3 * 32 / 6


@pytest.mark.parametrize("rule", ["sym", "affine", "zero"])
def test_groups_of_input_channels_are_groups_of_rows_of_the_transposed_matrix(rule):
    w = np.random.default_rng(4).standard_t(4, (96, 40)).astype(np.float32)
    down, along = Uniform(4, 32, rule, axis="input"), Uniform(4, 32, rule)
    theirs = along.dequantize(along.quantize(np.ascontiguousarray(w.T)), w.T.shape).T
    assert np.array_equal(down.dequantize(down.quantize(w), w.shape), theirs)
    assert down.bits_per_weight(w.shape) == along.bits_per_weight(w.T.shape)


@pytest.mark.parametrize("rule", ["sym", "affine", "zero"])
def test_a_last_group_of_fewer_rows_is_quantized_as_if_it_stood_alone(rule):
    w = np.random.default_rng(5).standard_normal((40, 6)).astype(np.float32)
    q = Uniform(4, 32, rule, axis="input")
    back = q.dequantize(q.quantize(w), w.shape)
    for part in (slice(0, 32), slice(32, 40)):
        assert np.array_equal(back[part], q.dequantize(q.quantize(w[part]), w[part].shape))
    assert q.bits_per_weight(w.shape) == 8 * sum(s.nbytes for s in q.quantize(w).values()) / w.size


def test_outliers_of_an_input_channel_spare_the_others():
    w = np.random.default_rng(6).standard_normal((256, 256)).astype(np.float32)
    w[:, 7] *= 50
    errors = {}
    for axis in ("output", "input"):
        q = Uniform(4, 128, axis=axis)
        errors[axis] = np.square(np.delete(q.dequantize(q.quantize(w), w.shape) - w, 7, axis=1)).mean()
    assert errors["input"] < 0.05 * errors["output"]


def test_a_clip_factor_narrows_the_range():
    streams = int8("tensor:clip0.5").quantize(row(2.54, -1.27, 0.01))
    assert streams["scales"].tolist() == pytest.approx([0.01])
    assert streams["codes"].view(np.int8).tolist() == [127, -127, 1]
    q = int4("channel:affine:clip0.5")
    streams = q.quantize(row(-30, -1, 0, 30))
    assert (streams["mins"].tolist(), streams["scales"].tolist()) == ([-15.0], [2.0])
    assert q.dequantize(streams, (1, 4)).tolist() == [[-15, -1, 1, 15]]  # 7.5 rounds to even


@pytest.mark.parametrize("rule", ["sym", "affine", "zero"])
@pytest.mark.parametrize(("bits", "group"), [(2, 32), (4, 32), (3, "channel"), (8, "channel"), (4, "tensor")])
def test_the_search_finds_the_best_factor_of_its_grid(bits, group, rule):
    w = np.random.default_rng(7).standard_t(3, (6, 64)).astype(np.float32)

    def errors(clip: float | str) -> np.ndarray:
        q = Uniform(bits, group, rule, clip=clip)
        squares = np.square(q.dequantize(q.quantize(w), w.shape) - w)
        return squares.reshape(-1, {"tensor": w.size, "channel": 64}.get(group, group)).sum(axis=1)

    every = np.array([errors(1 - step / N_FACTORS) for step in range(N_FACTORS)])
    assert errors("search") == pytest.approx(every.min(axis=0), rel=1e-5)
    assert (every.argmin(axis=0) > 0).any() or bits == 8


def test_the_search_of_a_tensor_needs_all_its_rows():
    assert not int4("tensor:search").rows_apart
    assert not int4("input").rows_apart
    assert int4("channel:search").rows_apart
    assert int4("tensor:clip0.9").rows_apart


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("grain", ["tensor", "channel", "input", "group32", "group32:input"])
def test_weights_on_the_levels_come_back_exactly(bits, grain):
    """On levels of whole numbers over 64, codes, scales and minima are exact, whatever the rule."""
    top = (1 << (bits - 1)) - 1
    levels = np.random.default_rng(8).integers(-top, top + 1, (64, 64)).astype(np.float32)
    for block in (levels[:32, :32], levels[32:, :32], levels[:32, 32:], levels[32:, 32:]):
        np.fill_diagonal(block, top)  # every group, along either axis, reaches both ends
        np.fill_diagonal(block[:, ::-1], -top)
    filled = np.where(levels == top, top + 1, levels)  # 2^b levels
    for rule, w in (("sym", levels), ("affine", filled + 3), ("zero", filled)):
        q = from_options(bits, f"{grain}:{rule}")
        assert np.array_equal(q.dequantize(q.quantize(w / 64), w.shape), w / 64), rule


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (1, 70_001), (70_001, 1), (3, 131_073)])
@pytest.mark.parametrize("options", ["tensor", "channel", "input", "group7:input", "tensor:search", "channel:zero"])
def test_odd_shapes_keep_their_size_and_error(shape, options):
    w = np.random.default_rng(9).uniform(-1, 1, shape).astype(np.float32)
    q = int8(options)
    streams = q.quantize(w)
    assert 8 * sum(s.nbytes for s in streams.values()) / w.size == pytest.approx(q.bits_per_weight(shape))
    assert np.abs(q.dequantize(streams, shape) - w).max() <= 1.01 / 127
