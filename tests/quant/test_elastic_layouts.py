"""Layouts of which a prefix is worth something: nested planes, residual planes, BitStack."""

from __future__ import annotations

import numpy as np
import pytest

from simio.errors import UsageError
from simio.quant.bitstack import BitStack
from simio.quant.nested import Nested
from simio.quant.residual_planes import ResidualPlanes
from simio.quant.uniform import Uniform
from simio.testing import random_activations


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return (0.02 * np.random.default_rng(12).standard_normal((192, 512))).astype(np.float32)


def rmse(back: np.ndarray, w: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(back - w))) / w.std())


@pytest.mark.parametrize("n_planes", range(1, 9))
def test_a_prefix_of_nested_planes_is_the_direct_quantization(weights, n_planes):
    whole, direct = Nested(8), Nested(n_planes)
    streams = whole.quantize(weights)
    kept = {key: stream for key, stream in streams.items() if not key > f"plane_{n_planes}" or key == "scales"}
    assert set(direct.quantize(weights)) == set(kept)
    assert np.array_equal(
        whole.dequantize_prefix(kept, weights.shape, n_planes),
        direct.dequantize(direct.quantize(weights), weights.shape),
    )
    assert whole.prefix_bits_per_weight(weights.shape, n_planes) == direct.bits_per_weight(weights.shape)


def test_every_nested_plane_halves_the_error(weights):
    layout = Nested(8)
    streams = layout.quantize(weights)
    errors = [rmse(layout.dequantize_prefix(streams, weights.shape, i), weights) for i in range(1, 9)]
    ratios = np.divide(errors[1:], errors[:-1])
    assert (ratios < 0.6).all()
    assert (ratios > 0.4).all()


def test_nested_weights_stand_in_the_middle_of_their_cells():
    w = np.linspace(0, 1, 65, dtype=np.float32)[:64].reshape(1, 64)  # range 63/64
    layout = Nested(2)
    back = layout.dequantize(layout.quantize(w), w.shape)
    assert np.allclose(np.unique(back), (np.arange(4) + 0.5) * 63 / 64 / 4, atol=1e-3)


@pytest.mark.parametrize("base", [2, 4])
def test_residual_planes_are_nested(weights, base):
    long, short = ResidualPlanes(8, 64, base), ResidualPlanes(5, 64, base)
    streams = short.quantize(weights)
    longer = long.quantize(weights)
    assert all(np.array_equal(longer[key], stream) for key, stream in streams.items())
    assert np.array_equal(long.dequantize_prefix(streams, weights.shape, 5), short.dequantize(streams, weights.shape))
    assert long.prefix_bits_per_weight(weights.shape, 5) == pytest.approx(short.bits_per_weight(weights.shape))


def test_residual_planes_start_from_the_asymmetric_base(weights):
    layout, base = ResidualPlanes(6), Uniform(2, 64, "zero")
    back = layout.dequantize_prefix(layout.quantize(weights), weights.shape, 2)
    assert np.array_equal(back, base.dequantize(base.quantize(weights), weights.shape))


def test_every_residual_plane_lowers_the_error(weights):
    layout = ResidualPlanes(8)
    streams = layout.quantize(weights)
    errors = [rmse(layout.dequantize_prefix(streams, weights.shape, bits), weights) for bits in range(2, 9)]
    assert (np.divide(errors[1:], errors[:-1]) < 0.7).all()


def test_bitstack_error_falls_with_every_block(weights):
    layout = BitStack(8)
    streams = layout.quantize(weights)
    errors = [rmse(layout.dequantize_prefix(streams, weights.shape, n), weights) for n in range(1, 9)]
    assert (np.divide(errors[1:], errors[:-1]) < 0.8).all()
    assert 0.5 < errors[0] < np.sqrt(1 - 2 / np.pi)  # |N(0, 1)| without its mean leaves 0.603; rank 16 takes more


def test_bitstack_error_falls_with_the_rank(weights):
    errors = [
        rmse(layout.dequantize(layout.quantize(weights), weights.shape), weights)
        for layout in (BitStack(2, rank) for rank in (1, 4, 16, 64))
    ]
    assert errors == sorted(errors, reverse=True)


def test_bitstack_signs_and_factors_rebuild_a_block(weights):
    streams = BitStack(1).quantize(weights)
    signs = np.unpackbits(streams["signs_0"], bitorder="little")[: weights.size].reshape(weights.shape)
    assert np.array_equal(signs, weights >= 0)
    product = streams["u_0"].reshape(192, 16).astype(np.float32) @ streams["v_0"].reshape(16, 512).astype(np.float32)
    assert np.allclose(BitStack(1).dequantize(streams, weights.shape), np.where(signs, product, -product))


def test_calibrated_bitstack_takes_no_more_bytes_and_folds_its_scales(weights):
    layout = BitStack(1, 1).calibrated(random_activations(512))
    plain = BitStack(1, 1)
    streams = layout.quantize(weights)
    scaled, back = plain.dequantize(streams, weights.shape), layout.dequantize(streams, weights.shape)
    folded = scaled / back
    assert np.allclose(folded, folded[:1], rtol=1e-4)  # one factor a column
    norms = np.sqrt(np.diag(random_activations(512).gram))
    assert np.corrcoef(folded[0], norms)[0, 1] > 0.999


#: d, ffn and kv width, layers, vocabulary; MiB of a block with k = 16 (arXiv 2410.23918, Table 6); and, by arithmetic
#: from these, MiB of a level, bits a weight and level, MiB of 16 levels with embedding and head in FP16.
PUBLISHED = {
    "Llama-2-7B": ((4096, 11008, 4096, 32, 32000), (2.25, 2.25, 5.84), (848, 1.099, 14072)),
    "Llama-3.1-8B": ((4096, 14336, 1024, 32, 128256), (2.25, 0.66, 7.56), (912, 1.096, 16596)),
    "Llama-2-13B": ((5120, 13824, 5120, 40, 32000), (3.44, 3.44, 9.02), (1632, 1.079, 26735)),
    "Llama-2-70B": ((8192, 28672, 1024, 80, 32000), (8.50, 1.28, 29.13), (8555, 1.048, 137880)),
}
MIB = 1 << 20


@pytest.mark.parametrize("model", PUBLISHED)
def test_bitstack_blocks_are_as_large_as_published(model):
    (d, ffn, kv, _, _), published, _ = PUBLISHED[model]
    layout = BitStack()
    for shape, mib in zip(((d, d), (kv, d), (ffn, d)), published, strict=True):
        assert layout.block_bytes(shape) / MIB == pytest.approx(mib, abs=0.00501)
        assert layout.block_bytes(shape) == layout.block_bytes(shape[::-1])


@pytest.mark.parametrize("model", PUBLISHED)
def test_bitstack_levels_and_stacks_add_up(model):
    (d, ffn, kv, n_layers, vocabulary), _, (level_mib, bits, stack_mib) = PUBLISHED[model]
    layout, linears = BitStack(), [(d, d)] * 2 + [(kv, d)] * 2 + [(ffn, d)] * 2 + [(d, ffn)]
    level = n_layers * sum(map(layout.block_bytes, linears))
    n_weights = n_layers * sum(m * n for m, n in linears)
    assert level / MIB == pytest.approx(level_mib, abs=0.51)
    assert 8 * level / n_weights == pytest.approx(bits, abs=0.00051)
    assert (16 * level + 2 * 2 * vocabulary * d) / MIB == pytest.approx(stack_mib, abs=0.51)
    assert layout.bits_per_weight((d, d)) == 16 * BitStack(1).bits_per_weight((d, d))


@pytest.mark.parametrize("layout", [Nested(4), ResidualPlanes(4), BitStack(4)])
@pytest.mark.parametrize("n", [0, 5])
def test_a_prefix_that_is_not_there_is_refused(layout, n, weights):
    with pytest.raises(UsageError, match=str(n)):
        layout.dequantize_prefix(layout.quantize(weights), weights.shape, n)
