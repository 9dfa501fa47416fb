"""FP8 codes against the values the format defines (arXiv 2209.05433, Table 1)."""

from __future__ import annotations

import numpy as np
import pytest

from simio.quant.fp8 import f8_e4m3, f8_e5m2


@pytest.mark.parametrize(
    ("value", "code"),
    [(0.0, 0), (1.0, 0x38), (448.0, 0x7E), (-448.0, 0xFE), (2**-6, 0x08), (2**-9, 0x01), (1.75, 0x3E)],
)
def test_e4m3_codes(value, code):
    # 448 beside the value fixes the scale at 1
    assert f8_e4m3("").quantize(np.array([[448.0, value]], np.float32))["codes"][1] == code


@pytest.mark.parametrize(
    ("value", "code"), [(1.0, 0x3C), (57344.0, 0x7B), (2**-14, 0x04), (2**-16, 0x01), (-1.5, 0xBE)]
)
def test_e5m2_codes(value, code):
    assert f8_e5m2("").quantize(np.array([[57344.0, value]], np.float32))["codes"][1] == code


def test_halves_round_to_even_and_carry_into_the_exponent():
    codes = f8_e4m3("").quantize(np.array([[448.0, 1.0625, 1.1875, 1.96875]], np.float32))["codes"]
    assert codes[1:].tolist() == [0x38, 0x3A, 0x40]
