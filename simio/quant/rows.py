"""Arithmetic on rows of weights, many and often short, that lie under one scale each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.quant.contract import FloatArray

#: Weights worked on at a time: the arrays of a scale search stay in the processor's cache.
_RUN_WEIGHTS = 1 << 17


def magnitudes(rows: FloatArray) -> FloatArray:
    """Largest magnitude of each row, ``(n,)``."""
    return in_runs(_magnitudes, rows)


def _magnitudes(rows: FloatArray) -> FloatArray:
    """Neighbours are folded as long as rows halve: numpy is slow to reduce many short rows."""
    flat, width = np.abs(rows).reshape(-1), rows.shape[1]
    while width % 2 == 0:
        flat, width = np.maximum(flat[0::2], flat[1::2]), width // 2
    peaks: FloatArray = flat.reshape(len(rows), width).max(axis=1)
    return peaks


def mean_magnitudes(rows: FloatArray) -> npt.NDArray[np.float64]:
    """Mean magnitude of each row, ``(n,)``."""
    means: npt.NDArray[np.float64] = np.mean(np.abs(rows), axis=1, dtype=np.float64)
    return means


def divided(x: FloatArray, scales: FloatArray) -> FloatArray:
    """``x / scales``, and 0 where the scale is 0."""
    divisors: FloatArray = np.where(scales > 0, scales, np.float32(np.inf))
    return x / divisors


def in_runs(f: Callable[..., npt.NDArray[Any]], rows: npt.NDArray[Any], *beside: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``f(rows, *beside)`` for a function of each row by itself, computed for some rows at a time."""
    step = max(1, _RUN_WEIGHTS // rows.shape[1])
    starts = range(0, len(rows), step)
    return np.concatenate([f(*(array[start : start + step] for array in (rows, *beside))) for start in starts])
