"""The best approximation of a matrix by a product of two thin ones, split evenly between them.

Small matrices: LAPACK's full SVD through numpy. Where both sides exceed ``EXACT_UP_TO``: randomized subspace iteration
(Halko, Martinsson, Tropp, arXiv 0909.4061, Algorithms 4.4 and 5.1) with 8 more vectors than the rank and 3 rounds of
orthonormalised power iteration, seeded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simio.quant.contract import FloatArray
from simio.quant.single_thread import single_threaded

EXACT_UP_TO = 256
_OVERSAMPLING = 8
_POWER_ROUNDS = 3


def factors(a: FloatArray, rank: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """``U√Σ (m, rank)`` and ``√Σ Vᵀ (rank, n)`` of the leading singular triplets of ``a (m, n)``."""
    with single_threaded():
        if min(a.shape) <= EXACT_UP_TO:
            u, s, vt = np.linalg.svd(a, full_matrices=False)
        else:
            basis = _range(a, min(rank + _OVERSAMPLING, *a.shape), np.random.default_rng(seed))
            inner, s, vt = np.linalg.svd(basis.T @ a, full_matrices=False)
            u = basis @ inner
    root = np.sqrt(s[:rank])
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def product(u: npt.NDArray[np.float16], v: npt.NDArray[np.float16], shape: tuple[int, ...]) -> FloatArray:
    """``U·V (m, n)`` in float32 of stored factors, flat or not: ``u (m, rank)``, ``v (rank, n)``."""
    with single_threaded():
        whole: FloatArray = u.astype(np.float32).reshape(shape[0], -1) @ v.astype(np.float32).reshape(-1, shape[1])
    return whole


def _range(a: FloatArray, width: int, rng: np.random.Generator) -> FloatArray:
    """An orthonormal basis ``(m, width)`` of about the space of ``a``'s leading left singular vectors."""
    basis: FloatArray = np.linalg.qr(a @ rng.standard_normal((a.shape[1], width), dtype=np.float32)).Q
    for _ in range(_POWER_ROUNDS):
        basis = np.linalg.qr(a @ np.linalg.qr(a.T @ basis).Q).Q
    return basis
