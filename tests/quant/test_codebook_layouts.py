"""The contract, the names, the exact sizes and the refusals of the layouts with non-uniform levels."""

from __future__ import annotations

import numpy as np
import pytest

from simio import quant
from simio.errors import UsageError
from simio.quant.contract import TensorSummary
from simio.testing import check_quantizer

NAMES = [
    "nf4", "nf4:double", "nf4:group128", "nf4:group256:double",
    "fp4:tensor", "fp4:channel", "fp4:group16", "fp4:channel:bias", "nvfp4",
    "f8_e4m3", "f8_e4m3:channel", "f8_e4m3:group128", "f8_e5m2:channel", "f8_e5m2:group64",
    "shift4:channel", "shift3:channel", "shift2:channel", "shift4:group64", "shift3:group32",
    "power8:channel", "power4:channel", "power3:channel", "power4:tensor", "power4:group64",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds(name):
    assert quant.parse(name).name == name
    check_quantizer(quant.parse(name))


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("fp4", "fp4:tensor"),
        ("nf4:group64", "nf4"),
        ("nf4:group64:double", "nf4:double"),
        ("f8_e4m3:tensor", "f8_e4m3"),
        ("shift4", "shift4:channel"),
        ("power4", "power4:channel"),
    ],
)
def test_one_layout_has_one_name(short, name):
    assert quant.parse(short) == quant.parse(name)
    assert quant.parse(short).name == name


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("nf4", (64, 512), 4 + 32 / 64),
        ("nf4:double", (4096, 4096), 4 + 8 / 64 + 32 / (64 * 256) + 32 / 4096**2),
        ("nf4:double", (1, 128), 4 + 8 * (2 + 4 + 4) / 128),
        ("fp4:tensor", (3, 5), 8 * (8 + 4) / 15),
        ("fp4:group16", (64, 512), 5),
        ("fp4:channel:bias", (64, 512), 4 + 8 / 512 + 32 / (64 * 512)),
        ("nvfp4", (64, 512), 4.5 + 32 / (64 * 512)),
        ("f8_e4m3:channel", (64, 512), 8 + 32 / 512),
        ("shift3:channel", (3, 5), 8 * (6 + 3 * 4) / 15),
        ("power4:group64", (64, 512), 4 + 16 / 64 + 8 / 512),
        ("power4:tensor", (64, 512), 4 + 40 / (64 * 512)),
    ],
)
def test_bits_per_weight(name, shape, expected):
    layout = quant.parse(name)
    assert layout.bits_per_weight(shape) == pytest.approx(expected, rel=1e-12)
    if shape != (4096, 4096):
        streams = layout.quantize(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
        assert 8 * sum(stream.nbytes for stream in streams.values()) / (shape[0] * shape[1]) == pytest.approx(expected)


def test_double_quantization_leaves_an_eighth_of_a_bit_for_scales():
    """QLoRA, section 3: 0.127 bits a weight instead of 0.5."""
    assert quant.parse("nf4").bits_per_weight((4096, 4096)) - 4 == 0.5
    assert quant.parse("nf4:double").bits_per_weight((4096, 4096)) - 4 == pytest.approx(0.127, abs=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_symbols_of_codes_are_one_a_weight(name):
    w = np.random.default_rng(1).standard_normal((4, 512)).astype(np.float32)
    layout = quant.parse(name)
    codes = layout.symbols(layout.quantize(w), w.shape)["codes"]
    assert codes.shape == (w.size,)
    bits = 8 if name.startswith(("f8", "power8")) else int(name[5]) if name.startswith(("shift", "power")) else 4
    assert codes.max() < 2**bits
    assert len(np.unique(codes)) > 2 ** (bits - 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 6e4, 3e38])
def test_rows_of_zeros_stay_and_sizes_of_all_kinds_are_finite_or_refused(name, size):
    w = (np.random.default_rng(2).uniform(-1, 1, (4, 512)) * size).astype(np.float32)
    w[2] = 0
    layout = quant.parse(name)
    try:
        streams = layout.quantize(w)
    except UsageError as error:
        assert "cannot hold" in str(error)  # noqa: PT017
        assert size > 65504
        return
    back = layout.dequantize(streams, w.shape)
    assert np.isfinite(back).all()
    assert not back[2].any()
    if size in (1.0, 6e4):
        assert np.abs(back - w).max() <= 0.6 * size


@pytest.mark.parametrize("name", ["f8_e4m3", "fp4:tensor", "fp4:channel:bias", "nvfp4"])
def test_rows_in_runs_share_the_scale_of_the_tensor(name):
    w = np.random.default_rng(3).standard_normal((8, 64)).astype(np.float32)
    w[7, 5] = 40
    layout = quant.parse(name).for_tensor(TensorSummary.of(w))
    first, second = layout.quantize(w[:4]), layout.quantize(w[4:])
    whole = quant.parse(name).quantize(w)
    key = "tensor_scale" if "tensor_scale" in whole else "scales"
    assert np.array_equal(first[key], whole[key])
    assert np.array_equal(np.concatenate([first["codes"], second["codes"]]), whole["codes"])


def test_what_needs_the_whole_tensor_says_so():
    apart = {name: quant.parse(name).rows_apart for name in NAMES}
    assert {name for name, rows in apart.items() if not rows} == {"nf4:double", "nf4:group256:double", "power4:tensor"}


@pytest.mark.parametrize("name", ["nf4", "nf4:double", "fp4:group16", "nvfp4", "shift4:group64", "power4:group64"])
def test_rows_that_are_not_whole_groups_are_refused(name):
    with pytest.raises(UsageError, match="multiple of"):
        quant.parse(name).quantize(np.zeros((4, 100), np.float32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nf4:channel", "cannot read 'channel'"),
        ("nf4::double", "cannot read"),
        ("nf4:group1", "a group of 1 weights"),
        ("fp4:row", "'row' is not a granularity"),
        ("fp4:tensor:bias", "is not a granularity"),
        ("fp4:group0", "a group of 0 weights"),
        ("f8_e4m3:block", "'block' is not a granularity"),
        ("nvfp4:group32", "takes no options"),
        ("shift4:tensor", "no level for zero"),
        ("power4:group1", "a group of 1 weights"),
    ],
)
def test_options_that_mean_nothing_are_refused(name, message):
    with pytest.raises(UsageError, match=message):
        quant.parse(name)
