"""The packing of weights against the gguf package, which holds the block sizes of ggml."""

from __future__ import annotations

import pytest
from gguf.constants import GGML_QUANT_SIZES

from simio.records.weight_types import GEMV_CLASSES, WEIGHT_TYPES

_SHARED = sorted({kind.name for kind in GGML_QUANT_SIZES} & WEIGHT_TYPES.keys())


@pytest.mark.parametrize("name", _SHARED)
def test_a_block_has_the_weights_and_bytes_of_ggml(name: str) -> None:
    kind = next(kind for kind in GGML_QUANT_SIZES if kind.name == name)
    packing = WEIGHT_TYPES[name]
    assert (packing.block_weights, packing.block_bytes) == GGML_QUANT_SIZES[kind]


def test_every_type_ggml_quantizes_to_is_known() -> None:
    """Q1_0 is younger than any model published in it."""
    integers = {"I8", "I16", "I32", "I64"}
    quantized = {kind.name for kind, (weights, _) in GGML_QUANT_SIZES.items() if weights > 1} - {"Q1_0"}
    assert quantized | integers | {"F16", "F32", "F64", "BF16"} <= WEIGHT_TYPES.keys()


def test_every_type_has_a_compute_kernel_a_device_file_can_rate() -> None:
    assert {packing.gemv_class for packing in WEIGHT_TYPES.values()} <= set(GEMV_CLASSES)
