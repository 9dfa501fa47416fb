"""What every structured layout promises, and what each refuses."""

from __future__ import annotations

import numpy as np
import pytest

from simio import quant
from simio.errors import UnknownNameError, UsageError
from simio.testing import check_quantizer, random_activations

NAMES = [
    "vptq:v4:k256",
    "vptq:v8:k256:r256",
    "vptq:v6:k3000:r16:o1",
    "vptq:v8:k65536",
    "jlcm:2:books16",
    "jlcm:3:books5",
    "mixed24:group16:share16",
    "mixed24:group64:share0",
    "mixed24:group32:share100",
    "dgq:group128",
    "lowrank:16:int2:group64",
    "lowrank:8:vptq:v4:k16",
    "nested:8:group64",
    "nested:1:group32",
    "mwq:4:group64",
    "mwq:8:group64:base4",
    "bitstack:4",
    "bitstack:2:rank100",
]

#: Those that calibration helps, with room to gain.
CALIBRATED = [
    "vptq:v4:k256",
    "vptq:v4:k256:o1",
    "jlcm:2:books4",
    "mixed24:group16:share16",
    "dgq:group128",
    "lowrank:16:int2:group64",
    "bitstack:2",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds(name):
    quantizer = quant.parse(name)
    assert quantizer.name == name
    check_quantizer(quantizer)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("jlcm:2", "jlcm:2:books16"),
        ("mixed24", "mixed24:group16:share16"),
        ("dgq", "dgq:group128"),
        ("nested:4", "nested:4:group64"),
        ("mwq:4", "mwq:4:group64"),
        ("bitstack", "bitstack:16"),
        ("bitstack:16:rank16", "bitstack:16"),
    ],
)
def test_defaults_are_spelled_out(text, name):
    assert quant.parse(text).name == name


@pytest.mark.parametrize(
    "text",
    [
        "vptq",
        "vptq:v8",
        "vptq:v0:k16",
        "vptq:v8:k1",
        "vptq:v8:k65537",
        "vptq:v8:k16:o51",
        "jlcm",
        "jlcm:5",
        "jlcm:2:books0",
        "mixed24:group1",
        "mixed24:share101",
        "mixed24:four",
        "dgq:channel",
        "dgq:group1",
        "lowrank",
        "lowrank:16",
        "lowrank:0:int2",
        "lowrank:x:int2",
        "lowrank:4:lowrank:4:int2",
        "nested",
        "nested:9",
        "nested:4:group1",
        "mwq:1",
        "mwq:4:group64:base8",
        "bitstack:0",
        "bitstack:16:rank0",
        "bitstack:16:32",
    ],
)
def test_malformed_names_are_refused_with_an_example(text):
    with pytest.raises(UsageError) as caught:
        quant.parse(text)
    assert "write for example" in caught.value.hint


def test_an_unknown_quantizer_inside_is_named():
    with pytest.raises(UnknownNameError, match="nf5"):
        quant.parse("lowrank:4:nf5")


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_lowers_the_error_where_inputs_are_large(name, rng):
    w = rng.standard_normal((96, 512)).astype(np.float32)
    activations = random_activations(512)
    plain = quant.parse(name)
    calibrated = plain.calibrated(activations)
    assert calibrated == plain  # what was learnt of the inputs is no setting
    counts = np.diag(activations.gram)

    def error(quantizer):
        back = quantizer.dequantize(quantizer.quantize(w), w.shape)
        return float((np.square(back - w) * counts).sum())

    assert error(calibrated) < 0.999 * error(plain)
    streams = calibrated.quantize(w)
    assert 8 * sum(stream.nbytes for stream in streams.values()) / w.size == pytest.approx(
        plain.bits_per_weight(w.shape), abs=1e-9
    )


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_for_another_width_is_refused(name):
    calibrated = quant.parse(name).calibrated(random_activations(256))
    with pytest.raises(UsageError, match="calibrated for 256 inputs"):
        calibrated.quantize(np.ones((4, 512), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_weights_too_large_for_fp16_are_refused(name):
    with pytest.raises(UsageError, match="cannot hold"):
        quant.parse(name).quantize(np.full((2, 512), 1e5, np.float32))


@pytest.mark.parametrize("name", ["mixed24:group16:share16", "dgq:group128", "nested:8:group64", "mwq:4:group64"])
def test_rows_that_do_not_divide_into_groups_are_refused(name):
    with pytest.raises(UsageError, match="multiple of"):
        quant.parse(name).quantize(np.ones((2, 72 + 1), np.float32))


@pytest.mark.parametrize("name", ["vptq:v8:k16:r4:o1", "jlcm:2:books4", "bitstack:2", "lowrank:3:int4:channel"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (13, 11)])
def test_odd_shapes_are_exact_to_the_byte(name, shape, rng):
    quantizer = quant.parse(name)
    w = rng.standard_normal(shape).astype(np.float32)
    streams = quantizer.quantize(w)
    stored = sum(stream.nbytes for stream in streams.values())
    assert stored == pytest.approx(quantizer.bits_per_weight(shape) * w.size / 8, abs=1e-6)
    assert np.isfinite(quantizer.dequantize(streams, shape)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.5, -0.25, 1e-30])
def test_matrices_without_variance_come_back(name, value):
    w = np.full((8, 512), value, np.float32)
    quantizer = quant.parse(name)
    assert np.allclose(quantizer.dequantize(quantizer.quantize(w), w.shape), w, atol=0.02 * abs(value) + 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_float64_weights_are_taken_as_float32(name, rng):
    w = rng.standard_normal((6, 512))
    quantizer = quant.parse(name)
    expected = quantizer.quantize(w.astype(np.float32))
    for key, stream in quantizer.quantize(w).items():
        assert np.array_equal(stream, expected[key])


@pytest.fixture
def rng():
    return np.random.default_rng(11)
