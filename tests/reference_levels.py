"""Weights quantized as the papers say, one level at a time in float64: what the layouts are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

GPT2 = Path(__file__).parents[1].parent / "shared" / "models" / "gpt2-124m-attn-fp32be"

#: QLoRA, arXiv 2305.14314, appendix E.
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
#: OCP Microscaling Formats (MX) Specification 1.0, FP4: codes 0 … 15.
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


def minifloats(exponent_bits: int, mantissa_bits: int, largest: float) -> list[float]:
    """All finite numbers of a format, by the definition of its fields (arXiv 2209.05433, Table 1)."""
    bias = 2 ** (exponent_bits - 1) - 1
    found = []
    for e in range(2**exponent_bits):
        for m in range(2**mantissa_bits):
            fraction = m / 2**mantissa_bits
            found.append((1 + fraction) * 2.0 ** (e - bias) if e else fraction * 2.0 ** (1 - bias))
    positive = [x for x in found if x <= largest]
    return sorted({*positive, *(-x for x in positive)})


E4M3 = minifloats(4, 3, 448)
E5M2 = minifloats(5, 2, 57344)


def nearest(x: np.ndarray, levels: list[float] | np.ndarray) -> np.ndarray:
    """The nearest level of each ``x``, by looking at all of them."""
    table = np.sort(np.asarray(levels, np.float64))
    best = np.full(x.shape, table[0])
    for level in table[1:]:
        best = np.where(np.abs(x - level) < np.abs(x - best), level, best)
    return best


def under_absmax(w: np.ndarray, levels: list[float] | np.ndarray, group: int) -> np.ndarray:
    """``w`` with one exact scale for ``group`` weights, which takes the largest of them to the largest level."""
    rows = w.astype(np.float64).reshape(-1, group)
    scale = np.abs(rows).max(axis=1, keepdims=True) / max(levels)
    return (nearest(rows / scale, levels) * scale).reshape(w.shape)


def weights(kind: str) -> np.ndarray:
    """256 rows of 768: ``gauss``, ``student`` (4 degrees of freedom) or ``gpt2``, real and skipped where absent."""
    rng = np.random.default_rng(11)
    if kind == "gpt2":
        if not GPT2.is_dir():
            pytest.skip(f"no GPT-2 weights at {GPT2}")
        return np.fromfile(GPT2 / "decoder4" / "att.query.w.dat", ">f4").reshape(768, 768).T[:256].astype(np.float32)
    draw = rng.standard_normal((256, 768)) if kind == "gauss" else rng.standard_t(4, (256, 768))
    return (0.02 * draw).astype(np.float32)


KINDS = ("gauss", "student", "gpt2")


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)))
