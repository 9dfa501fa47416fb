"""Quantizers by name."""

from __future__ import annotations

import pytest

from simio import quant
from simio.errors import UnknownNameError, UsageError
from simio.quant.ggml import Ggml
from simio.quant.uniform import Uniform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8:tensor", Uniform(8, "tensor")),
        ("int8:channel", Uniform(8, "channel")),
        ("int8:group32", Uniform(8, 32)),
        (" INT4:group128:affine ", Uniform(4, 128, "affine")),
        ("int2:group64:zero", Uniform(2, 64, "zero")),
        ("bf16", Ggml("BF16")),
        ("q8_0", Ggml("Q8_0")),
    ],
)
def test_names_are_read(text, expected):
    assert quant.parse(text) == expected


@pytest.mark.parametrize(
    "name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4", "f8_e4m3", "f32"]
)
def test_every_layout_reads_its_own_name_back(name):
    assert quant.parse(quant.parse(name).name) == quant.parse(name)


def test_an_unknown_layout_lists_the_close_ones():
    with pytest.raises(UnknownNameError, match="unknown quantizer 'q4_kk'") as caught:
        quant.parse("q4_kk")
    assert "q4_k" in caught.value.hint


def test_options_of_a_fixed_layout_are_refused():
    with pytest.raises(UsageError, match="takes no options"):
        quant.parse("q4_k:group32")
