"""Ternary, binary, codebook and sparse layouts: the contract, sizes counted by hand, errors in order."""

from __future__ import annotations

import numpy as np
import pytest

from simio import quant
from simio.errors import UsageError
from simio.testing import check_quantizer, random_activations

NAMES = (
    "ternary:absmean",
    "ternary:absmean:base3",
    "ternary:absmean:channel",
    "ternary:absmean:group64:base3",
    "ternary:absmedian",
    "ternary:absmedian:channel:base3",
    "ternary:absmedian:group128",
    "ternary:twn",
    "ternary:twn:channel",
    "ternary:twn:group64",
    "binary:tensor",
    "binary:channel",
    "binary:group64",
    "pbllm:0.0",
    "pbllm:0.1",
    "pbllm:0.3",
    "ptq161:0.2",
    "ptq161:0.05",
    "dbllm:tensor",
    "dbllm:channel",
    "dbllm:group64",
    "squeezellm:4bit",
    "squeezellm:3bit",
    "squeezellm:4bit:0.0",
    "squeezellm:3bit:0.02",
    "sparse:2of4:f16",
    "sparse:2of4:int4:group32",
    "sparse:1of4:int8:channel",
    "sparse:4of8:int4:group32:affine",
    "sparse:8of16:int8:tensor:affine",
    "sparse:1of2:ternary:absmean",
    "sparse:2of4:squeezellm:4bit",
)
CALIBRATED = ("pbllm:0.1", "ptq161:0.2", "squeezellm:4bit", "squeezellm:3bit:0.0", "sparse:2of4:int4:group32")


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds(name):
    q = quant.parse(name)
    assert q.name == name
    check_quantizer(q)


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_changes_weights_but_not_sizes(name):
    w = heavy_tailed((48, 512))
    plain = quant.parse(name)
    calibrated = plain.calibrated(random_activations(512))
    streams = calibrated.quantize(w)
    assert calibrated.name == name
    assert 8 * sum(stream.nbytes for stream in streams.values()) / w.size == pytest.approx(
        plain.bits_per_weight(w.shape), abs=0.5 / w.size
    )
    assert not np.array_equal(calibrated.dequantize(streams, w.shape), back(plain, w))
    again = calibrated.quantize(w)
    assert all(np.array_equal(again[key], stream) for key, stream in streams.items())


@pytest.mark.parametrize("name", CALIBRATED)
def test_inputs_of_another_matrix_are_refused(name):
    calibrated = quant.parse(name).calibrated(random_activations(256))
    with pytest.raises(UsageError, match="calibrated for 256 input channels"):
        calibrated.quantize(heavy_tailed((8, 512)))


@pytest.mark.parametrize(
    ("name", "n_bytes"),
    [
        ("ternary:absmean", 64 * 128 + 4),  # four codes a byte, one FP32 scale
        ("ternary:absmean:base3", -(-64 * 512 // 5) + 4),
        ("ternary:twn:channel", 64 * 128 + 4 * 64),
        ("ternary:absmedian:group64", 64 * 128 + 2 * 64 * 8),  # FP16 scales
        ("binary:channel", 64 * 64 + 4 * 64),
        ("binary:group128", 64 * 64 + 2 * 64 * 4),
        ("pbllm:0.1", 64 * 64 + -(-(32768 - 3277) // 8) + 3277 + 2 * 4 * 64),
        # 102 of 512 input channels salient
        ("ptq161:0.2", 64 + 64 * 410 // 8 + 2 * (64 + 410) + 64 * 102 // 2 + 2 * 2 * 64),
        ("dbllm:group64", 2 * 64 * 64 + 2 * 2 * 64 * 8),
        ("squeezellm:4bit", 64 * 256 + 2 * 16 * 64 + 147 * (2 + 2) + 4 * 65),  # 0.45 % of 32 768 weights
        ("squeezellm:3bit:0.0", 64 * 192 + 2 * 8 * 64),
        ("sparse:2of4:f16", 64 * 256 * 2 + 64 * 256 // 4),
        ("sparse:1of4:int8:channel", 64 * 128 + 4 * 64 + 64 * 128 // 4),
        ("sparse:4of8:int4:group32", 64 * 128 + 2 * 64 * 8 + 64 * 256 * 3 // 8),
    ],
)
def test_sizes_counted_by_hand(name, n_bytes):
    w = heavy_tailed((64, 512))
    q = quant.parse(name)
    assert sum(stream.nbytes for stream in q.quantize(w).values()) == n_bytes
    assert q.bits_per_weight(w.shape) == pytest.approx(8 * n_bytes / w.size, abs=1e-9)


def test_sizes_of_a_large_matrix_are_those_of_the_papers():
    shape = (4096, 4096)
    assert quant.parse("pbllm:0.1").bits_per_weight(shape) == pytest.approx(2.7, abs=0.02)
    assert quant.parse("ptq161").bits_per_weight(shape) == pytest.approx(1.61, abs=0.005)
    assert quant.parse("ternary:absmean:base3").bits_per_weight(shape) == pytest.approx(1.6, abs=1e-5)
    assert quant.parse("dbllm:channel").bits_per_weight(shape) == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("distribution", ["normal", "laplace", "t4"])
def test_more_bits_err_less(distribution):
    w = matrix(distribution)
    errors = [
        error(name, w)
        for name in ("binary:channel", "ptq161", "dbllm:group64", "squeezellm:3bit", "squeezellm:4bit", "int8:channel")
    ]
    assert errors == sorted(errors, reverse=True)
    assert error("binary:channel", w) > error("pbllm:0.1", w) > error("pbllm:0.3", w)
    assert error("binary:channel", w) > error("binary:group64", w)
    assert error("ternary:absmean", w) > error("ternary:twn", w) > error("ternary:twn:group64", w)
    assert error("sparse:1of4:f16", w) > error("sparse:2of4:int4:group32", w) > error("sparse:2of4:f16", w)
    assert error("sparse:2of4:f16", w) > error("sparse:4of8:f16", w)  # the same share, chosen among more weights


@pytest.mark.parametrize(
    "name",
    [
        "ternary:mean",
        "ternary:absmean:row",
        "ternary:absmean:base3:channel",
        "ternary:absmean:group64:channel",
        "binary:row",
        "binary:group1",
        "pbllm:1.5",
        "pbllm:-0.1",
        "pbllm:nan",
        "pbllm:1",
        "ptq161:20%",
        "dbllm:group",
        "squeezellm:5bit",
        "squeezellm:4bit:many",
        "sparse:4of4",
        "sparse:2:4",
        "sparse:3of7",
        "sparse:0of4",
        "sparse",
        "sparse:2of4:sparse:2of4:f16",
    ],
)
def test_malformed_options_are_refused(name):
    with pytest.raises(UsageError):
        quant.parse(name)


@pytest.mark.parametrize(
    ("name", "n_in"), [("binary:group64", 96), ("dbllm:group64", 96), ("sparse:2of4:f16", 98), ("sparse:2of4:q8_0", 96)]
)
def test_rows_that_are_not_whole_groups_are_refused(name, n_in):
    with pytest.raises(UsageError, match="multiple of"):
        quant.parse(name).quantize(np.ones((4, n_in), np.float32))


@pytest.mark.parametrize("name", ["binary:group64", "dbllm:group64", "ptq161", "squeezellm:4bit"])
def test_weights_too_large_for_fp16_are_refused(name):
    with pytest.raises(UsageError, match="cannot hold"):
        quant.parse(name).quantize(np.full((2, 512), 1e5, np.float32))


@pytest.mark.parametrize("name", [name for name in NAMES if "int4" not in name and "int8" not in name])
@pytest.mark.parametrize("value", [-0.25, 0.25])
def test_constant_weights_come_back(name, value):
    q = quant.parse(name)
    w = np.full((4, 512), value, np.float32)
    restored = back(q, w)
    kept = restored != 0 if name.startswith("sparse") else np.ones(w.shape, np.bool_)
    assert kept.mean() >= 0.25
    assert np.abs(restored - value)[kept].max() <= 0.001


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_is_taken_as_single(name):
    w = heavy_tailed((8, 512))
    q = quant.parse(name)
    streams = q.quantize(w.astype(np.float64))
    assert all(np.array_equal(streams[key], stream) for key, stream in q.quantize(w).items())


@pytest.mark.parametrize("name", [name for name in NAMES if "group" not in name and "sparse" not in name])
@pytest.mark.parametrize("shape", [(1, 3), (7, 5), (3, 17)])
def test_odd_shapes_are_taken_where_there_are_no_groups(name, shape):
    w = heavy_tailed(shape)
    q = quant.parse(name)
    streams = q.quantize(w)
    assert 8 * sum(stream.nbytes for stream in streams.values()) == pytest.approx(
        q.bits_per_weight(shape) * w.size, abs=1e-6
    )
    assert np.isfinite(q.dequantize(streams, shape)).all()


def heavy_tailed(shape: tuple[int, int]) -> np.ndarray:
    return (0.02 * np.random.default_rng(5).standard_t(4, shape)).astype(np.float32)


def matrix(distribution: str) -> np.ndarray:
    rng, shape = np.random.default_rng(11), (128, 1024)
    drawn = {
        "normal": lambda: rng.standard_normal(shape),
        "laplace": lambda: rng.laplace(size=shape),
        "t4": lambda: rng.standard_t(4, shape),
    }
    return drawn[distribution]().astype(np.float32)


def back(q: quant.Quantizer, w: np.ndarray) -> np.ndarray:
    return q.dequantize(q.quantize(w), w.shape)


def error(name: str, w: np.ndarray) -> float:
    return float(np.sqrt(np.mean((back(quant.parse(name), w) - w) ** 2) / np.mean(w**2)))
