"""Groups of 2-bit codes, the most sensitive ones of 4 bits, under scales that are themselves 4-bit codes.

"Fast and Efficient 2-bit LLM Inference on GPU", arXiv 2311.16442: within one matrix, the few groups of large range and
large Hessian get 4 bits, the other 2; scales of groups are quantized to 4 bits under an FP16 scale (second order).

* A group's sensitivity is its range squared times the mean Hessian diagonal of its inputs (all 1 without calibration).
* Every row has as many 4-bit groups, so that rows begin at multiples of one stride (the paper's memory alignment).
* ``range = unit·u`` with ``u`` in 1 … 15 and one FP16 ``unit`` for 16 groups of a row; the range includes 0;
  ``step = range / (2^b - 1)``, ``zero = round(-min / step)``, ``w = (code - zero)·step``; zeros take b bits, too.

Bits a weight for groups of 16 and a share p of 4-bit groups: ``2.5 + 2.125 p``, tag bits included; 16 % gives 2.84,
where the paper says 2.85 (2.91 in its v4, with 16-bit sparse outliers, which are left out).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant import importance
from simio.quant.contract import FP16_MAX, Activations, FloatArray, Quantizer, Streams, checked, integers
from simio.quant.packing import pack, packed_bytes, unpack

_HINT = "write for example mixed24:group16:share16 (16 % of the groups of 16 weights have 4 bits)"
_OPTIONS = re.compile(r"(?:group(\d+))?(?::share(\d+))?")
_GROUPS_A_UNIT = 16
_TOP = 15  # of a range's 4-bit code


@dataclass(frozen=True, slots=True)
class MixedGroups(Quantizer):
    """Groups of ``group`` weights, ``percent`` of each row's (rounded, halves up) of 4 bits, the others of 2."""

    group: int = 16
    percent: int = 16
    importance: FloatArray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.group < 2:
            raise UsageError(f"mixed24: a group of {self.group} weights cannot share a scale", _HINT)
        if not 0 <= self.percent <= 100:
            raise UsageError(f"mixed24: {self.percent} % is no share of the groups", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"mixed24:group{self.group}:share{self.percent}"

    def calibrated(self, activations: Activations) -> MixedGroups:
        """With groups weighted by the mean square of their inputs."""
        return replace(self, importance=importance.of_columns(activations))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams of ``w (n_out, n_in)``, all packed but the FP16 ``units``: ``tags`` (one bit a group, 1 for 4 bits),
        ``codes_2``, ``codes_4``, ``zeros_2``, ``zeros_4`` and ``ranges`` (4 bits a group).
        """
        x = checked(w, self.group, self.name, FP16_MAX)
        counts = importance.for_matrix(self.importance, x.shape[1], self.name)
        groups = x.reshape(len(x), -1, self.group)
        low, high = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
        wide = self._wide((high - low) ** 2 * counts.reshape(-1, self.group).mean(axis=1))
        units, codes_of_ranges = _quantized_ranges(high - low)
        steps = _steps(units, codes_of_ranges, wide)
        top = np.where(wide, 15, 3)
        zeros = np.clip(_divided(-low, steps), 0, top)
        codes = np.clip(_divided(groups, steps[:, :, None]) + zeros[:, :, None], 0, top[:, :, None]).astype(np.uint8)
        return {
            "tags": pack(wide.astype(np.uint8), 1),
            "codes_2": pack(codes[~wide], 2),
            "codes_4": pack(codes[wide], 4),
            "zeros_2": pack(zeros[~wide].astype(np.uint8), 2),
            "zeros_4": pack(zeros[wide].astype(np.uint8), 4),
            "ranges": pack(codes_of_ranges, 4),
            "units": units.reshape(-1),
        }

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: ``(code - zero)·step``."""
        found, n_groups = self.symbols(streams, shape), shape[1] // self.group
        wide = found["tags"].reshape(shape[0], n_groups).astype(bool)
        centred = np.empty((*wide.shape, self.group), np.float32)
        for mask, bits in ((~wide, 2), (wide, 4)):
            codes = found[f"codes_{bits}"].reshape(-1, self.group).astype(np.float32)
            centred[mask] = codes - found[f"zeros_{bits}"][:, None]
        steps = _steps(streams["units"].reshape(shape[0], -1), found["ranges"].reshape(wide.shape), wide)
        return (centred * steps[:, :, None]).reshape(shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, zeros, tags, ranges and units, exact to the byte."""
        counts = self._counts(shape)
        units = shape[0] * -(-(shape[1] // self.group) // _GROUPS_A_UNIT)
        stored = sum(packed_bytes(n, bits) for n, bits in counts.values()) + 2 * units
        return 8 * stored / (shape[0] * shape[1])

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """All codes one an item; units as they are."""
        unpacked = {key: unpack(streams[key], bits, n) for key, (n, bits) in self._counts(shape).items()}
        return unpacked | {"units": integers(streams["units"])}

    def _n_wide(self, n_groups: int) -> int:
        """How many of a row's groups have 4 bits."""
        return (self.percent * n_groups + 50) // 100

    def _wide(self, sensitivity: FloatArray) -> npt.NDArray[np.bool_]:
        """The most sensitive groups of each row; of equal ones the first."""
        rank = np.argsort(np.argsort(-sensitivity, axis=1, kind="stable"), axis=1)
        wide: npt.NDArray[np.bool_] = rank < self._n_wide(sensitivity.shape[1])
        return wide

    def _counts(self, shape: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Of each packed stream, how many codes of how many bits."""
        n_groups = shape[0] * (shape[1] // self.group)
        n_wide = shape[0] * self._n_wide(shape[1] // self.group)
        n_narrow = n_groups - n_wide
        return {
            "tags": (n_groups, 1),
            "codes_2": (n_narrow * self.group, 2),
            "codes_4": (n_wide * self.group, 4),
            "zeros_2": (n_narrow, 2),
            "zeros_4": (n_wide, 4),
            "ranges": (n_groups, 4),
        }


def _quantized_ranges(ranges: FloatArray) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]:
    """FP16 units ``(n_out, ⌈n_groups / 16⌉)`` and the codes ``(n_out, n_groups)`` of ``ranges``."""
    padded = np.pad(ranges, ((0, 0), (0, -ranges.shape[1] % _GROUPS_A_UNIT)))
    units = (padded.reshape(len(ranges), -1, _GROUPS_A_UNIT).max(axis=2) / _TOP).astype(np.float16)
    codes = np.clip(_divided(ranges, _spread(units, ranges.shape[1])), 1, _TOP)
    return units, codes.astype(np.uint8)


def _steps(units: npt.NDArray[np.float16], codes: npt.NDArray[np.uint8], wide: npt.NDArray[np.bool_]) -> FloatArray:
    """The step of each group ``(n_out, n_groups)``."""
    top = np.where(wide, np.float32(15), np.float32(3))
    steps: FloatArray = (_spread(units, codes.shape[1]) * codes / top).astype(np.float32)
    return steps


def _spread(units: npt.NDArray[np.float16], n_groups: int) -> FloatArray:
    return np.repeat(units.astype(np.float32), _GROUPS_A_UNIT, axis=1)[:, :n_groups]


def _divided(x: FloatArray, steps: FloatArray) -> FloatArray:
    """``round(x / step)``; 0 where the stored step is 0."""
    wide = np.broadcast_to(steps, x.shape)
    return np.rint(np.divide(x, wide, out=np.zeros_like(x), where=wide > 0))


def mixed24(options: str) -> MixedGroups:
    """The layout of ``groupN`` with ``:sharePERCENT`` behind it; both have defaults."""
    match = _OPTIONS.fullmatch(options)
    if not match:
        raise UsageError(f"mixed24: '{options}' is not groupN:sharePERCENT", _HINT)
    return MixedGroups(int(match[1] or 16), 16 if match[2] is None else int(match[2]))
