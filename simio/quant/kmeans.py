"""Codebooks by k-means (Lloyd's algorithm), seeded, trained on a sample so that large matrices stay bearable."""

from __future__ import annotations

import numpy as np

from simio.quant.contract import FloatArray
from simio.quant.index_packing import IndexArray
from simio.quant.single_thread import single_threaded

#: Vectors a codebook is trained on at most; all vectors are assigned afterwards.
N_TRAINING = 100_000
N_ROUNDS = 10
_DISTANCES_AT_ONCE = 1 << 18  # 1 MiB of float32: stays in a core's cache


def train(vectors: FloatArray, importance: FloatArray, n_entries: int, seed: int = 0) -> FloatArray:
    """A codebook ``(n_entries, length)`` for ``vectors (n, length)``, each counting ``importance (n,)``.

    It starts from different vectors drawn at random, or from quantiles where vectors are single numbers; where there
    are fewer different vectors than entries, some entries are equal. An entry that no vector is nearest to stays where
    it is. ``n_entries`` is at most ``n``.
    """
    rng = np.random.default_rng(seed)
    if len(vectors) > N_TRAINING:
        chosen = np.sort(rng.choice(len(vectors), N_TRAINING, replace=False))
        vectors, importance = vectors[chosen], importance[chosen]
    book = _start(vectors, n_entries, rng)
    for _ in range(N_ROUNDS if n_entries else 0):
        index = nearest(vectors, book)
        mass = np.bincount(index, importance, n_entries)[:, None]
        sums = np.stack([np.bincount(index, importance * column, n_entries) for column in vectors.T], axis=1)
        book = np.divide(sums, mass, out=book.astype(np.float64), where=mass > 0).astype(np.float32)
    return book


def nearest(vectors: FloatArray, book: FloatArray) -> IndexArray:
    """Index of the entry of ``book (k, length)`` nearest to each of ``vectors (n, length)``; of two the first."""
    half_norms = np.einsum("ij,ij->i", book, book) / 2
    against = np.vstack([-book.T, half_norms])  # (x, 1) · against = |c|²/2 - x·c, least where |x - c|² is
    index = np.empty(len(vectors), np.uint16)
    step = max(64, _DISTANCES_AT_ONCE // max(1, len(book)))
    with single_threaded():
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step]
            with_one = np.column_stack([part, np.ones(len(part), np.float32)])
            index[start : start + step] = (with_one @ against).argmin(axis=1)
    return index


def _start(vectors: FloatArray, n_entries: int, rng: np.random.Generator) -> FloatArray:
    if vectors.shape[1] > 1:
        distinct = np.unique(vectors, axis=0)
        drawn = rng.choice(len(distinct), min(n_entries, len(distinct)), replace=False)
        return distinct[np.resize(np.sort(drawn), n_entries)]
    shares = (np.arange(n_entries) + 0.5) / max(1, n_entries)
    return np.quantile(vectors, shares, axis=0).astype(np.float32)
