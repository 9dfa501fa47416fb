"""Predicted times between the points of a lattice: exact at its points, piecewise linear in between.

One evaluation costs a walk through every run, and a fit asks for thousands, so they are remembered where factors are
whole multiples of ``STEP`` apart (in logarithms) and interpolated over the simplices of Freudenthal's triangulation.
Second derivatives of log time by log rate are at most 1/4, so the error stays below STEP²/32, 0.03 %; the slope
comes for free. Which points are remembered depends on no measured time, so fits that leave runs out may share them.
Reference: Kuhn, Some combinatorial lemmas in topology, 1960.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Between neighbours of the lattice, in natural logarithms.
STEP = 0.1


class Lattice:
    """``exact(point)``, a vector, interpolated; ``n`` dimensions."""

    def __init__(self, exact: Callable[[Array], Array], n: int) -> None:
        self._exact, self._n = exact, n
        self._known: dict[tuple[int, ...], Array] = {}

    def __call__(self, point: Array, active: tuple[int, ...]) -> tuple[Array, Array]:
        """Values at ``point`` and their derivatives by the ``active`` coordinates; the others must be 0."""
        cell = np.floor(point / STEP).astype(int)
        share = point / STEP - cell
        corner = cell.copy()
        before = self._at(corner)
        value = before.copy()
        slopes = np.zeros((len(before), len(active)))
        for i in sorted(active, key=lambda k: -share[k]):
            corner[i] += 1
            after = self._at(corner)
            value += share[i] * (after - before)
            slopes[:, active.index(i)] = (after - before) / STEP
            before = after
        return value, slopes

    def _at(self, corner: NDArray[np.int_]) -> Array:
        key = tuple(int(c) for c in corner)
        if key not in self._known:
            self._known[key] = self._exact(STEP * np.array(key, float))
        return self._known[key]
