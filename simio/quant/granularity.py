"""How many weights share a scale: a group along the input axis, an output channel (a row) or the tensor.

The scales of groups are FP16, those of channels and tensors FP32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import FP16_MAX, FloatArray, checked
from simio.quant.rows import magnitudes

NAMES = re.compile(r"tensor|channel|group(\d+)")


@dataclass(frozen=True, slots=True)
class Granularity:
    """``group`` weights share a scale: a count, ``"channel"`` or ``"tensor"``."""

    group: int | str

    @staticmethod
    def parse(text: str, what: str, hint: str = "") -> Granularity:
        """The granularity called ``tensor``, ``channel`` or ``groupN``.

        Raises ``UsageError`` for anything else; ``what`` names the layout, ``hint`` says what to write, unless it is
        all of these behind that name.
        """
        hint = hint or f"write {what}:tensor, {what}:channel or for example {what}:group64"
        match = NAMES.fullmatch(text)
        if match is None:
            raise UsageError(f"{what}: '{text}' is not a granularity", hint)
        if match[1] and int(match[1]) < 2:
            raise UsageError(f"{what}: a group of {int(match[1])} weights cannot share a scale", hint)
        return Granularity(int(match[1]) if match[1] else text)

    def __str__(self) -> str:
        return self.group if isinstance(self.group, str) else f"group{self.group}"

    @property
    def multiple(self) -> int:
        """What the length of a row must be a multiple of."""
        return self.group if isinstance(self.group, int) else 1

    @property
    def scale_type(self) -> np.dtype[Any]:
        """FP16 for groups, FP32 for channels and tensors."""
        return np.dtype(np.float16 if isinstance(self.group, int) else np.float32)

    @property
    def largest(self) -> float:
        """The largest weight that :attr:`scale_type` can hold."""
        return FP16_MAX if isinstance(self.group, int) else float("inf")

    def n_scales(self, shape: tuple[int, ...]) -> int:
        """How many scales a matrix of ``shape (n_out, n_in)`` has."""
        if self.group == "tensor":
            return 1
        return shape[0] * shape[1] // self.group if isinstance(self.group, int) else shape[0]

    def scale_bytes(self, shape: tuple[int, ...]) -> int:
        """What the scales of a matrix of ``shape (n_out, n_in)`` take."""
        return self.n_scales(shape) * self.scale_type.itemsize

    def split(self, w: npt.NDArray[Any], what: str) -> FloatArray:
        """``w (n_out, n_in)``, checked as all layouts do, as ``(n_scales, weights that share one)`` float32.

        Raises ``UsageError`` as :func:`simio.quant.contract.checked` does; ``what`` names the layout.
        """
        return checked(w, self.multiple, what, self.largest).reshape(self.n_scales(w.shape), -1)

    def rows(self, x: FloatArray) -> FloatArray:
        """``x (n_out, n_in)`` as rows that lie under one scale each: groups ``(n_groups, group)``, or as it is."""
        return x.reshape(-1, self.group) if isinstance(self.group, int) else x

    def peaks(self, rows: FloatArray) -> FloatArray:
        """Largest magnitude under each scale, ``(n_scales,)``, of what :meth:`rows` gave."""
        peaks = magnitudes(rows)
        return peaks.max(keepdims=True) if self.group == "tensor" else peaks


TENSOR = Granularity("tensor")
CHANNEL = Granularity("channel")
