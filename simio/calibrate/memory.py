"""How fast all threads together read RAM."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from simio.calibrate.kernels import shared_rate
from simio.units import MIB

#: A thread's part of the array is read in pieces of this size.
_PIECE = 4 * MIB


class BigArray:
    """Memory several times larger than the caches."""

    def __init__(self, n_bytes: int) -> None:
        self._values = np.ones(n_bytes // 4, np.float32)

    def bandwidth(self, n_threads: int, duration_s: float) -> float:
        """Bytes per second that ``n_threads`` read together, each its own part, by numpy reductions."""
        parts = np.array_split(self._values, n_threads)
        return sum(shared_rate([_reading(part) for part in parts], duration_s))


def _reading(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Callable[[int], int]:
    """Read one piece, by number. ``max`` is the numpy reduction that asks least of a core."""
    pieces = np.array_split(values, max(1, values.nbytes // _PIECE))
    sink = threading.local()

    def read(number: int) -> int:
        piece = pieces[number % len(pieces)]
        sink.value = piece.max()
        return int(piece.nbytes)

    return read
