"""Layouts that know their inputs: scaled input channels and GPTQ, by hand and on correlated activations."""

from __future__ import annotations

import numpy as np
import pytest

from simio import quant
from simio.errors import UsageError
from simio.quant import input_scales
from simio.quant.contract import Activations
from simio.quant.gptq import Gptq
from simio.quant.input_scales import Awq, Rescale, SmoothQuant, output_error
from simio.quant.uniform import Uniform
from simio.testing import check_quantizer, random_activations

INNER = (
    "int8:tensor",
    "int8:channel",
    "int4:group64",
    "int4:group64:zero",
    "int3:group64:affine",
    "int4:channel:search",
)

NAMES = [
    *(f"{method}:{inner}" for method in ("smoothquant", "awq", "rescale", "gptq", "gptq:actorder") for inner in INNER),
    *(
        "smoothquant:alpha0.8:int8:tensor",
        "smoothquant:q4_0",
        "awq:int4:input",
        "gptq:int4:input",
        "gptq:int4:group32:input",
    ),
    *("gptq:actorder:int4:group48:input:zero", "gptq:int2:tensor:affine:clip0.7", "smoothquant:gptq:int4:group64"),
]


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """Correlated inputs of 192 channels, a few of them large, as decoders have them."""
    rng = np.random.default_rng(0)
    few = rng.standard_normal((1024, 24)) @ rng.standard_normal((24, 192)) / 5
    size = np.exp(0.8 * rng.standard_normal(192))
    size[:3] *= 15
    return ((few + 0.3 * rng.standard_normal((1024, 192))) * size).astype(np.float32)


@pytest.fixture(scope="module")
def activations(inputs) -> Activations:
    size = np.abs(inputs)
    return Activations(len(inputs), size.max(axis=0), size.mean(axis=0), inputs.T @ inputs / np.float32(len(inputs)))


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return (0.02 * np.random.default_rng(1).standard_normal((160, 192))).astype(np.float32)


def error(name: str, w: np.ndarray, inputs: np.ndarray, activations: Activations) -> float:
    """``‖X(W - Ŵ)ᵀ‖²``, from the inputs themselves."""
    q = quant.parse(name)
    q = q.calibrated(activations) if q.needs_activations else q
    return float(np.square(inputs @ (w - q.dequantize(q.quantize(w), w.shape)).T).sum())


def entropy(name: str, w: np.ndarray, activations: Activations) -> float:
    q = quant.parse(name).calibrated(activations)
    counts = np.bincount(q.symbols(q.quantize(w), w.shape)["codes"])
    counts = counts[counts > 0]
    return float(np.log2(w.size) - (counts * np.log2(counts)).sum() / w.size)


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds(name):
    assert quant.parse(name).name == name
    check_quantizer(quant.parse(name), n_in=192)


def test_names_say_what_is_built():
    assert quant.parse("awq:int4:group128") == Awq(Uniform(4, 128))
    assert quant.parse("smoothquant:alpha0.25:int8:tensor") == SmoothQuant(Uniform(8), alpha=0.25)
    assert quant.parse("smoothquant:alpha0.5:int8:tensor") == quant.parse("smoothquant:int8:tensor")
    assert quant.parse("gptq:actorder:int4:group128:zero") == Gptq(Uniform(4, 128, "zero"), act_order=True)


def test_activations_do_not_tell_layouts_apart(activations):
    for name in ("awq:int8:channel", "gptq:int8:channel"):
        q = quant.parse(name)
        assert q.calibrated(activations) == q
        assert hash(q.calibrated(activations)) == hash(q)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gptq:q4_k", "uniform codes"),
        ("gptq:", "uniform codes"),
        ("awq", "needs a layout"),
        ("rescale:", "needs a layout"),
        ("smoothquant:alpha0.5:", "needs a layout"),
        ("smoothquant:alpha1.5:int8:tensor", "migration strength"),
        ("awq:int4:groups", "no option"),
    ],
)
def test_malformed_names_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        quant.parse(text)


@pytest.mark.parametrize("name", ["awq:int4:channel", "gptq:int4:channel"])
def test_inputs_of_another_width_are_refused(name, weights):
    with pytest.raises(UsageError, match="512 channels meet weights of 192"):
        quant.parse(name).calibrated(random_activations(512)).quantize(weights)


def test_a_matrix_that_is_no_gram_matrix_is_refused(weights):
    gram = np.full((192, 192), 5, np.float32) - 4 * np.eye(192, dtype=np.float32)
    gram[0, 1] = gram[1, 0] = 100
    ones = np.ones(192, np.float32)
    with pytest.raises(UsageError, match="no Gram matrix"):
        quant.parse("gptq:int4:channel").calibrated(Activations(9, ones, ones, gram)).quantize(weights)


def test_smoothquant_scales_follow_the_papers_equation(weights, activations):
    for alpha in (0.0, 0.5, 0.8, 1.0):
        q = SmoothQuant(Uniform(8, "channel"), alpha=alpha).calibrated(activations)
        scales = q.quantize(weights)["input_scales"]
        expected = activations.peak**alpha / np.abs(weights).max(axis=0) ** (1 - alpha)
        assert scales / scales[0] == pytest.approx(expected / expected[0], rel=1e-4)
        assert scales.max() * scales.min() == pytest.approx(1, rel=1e-4)


def test_smoothquant_evens_out_the_peaks_of_inputs_and_weights(weights, activations):
    """With α = 1/2 both peaks become ``√(max|X_j|·max|W_j|)``: what the migration is for."""
    scales = SmoothQuant(Uniform(8, "channel")).calibrated(activations).quantize(weights)["input_scales"]
    inputs_peak, weights_peak = activations.peak / scales, np.abs(weights * scales).max(axis=0)
    assert inputs_peak / weights_peak == pytest.approx(np.full(192, inputs_peak[0] / weights_peak[0]), rel=1e-3)


@pytest.mark.parametrize("inner", INNER)
def test_awq_lowers_the_output_error(inner, weights, inputs, activations):
    plain = error(inner, weights, inputs, activations)
    # one scale for all leaves little to move; the search's own clipping takes no heed of the inputs
    much = inner not in ("int8:tensor", "int4:channel:search")
    assert error(f"awq:{inner}", weights, inputs, activations) < (0.8 if much else 1) * plain


def test_awq_takes_the_best_of_twenty_powers(weights, activations):
    inner = Uniform(4, 64)
    scales = Awq(inner).calibrated(activations).quantize(weights)["input_scales"]
    errors = []
    for step in range(input_scales.N_GRID):
        s = activations.mean_magnitude ** np.float32(step / 20)
        s = s / np.sqrt(s.max() * s.min())
        back = inner.dequantize(inner.quantize(weights * s), weights.shape) / s
        errors.append((output_error(weights, back, activations.gram), s))
    best = min(errors, key=lambda pair: pair[0])
    assert scales == pytest.approx(best[1], rel=1e-5)
    assert best[0] < 0.8 * errors[0][0]


@pytest.mark.parametrize("inner", ["int8:tensor", "int8:channel", "int4:channel", "int4:group64", "int3:group64"])
def test_rescaled_codes_compress_better_at_no_more_output_error(inner, weights, inputs, activations):
    q = Rescale(quant.parse(inner)).calibrated(activations)
    counts = np.bincount(quant.parse(inner).symbols(quant.parse(inner).quantize(weights), weights.shape)["codes"])
    counts = counts[counts > 0]
    plain = np.log2(weights.size) - (counts * np.log2(counts)).sum() / weights.size
    assert entropy(q.name, weights, activations) < plain - 0.1
    assert error(q.name, weights, inputs, activations) <= 1.001 * error(inner, weights, inputs, activations)


def test_output_error_is_that_of_the_outputs(weights, inputs, activations):
    back = weights + 0.001
    ours = output_error(weights, back, activations.gram)
    assert ours == pytest.approx(np.square(inputs @ (weights - back).T).sum() / len(inputs) / len(weights), rel=1e-3)


@pytest.mark.parametrize("order", ["", "actorder:"])
@pytest.mark.parametrize(
    "inner", ["int8:tensor", "int8:channel", "int4:group64", "int4:group64:zero", "int3:group64:affine"]
)
def test_gptq_lowers_the_output_error(inner, order, weights, inputs, activations):
    plain = error(inner, weights, inputs, activations)
    assert error(f"gptq:{order}{inner}", weights, inputs, activations) < 0.5 * plain


@pytest.mark.parametrize("order", ["", "actorder:"])
@pytest.mark.parametrize("inner", [*INNER, "int4:input", "int4:group32:input:zero", "int2:group48:affine:search"])
def test_gptq_of_inputs_that_do_not_depend_on_one_another_is_rounding(inner, order, weights):
    ones = np.ones(192, np.float32)
    q = quant.parse(f"gptq:{order}{inner}").calibrated(Activations(192, ones, ones, np.eye(192, dtype=np.float32)))
    ours, plain = q.quantize(weights), quant.parse(inner).quantize(weights)
    assert list(ours) == list(plain)
    for key, stream in plain.items():
        assert np.array_equal(ours[key], stream), key


def test_gptq_makes_good_the_error_of_a_column_by_the_next_one():
    """Two columns: with δ the error of the first, the second becomes ``w₂ + δ·H₁₂ / H₂₂``, H damped by 1 %."""
    gram = np.array([[1, 0.6], [0.6, 2]], np.float32)
    w = np.array([[1.27, 0.034], [0.5149, -1.27]], np.float32)
    q = Gptq(Uniform(8, "channel")).calibrated(Activations(2, np.ones(2, np.float32), np.ones(2, np.float32), gram))
    streams = q.quantize(w)
    codes = streams["codes"].view(np.int8).reshape(2, 2)
    damped = gram + 0.01 * 1.5 * np.eye(2)
    first = np.rint(w[:, 0] / 0.01)
    second = w[:, 1] + (w[:, 0] - 0.01 * first) * damped[0, 1] / damped[1, 1]
    assert codes[:, 0].tolist() == first.tolist()
    assert codes[:, 1].tolist() == np.clip(np.rint(second / 0.01), -127, 127).tolist()
    w[1] = 0.5149, 0.0044  # alone it would round to 0; the error 0.0049 of the first column carries it to 1
    q = Gptq(Uniform(8, "tensor")).calibrated(q.activations)
    assert q.quantize(w)["codes"].view(np.int8).tolist() == [127, 3, 51, 1]


def test_gptq_zeroes_the_weights_of_inputs_that_are_never_active(weights, activations):
    gram = activations.gram.copy()
    gram[5] = gram[:, 5] = 0
    q = quant.parse("gptq:int8:channel").calibrated(
        Activations(activations.n_tokens, activations.peak, activations.mean_magnitude, gram)
    )
    assert not q.dequantize(q.quantize(weights), weights.shape)[:, 5].any()


def test_gptq_inside_awq_sees_the_scaled_inputs(weights, inputs, activations):
    both = error("awq:gptq:int3:group64", weights, inputs, activations)
    assert both <= error("gptq:int3:group64", weights, inputs, activations)
    assert both < 0.5 * error("awq:int3:group64", weights, inputs, activations)
