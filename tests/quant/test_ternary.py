"""Ternary layouts: levels by the papers' formula, entropies, packing, and weights that were trained ternary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simio.quant import parse
from simio.quant.ternary import Ternary
from simio.quant.trits import pack_trits, unpack_trits

MODELS = Path(__file__).parents[2].parent / "shared" / "models" / "bitllama-ternary"


def levels(q: Ternary, w: np.ndarray) -> np.ndarray:
    codes = q.symbols(q.quantize(w), w.shape)["codes"]
    return codes.reshape(w.shape).astype(int) - 1


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


@pytest.mark.parametrize(("rule", "gamma"), [("absmean", np.mean), ("absmedian", np.median)])
def test_levels_are_those_of_the_formula(rule, gamma):
    w = np.random.default_rng(1).standard_t(5, (32, 256)).astype(np.float32)
    scale = gamma(np.abs(w), axis=1, keepdims=True)
    q = parse(f"ternary:{rule}:channel")
    assert np.array_equal(levels(q, w), np.clip(np.rint(w / scale), -1, 1))
    np.testing.assert_allclose(q.quantize(w)["scales"], scale[:, 0], rtol=1e-6)


def test_half_of_gamma_rounds_to_zero():
    # mean |w| = 2, so 1 is a half, which rounds to the even 0
    assert levels(Ternary(), row(1, -1, 4, -2)).tolist() == [[0, 0, 1, -1]]


def test_twn_keeps_the_mean_of_the_kept():
    # mean |w| = 2, threshold 1.4: kept are 4 and -2
    q = Ternary("twn")
    streams = q.quantize(row(1, -1, 4, -2))
    assert streams["scales"].tolist() == [3.0]
    assert q.dequantize(streams, (1, 4)).tolist() == [[0, 0, 3, -3]]


def test_twn_errs_least_of_all_scales_for_its_levels():
    w = np.random.default_rng(2).standard_normal((1, 4096)).astype(np.float32)
    q = Ternary("twn")
    scale = float(q.quantize(w)["scales"][0])
    errors = [np.sum((w - factor * scale * levels(q, w)) ** 2) for factor in (0.99, 1, 1.01)]
    assert min(errors) == errors[1]


@pytest.mark.parametrize(
    ("distribution", "expected"), [("normal", 1.583), ("laplace", 1.574), ("t5", 1.585), ("t3", 1.578)]
)
def test_entropy_of_absmean_levels(distribution, expected):
    rng, shape = np.random.default_rng(0), (512, 1024)
    w = {
        "normal": lambda: rng.standard_normal(shape),
        "laplace": lambda: rng.laplace(size=shape),
        "t5": lambda: rng.standard_t(5, shape),
        "t3": lambda: rng.standard_t(3, shape),
    }[distribution]()
    counts = np.bincount(levels(Ternary(), w.astype(np.float32)).reshape(-1) + 1)
    shares = counts / counts.sum()
    assert -(shares * np.log2(shares)).sum() == pytest.approx(expected, abs=0.03)


def test_packing_does_not_change_levels():
    w = np.random.default_rng(3).standard_normal((7, 33)).astype(np.float32)
    assert np.array_equal(levels(Ternary(base3=True), w), levels(Ternary(), w))


@pytest.mark.parametrize("n", [1, 4, 5, 6, 1000, 1003])
def test_trits_come_back(n):
    codes = np.random.default_rng(n).integers(0, 3, n).astype(np.uint8)
    packed = pack_trits(codes)
    assert packed.size == -(-n // 5)
    assert packed.max() < 243
    assert np.array_equal(unpack_trits(packed, n), codes)


def test_one_median_for_all_rows_needs_all_rows():
    assert parse("ternary:absmean").rows_apart
    assert parse("ternary:absmedian:channel").rows_apart
    assert not parse("ternary:absmedian").rows_apart
    assert not parse("ternary:twn").rows_apart


def trained_matrices(folder: Path) -> list[np.ndarray]:
    """The matrices of a bitllama2.c file: a float32 scale and 2-bit levels (00 = 0, 01 = +1, 11 = -1) each."""
    raw = (folder / "bit_model.bin").read_bytes()
    d, hidden, layers, heads, kv_heads, vocab, _ = np.frombuffer(raw, "<i4", 7, offset=8).tolist()
    kv = d // heads * kv_heads
    at, found = 256 + 4 * (d + vocab * d), []
    for shape in ((d, d), (kv, d), (kv, d), (d, d), (hidden, d), (d, hidden), (hidden, d)):
        n = shape[0] * shape[1]
        for _ in range(layers):
            scale = np.frombuffer(raw, "<f4", 1, offset=at)
            packed = np.frombuffer(raw, np.uint8, n // 4, offset=at + 4)
            bits = packed[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
            found.append((np.array([0, 1, 0, -1], np.float32)[bits].reshape(shape) * scale).astype(np.float32))
            at += 4 + n // 4
    assert at == len(raw)
    return found


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no ternary weights at {MODELS}")
@pytest.mark.parametrize("model", ["outmini_bit_1M", "outmini_bit_3M"])
def test_levels_of_weights_trained_ternary_come_back(model):
    for w in trained_matrices(MODELS / model):
        trained = np.sign(w).astype(int)
        for name in ("ternary:absmean", "ternary:absmedian", "ternary:twn", "ternary:absmean:base3"):
            assert np.array_equal(levels(parse(name), w), trained), name
        twn = parse("ternary:twn:base3")
        assert np.array_equal(twn.dequantize(twn.quantize(w), w.shape), w)
