"""How many weights share a scale: all of a tensor, an output channel (a row), or a group along the input axis."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import FloatArray

_GROUP = re.compile(r"group(\d+)")

#: Weights worked on at a time: the arrays of a scale search stay in the processor's cache.
_RUN_WEIGHTS = 1 << 17


@dataclass(frozen=True, slots=True)
class Grain:
    """``size`` weights share a scale: a count, ``"channel"`` (a row) or ``"tensor"``."""

    size: int | str

    @property
    def name(self) -> str:
        """``tensor``, ``channel`` or ``groupN``, as :func:`grain` reads it."""
        return self.size if isinstance(self.size, str) else f"group{self.size}"

    @property
    def multiple(self) -> int:
        """What the length of a row must be a multiple of."""
        return 1 if isinstance(self.size, str) else self.size

    def n_scales(self, shape: tuple[int, ...]) -> int:
        """Scales of a matrix of ``shape``."""
        if self.size == "tensor":
            return 1
        return shape[0] * (1 if isinstance(self.size, str) else shape[1] // self.size)

    def rows(self, x: FloatArray) -> FloatArray:
        """``x (n_out, n_in)`` as rows that lie under one scale each: groups ``(n_groups, size)``, or as it is."""
        return x if isinstance(self.size, str) else x.reshape(-1, self.size)

    def peaks(self, rows: FloatArray) -> FloatArray:
        """Largest magnitude under each scale, ``(n_scales,)``, of what :meth:`rows` gave."""
        peaks = magnitudes(rows)
        return peaks.max(keepdims=True) if self.size == "tensor" else peaks

    def column(self, scales: npt.NDArray[Any], n_rows: int) -> FloatArray:
        """``scales (n_scales,)`` as float32 ``(n_rows, 1)``, one beside each of :meth:`rows`."""
        return np.broadcast_to(scales.astype(np.float32)[:, None], (n_rows, 1))


def grain(text: str, what: str, hint: str) -> Grain:
    """The grain named ``text``; ``what`` and ``hint`` speak of the layout in the ``UsageError`` for anything else."""
    match = _GROUP.fullmatch(text)
    if match and int(match[1]) < 2:
        raise UsageError(f"{what}: a group of {int(match[1])} weights cannot share a scale", hint)
    if match is None and text not in ("tensor", "channel"):
        raise UsageError(f"{what}: '{text}' is not a granularity", hint)
    return Grain(int(match[1]) if match else text)


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


def divided(x: FloatArray, scales: FloatArray) -> FloatArray:
    """``x / scales``, and 0 where the scale is 0."""
    divisors: FloatArray = np.where(scales > 0, scales, np.float32(np.inf))
    return x / divisors


def in_runs(f: Callable[..., npt.NDArray[Any]], rows: npt.NDArray[Any], *beside: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``f(rows, *beside)`` for a function of each row by itself, computed for some rows at a time."""
    step = max(1, _RUN_WEIGHTS // rows.shape[1])
    starts = range(0, len(rows), step)
    return np.concatenate([f(*(array[start : start + step] for array in (rows, *beside))) for start in starts])
