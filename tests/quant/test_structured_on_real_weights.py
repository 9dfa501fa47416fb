"""Structured layouts on GPT-2's attention. Skips where the weights are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simio import quant

ATTENTION = Path(__file__).parents[2].parent / "shared" / "models" / "gpt2-124m-attn-fp32be"

pytestmark = pytest.mark.skipif(not ATTENTION.is_dir(), reason=f"no GPT-2 weights at {ATTENTION}")


def matrix(layer: int, name: str) -> np.ndarray:
    return np.fromfile(ATTENTION / f"decoder{layer}" / f"att.{name}.w.dat", ">f4").reshape(768, 768).T


def error(name: str, w: np.ndarray) -> float:
    quantizer = quant.parse(name)
    back = quantizer.dequantize(quantizer.quantize(w), w.shape)
    return float(np.sqrt(np.mean(np.square(back - w))) / w.std())


@pytest.mark.parametrize(("layer", "name"), [(1, "query"), (8, "value")])
def test_layouts_of_about_two_bits_rank_as_their_papers_say(layer, name):
    w = matrix(layer, name)
    plain = error("int2:group64:affine", w)
    assert error("vptq:v8:k256:r256", w) < 0.85 * plain
    assert error("jlcm:2:books16", w) < 0.85 * plain
    assert error("mixed24:group16:share16", w) < 0.75 * plain
    assert error("lowrank:16:int2:group64:affine", w) < plain
    assert error("dgq:group128", w) < error("int4:group128:zero", w)


def test_elastic_layouts_improve_with_what_is_loaded():
    w = matrix(1, "query")
    for name, lengths in (("nested:8", range(1, 9)), ("mwq:6", range(2, 7)), ("bitstack:6", range(1, 7))):
        quantizer = quant.parse(name)
        streams = quantizer.quantize(w)
        errors = [np.square(quantizer.dequantize_prefix(streams, w.shape, n) - w).mean() for n in lengths]
        assert (np.diff(errors) < 0).all()


def test_sign_planes_of_real_weights_have_a_bit_of_entropy():
    """No lossless gain is left in BitStack's signs."""
    quantizer = quant.parse("bitstack:4")
    w = matrix(1, "query")
    symbols = quantizer.symbols(quantizer.quantize(w), w.shape)
    for i in range(4):
        share = symbols[f"signs_{i}"].mean()
        assert -share * np.log2(share) - (1 - share) * np.log2(1 - share) > 0.999
