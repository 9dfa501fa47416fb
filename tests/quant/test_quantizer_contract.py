"""What every quantizer promises: shapes, exact sizes, bounded error, and refusal of what it cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from simio.errors import UsageError
from simio.quant import ggml
from simio.quant.fp8 import f8_e4m3, f8_e5m2
from simio.quant.uniform import int2, int3, int4, int5, int6, int8
from simio.testing import check_quantizer

#: (factory, options, relative RMSE on Gaussian weights allowed). Errors of ggml types as quantized by ggml-quants.c.
CASES = {
    "f32": (ggml.f32, "", 0.0),
    "f16": (ggml.f16, "", 0.00022),
    "bf16": (ggml.bf16, "", 0.0018),
    "f8_e4m3": (f8_e4m3, "", 0.028),
    "f8_e5m2": (f8_e5m2, "", 0.055),
    "q8_0": (ggml.q8_0, "", 0.006),
    "q6_k": (ggml.q6_k, "", 0.0185),
    "q5_k": (ggml.q5_k, "", 0.0375),
    "q5_1": (ggml.q5_1, "", 0.039),
    "q5_0": (ggml.q5_0, "", 0.044),
    "q4_k": (ggml.q4_k, "", 0.073),
    "iq4_nl": (ggml.iq4_nl, "", 0.078),
    "iq4_xs": (ggml.iq4_xs, "", 0.079),
    "q4_1": (ggml.q4_1, "", 0.080),
    "q4_0": (ggml.q4_0, "", 0.088),
    "mxfp4": (ggml.mxfp4, "", 0.118),
    "q3_k": (ggml.q3_k, "", 0.154),
    "q2_k": (ggml.q2_k, "", 0.30),
    "int8:tensor": (int8, "tensor", 0.0105),
    "int8:channel": (int8, "channel", 0.009),
    "int8:group32": (int8, "group32", 0.006),
    "int8:channel:affine": (int8, "channel:affine", 0.008),
    "int4:channel": (int4, "channel", 0.16),
    "int4:group128": (int4, "group128", 0.125),
    "int4:group128:affine": (int4, "group128:affine", 0.11),
    "int4:group128:zero": (int4, "group128:zero", 0.11),
    "int4:group128:search": (int4, "group128:search", 0.113),
    "int4:group32:input": (int4, "group32:input", 0.104),
    "int8:input": (int8, "input", 0.0065),
    "int6:group64": (int6, "group64", 0.026),
    "int5:channel": (int5, "channel", 0.066),
    "int3:group64:affine": (int3, "group64:affine", 0.22),
    "int2:group32:affine": (int2, "group32:affine", 0.44),
}


@pytest.mark.parametrize("name", CASES)
def test_the_contract_holds(name):
    factory, options, _ = CASES[name]
    check_quantizer(factory(options))


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return (0.02 * np.random.default_rng(7).standard_normal((64, 512))).astype(np.float32)


@pytest.fixture(params=CASES)
def quantizer(request):
    factory, options, _ = CASES[request.param]
    return factory(options)


@pytest.mark.parametrize("name", CASES)
def test_round_trip_error_is_that_of_the_format(name, weights):
    factory, options, allowed = CASES[name]
    q = factory(options)
    back = q.dequantize(q.quantize(weights), weights.shape)
    assert back.dtype == np.float32
    assert back.shape == weights.shape
    error = float(np.sqrt(np.mean((back - weights) ** 2)) / weights.std())
    assert error <= allowed
    assert error >= 0.8 * allowed  # a much smaller error would mean that more bits are kept than the format has


def test_bits_per_weight_is_exact_to_the_byte(quantizer, weights):
    streams = quantizer.quantize(weights)
    assert 8 * sum(stream.nbytes for stream in streams.values()) / weights.size == quantizer.bits_per_weight(
        weights.shape
    )


def test_streams_are_flat_contiguous_arrays(quantizer, weights):
    for stream in quantizer.quantize(weights).values():
        assert stream.ndim == 1
        assert stream.flags.c_contiguous


def test_a_row_of_zeros_comes_back_as_zeros(quantizer, weights):
    w = weights.copy()
    w[3] = 0
    back = quantizer.dequantize(quantizer.quantize(w), w.shape)
    assert np.abs(back[3]).max() <= 1e-12
    assert np.isfinite(back).all()


def test_all_zeros_come_back_as_zeros(quantizer):
    w = np.zeros((2, 512), np.float32)
    assert not quantizer.dequantize(quantizer.quantize(w), w.shape).any()


def test_quantizing_the_dequantized_weights_of_constant_rows_is_finite(quantizer):
    w = np.full((2, 512), -0.25, np.float32)
    back = quantizer.dequantize(quantizer.quantize(w), w.shape)
    assert np.abs(back + 0.25).max() <= 0.02  # one step of the coarsest scale


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(quantizer, weights, bad):
    w = weights.copy()
    w[1, 1] = bad
    with pytest.raises(UsageError, match="NaN or infinity"):
        quantizer.quantize(w)


@pytest.mark.parametrize("shape", [(512,), (0, 512), (2, 0), (2, 2, 512)])
def test_what_is_not_a_matrix_is_refused(quantizer, shape):
    with pytest.raises(UsageError, match="needs a matrix"):
        quantizer.quantize(np.zeros(shape, np.float32))


@pytest.mark.parametrize("name", ["q8_0", "q4_k", "iq4_xs", "mxfp4", "int4:group128", "int8:group32"])
def test_rows_that_are_not_whole_groups_are_refused(name):
    factory, options, _ = CASES[name]
    with pytest.raises(UsageError, match="multiple of"):
        factory(options).quantize(np.zeros((4, 100), np.float32))


@pytest.mark.parametrize("name", ["q4_k", "f16", "int4:group128"])
def test_weights_too_large_for_fp16_scales_are_refused(name):
    factory, options, _ = CASES[name]
    with pytest.raises(UsageError, match="cannot hold"):
        factory(options).quantize(np.full((2, 512), 1e5, np.float32))


def test_float64_input_is_taken_as_float32(weights):
    q = int8("channel")
    as_double = q.quantize(weights.astype(np.float64))
    assert all(np.array_equal(as_double[name], stream) for name, stream in q.quantize(weights).items())


def test_a_fixed_layout_takes_no_options():
    with pytest.raises(UsageError, match="takes no options"):
        ggml.q4_k("group32")
