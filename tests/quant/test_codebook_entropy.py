"""Order-0 entropy of codes on drawn weights: 16.8 M samples published in the study's table, a quarter as many here."""

from __future__ import annotations

import numpy as np
import pytest

from simio import quant

SHAPE = (1024, 4096)

#: Bits per code on Gaussian, Laplace, Student t5 and Student t3 weights.
EXPECTED = {
    "nf4": (3.88, 3.59, 3.67, 3.42),
    "fp4:group16": (3.90, 3.82, 3.87, 3.81),
}


@pytest.fixture(scope="module", params=range(4), ids=["gauss", "laplace", "t5", "t3"])
def drawn(request) -> tuple[int, np.ndarray]:
    rng = np.random.default_rng(0)
    draw = (
        lambda: rng.standard_normal(SHAPE),
        lambda: rng.laplace(size=SHAPE),
        lambda: rng.standard_t(5, SHAPE),
        lambda: rng.standard_t(3, SHAPE),
    )[request.param]
    return request.param, draw().astype(np.float32)


@pytest.mark.parametrize("name", EXPECTED)
def test_entropy_of_codes(name, drawn):
    which, w = drawn
    layout = quant.parse(name)
    counts = np.bincount(layout.symbols(layout.quantize(w), w.shape)["codes"])
    shares = counts[counts > 0] / w.size
    assert float(-(shares * np.log2(shares)).sum()) == pytest.approx(EXPECTED[name][which], abs=0.03)
