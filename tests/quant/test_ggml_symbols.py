"""Codes and scales of ggml blocks: the formula of each type gives, from them, the gguf package's weights to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from simio.quant import ggml
from simio.quant.ggml_iq4 import LEVELS
from simio.records.weight_types import WEIGHT_TYPES

F32 = np.float32
E2M1_DOUBLED = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], F32)

#: Bits of a code, and weights that share one of the finest scales.
KINDS = {
    "q8_0": (8, 32),
    "q4_0": (4, 32),
    "q4_1": (4, 32),
    "q5_0": (5, 32),
    "q5_1": (5, 32),
    "q2_k": (2, 16),
    "q3_k": (3, 16),
    "q4_k": (4, 32),
    "q5_k": (5, 32),
    "q6_k": (6, 16),
    "iq4_nl": (4, 32),
    "iq4_xs": (4, 32),
    "mxfp4": (4, 32),
    "tq1_0": (2, 256),
    "tq2_0": (2, 256),
}

#: Where the FP16 numbers of a block begin; 0 alone where not listed.
HALVES = {"q4_1": (0, 2), "q5_1": (0, 2), "q2_k": (80, 82), "q3_k": (108,), "q4_k": (0, 2), "q5_k": (0, 2)} | {
    "q6_k": (208,),
    "tq1_0": (52,),
    "tq2_0": (64,),
}


def weights(seed: int) -> np.ndarray:
    """Heavy-tailed weights, blocks of different size, one of zeros."""
    rng = np.random.default_rng(seed)
    w = (0.02 * np.exp(rng.standard_normal((24, 4, 1))) * rng.standard_t(4, (24, 4, 256))).astype(F32)
    w[3, 1] = 0
    return w.reshape(24, 1024)


def half(symbols: np.ndarray) -> np.ndarray:
    return symbols.view(np.float16).astype(F32)


def one_scale(name: str, s: dict[str, np.ndarray], codes: np.ndarray) -> np.ndarray:
    if name == "mxfp4":
        return np.ldexp(F32(0.5), s["scales"].astype(np.int32) - 127).astype(F32)[:, None] * E2M1_DOUBLED[codes]
    if name == "q8_0":
        levels = codes.view(np.int8).astype(F32)
    elif name == "iq4_nl":
        levels = LEVELS.values[codes]
    else:
        levels = codes.astype(F32) - F32({"q4_0": 8, "q5_0": 16, "tq1_0": 1, "tq2_0": 1}.get(name, 0))
    return half(s["scales"])[:, None] * levels + (half(s["mins"])[:, None] if "mins" in s else 0)


def super_block(name: str, s: dict[str, np.ndarray], codes: np.ndarray) -> np.ndarray:
    raw = s["scales"].reshape(len(s["super_scales"]), -1)
    signed = {"q3_k": lambda: raw.astype(np.int8) - 32, "iq4_xs": lambda: raw.astype(np.int8) - 32}
    signed["q6_k"] = lambda: raw.view(np.int8)
    d = (half(s["super_scales"])[:, None] * signed.get(name, lambda: raw)().astype(F32)).reshape(-1, 1)
    if name == "iq4_xs":
        return d * LEVELS.values[codes]
    values = d * (codes.astype(F32) - F32({"q3_k": 4, "q6_k": 32}.get(name, 0)))
    if "mins" in s:
        low = half(s["super_mins"])[:, None] * s["mins"].reshape(raw.shape).astype(F32)
        values -= low.reshape(-1, 1)
    return values


def rebuilt(name: str, s: dict[str, np.ndarray]) -> np.ndarray:
    """The weights, by the formula that the module states."""
    codes = s["codes"].reshape(-1, KINDS[name][1])
    return (super_block if "super_scales" in s else one_scale)(name, s, codes)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_codes_and_scales_give_the_gguf_packages_weights_to_the_bit(name, seed):
    w, q = weights(seed), getattr(ggml, name)("")
    streams = q.quantize(w)
    theirs = quants.dequantize(streams["data"].reshape(len(w), -1), GGMLQuantizationType[name.upper()])
    assert np.array_equal(q.dequantize(streams, w.shape), theirs)
    symbols = q.symbols(streams, w.shape)
    assert np.array_equal(rebuilt(name, symbols).reshape(w.shape), theirs)
    assert symbols["codes"].size == w.size
    assert int(symbols["codes"].max()) < 1 << KINDS[name][0]
    assert symbols["scales"].size == w.size // KINDS[name][1]


@pytest.mark.parametrize("name", KINDS)
def test_any_bytes_are_read_as_the_gguf_package_reads_them(name):
    """Random blocks reach every bit of every field; the FP16 scales are made finite."""
    kind = WEIGHT_TYPES[name.upper()]
    blocks = np.random.default_rng(2).integers(0, 256, (64, kind.block_bytes)).astype(np.uint8)
    if name == "mxfp4":
        blocks[:, 0] = np.minimum(blocks[:, 0], 250)
    else:
        for place in HALVES.get(name, (0,)):
            blocks[:, place + 1] &= 0xBB  # no exponent of ones
    theirs = quants.dequantize(blocks, GGMLQuantizationType[name.upper()])
    symbols = getattr(ggml, name)("").symbols({"data": blocks.reshape(-1)}, (64, kind.block_weights))
    assert np.array_equal(rebuilt(name, symbols).reshape(64, -1), theirs)


@pytest.mark.parametrize(("name", "width"), [("f32", np.uint32), ("f16", np.uint16), ("bf16", np.uint16)])
def test_floats_are_their_own_symbols(name, width):
    w, q = weights(0), getattr(ggml, name)("")
    streams = q.quantize(w)
    codes = q.symbols(streams, w.shape)["codes"]
    assert codes.dtype == width
    assert codes.size == w.size
    kind = {"f32": np.uint32(0), "f16": np.uint16(0), "bf16": np.uint32(16)}[name]
    as_float = (codes.astype(np.uint32) << kind).view(F32) if name != "f16" else codes.view(np.float16).astype(F32)
    assert np.array_equal(as_float.reshape(w.shape), q.dequantize(streams, w.shape))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "name", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4", "tq1_0", "tq2_0", "bf16", "f16", "f32"]
)
def test_blocks_are_those_of_the_gguf_package(name, seed):
    w = weights(seed)
    theirs = np.ascontiguousarray(quants.quantize(w, GGMLQuantizationType[name.upper()])).view(np.uint8).reshape(-1)
    assert np.array_equal(getattr(ggml, name)("").quantize(w)["data"], theirs)
