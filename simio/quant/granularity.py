"""How many weights share a scale: a group along the input axis, an output channel (a row) or the tensor.

As in :mod:`simio.quant.uniform`, the scales of groups are FP16, those of channels and tensors FP32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import FP16_MAX, FloatArray, checked

_GROUP = re.compile(r"group(\d+)")


@dataclass(frozen=True, slots=True)
class Granularity:
    """``group`` weights share a scale: a count, ``"channel"`` or ``"tensor"``."""

    group: int | str

    def __post_init__(self) -> None:
        if isinstance(self.group, int) and self.group < 2:
            raise UsageError(f"a group of {self.group} weights cannot share a scale", "write for example group64")
        if isinstance(self.group, str) and self.group not in ("tensor", "channel"):
            raise UsageError(f"'{self.group}' is not a granularity", "write tensor, channel or for example group64")

    @staticmethod
    def parse(text: str) -> Granularity:
        """The granularity called ``tensor``, ``channel`` or ``groupN``. Raises ``UsageError`` for anything else."""
        match = _GROUP.fullmatch(text)
        return Granularity(int(match[1]) if match else text)

    def __str__(self) -> str:
        return self.group if isinstance(self.group, str) else f"group{self.group}"

    @property
    def scale_type(self) -> np.dtype[Any]:
        """FP16 for groups, FP32 for channels and tensors."""
        return np.dtype(np.float32 if isinstance(self.group, str) else np.float16)

    def n_scales(self, shape: tuple[int, ...]) -> int:
        """How many scales a matrix of ``shape (n_out, n_in)`` has."""
        if self.group == "tensor":
            return 1
        return shape[0] if isinstance(self.group, str) else shape[0] * (shape[1] // self.group)

    def split(self, w: npt.NDArray[Any], what: str) -> FloatArray:
        """``w (n_out, n_in)``, checked as all layouts do, as ``(n_scales, weights that share one)`` float32.

        Raises ``UsageError`` as :func:`simio.quant.contract.checked` does; ``what`` names the layout.
        """
        group, largest = (1, float("inf")) if isinstance(self.group, str) else (self.group, FP16_MAX)
        x = checked(w, group, what, largest)
        return x.reshape(self.n_scales(x.shape), -1)


TENSOR = Granularity("tensor")
CHANNEL = Granularity("channel")


def mean_magnitudes(groups: FloatArray) -> npt.NDArray[np.float64]:
    """Mean of ``|w|`` of each row of ``groups (n_scales, m)``."""
    means: npt.NDArray[np.float64] = np.mean(np.abs(groups), axis=1, dtype=np.float64)
    return means
