"""INT4 groups on an INT8 grid: integer scales of groups under one float scale of the channel.

DGQ, "Dual Grained Quantization", arXiv 2310.04836: ``w8 = S·(code - zero)`` is an INT8 weight, ``w = s·w8``, with an
integer ``S`` a group and a float ``s`` an output channel, so that an INT8 matrix product can run over all groups.

The two-phase grid search: first each group's step, by shrinking its range; then, with those steps, each channel's
``s``, by moving its largest magnitude; ``S = max(1, round(step / s))``. Codes are held where ``|w8| ≤ 127``. Both
phases minimise the weights' squared error, weighted by the mean square of each input where that is known (the paper:
the error of the layer's output on calibration data). ``s`` is FP32, like the scales of channels elsewhere in simio.
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

_HINT = "write for example dgq:group128"
_OPTIONS = re.compile(r"group(\d+)")
_TOP = 15
_INT8_MAX = 127
_GROUP_RATIOS = np.linspace(1, 0.8, 11, dtype=np.float32)
_CHANNEL_RATIOS = np.linspace(1.08, 0.4, 35, dtype=np.float32)  # above 1: 15·S rarely comes to just 127


@dataclass(frozen=True, slots=True)
class DualGrained(Quantizer):
    """INT4 codes and zero points, an integer scale for each ``group`` weights, a float scale a row."""

    group: int = 128
    importance: FloatArray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.group < 2:
            raise UsageError(f"dgq: a group of {self.group} weights cannot share a scale", _HINT)

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"dgq:group{self.group}"

    def calibrated(self, activations: Activations) -> DualGrained:
        """With both searches weighted by the mean square of each input."""
        return replace(self, importance=importance.of_columns(activations))

    def quantize(self, w: FloatArray) -> Streams:
        """Streams ``codes`` and ``zeros`` (packed, 4 bits), ``group_scales`` (UINT8) and ``scales`` (FP32, one a row)
        of ``w (n_out, n_in)``.
        """
        x = checked(w, self.group, self.name, FP16_MAX)
        counts = importance.for_matrix(self.importance, x.shape[1], self.name).reshape(-1, self.group)
        groups = x.reshape(len(x), -1, self.group)
        steps, zeros = _group_steps(groups, counts)
        scales = _channel_scales(groups, counts, steps, zeros)
        whole = _whole_scales(steps, scales)
        codes = _codes(groups, whole, scales, zeros)
        return {
            "codes": pack(codes.astype(np.uint8), 4),
            "zeros": pack(zeros.astype(np.uint8), 4),
            "group_scales": whole.astype(np.uint8).reshape(-1),
            "scales": scales,
        }

    def coarse(self, streams: Streams, shape: tuple[int, int]) -> npt.NDArray[np.int8]:
        """The INT8 weights ``(n_out, n_in)`` that an INT8 kernel multiplies: ``S·(code - zero)``."""
        found = self.symbols(streams, shape)
        centred = found["codes"].reshape(-1, self.group).astype(np.int16) - found["zeros"][:, None]
        coarse: npt.NDArray[np.int8] = (centred * streams["group_scales"][:, None]).astype(np.int8).reshape(shape)
        return coarse

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``: the INT8 ones times their channel's scale."""
        return self.coarse(streams, shape).astype(np.float32) * streams["scales"][:, None].astype(np.float32)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Stored bits per weight of a matrix of ``shape``: codes, zeros and both kinds of scales."""
        n, n_groups = shape[0] * shape[1], shape[0] * (shape[1] // self.group)
        return 8 * (packed_bytes(n, 4) + packed_bytes(n_groups, 4) + n_groups + 4 * shape[0]) / n

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Codes and zeros one an item; scales as they are."""
        n = shape[0] * shape[1]
        unpacked = {"codes": unpack(streams["codes"], 4, n), "zeros": unpack(streams["zeros"], 4, n // self.group)}
        return {key: integers(stream) for key, stream in streams.items()} | unpacked


def _group_steps(groups: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Step and zero point of each group ``(n_out, n_groups)``: the best shrinking of its range (phase 1)."""
    low, high = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
    best = np.full(low.shape, np.inf, np.float32)
    steps, zeros = np.zeros_like(low), np.zeros_like(low)
    for ratio in _GROUP_RATIOS:
        step = ratio * (high / _TOP - low / _TOP)
        zero = np.clip(_divided(-low * ratio, step), 0, _TOP)
        codes = np.clip(_divided(groups, step[:, :, None]) + zero[:, :, None], 0, _TOP)
        error = _error(groups, (codes - zero[:, :, None]) * step[:, :, None], counts)
        best, steps, zeros = np.where(error < best, (error, step, zero), (best, steps, zeros))
    return steps, zeros


def _channel_scales(groups: FloatArray, counts: FloatArray, steps: FloatArray, zeros: FloatArray) -> FloatArray:
    """Scale of each channel ``(n_out,)``: the best share of its largest magnitude (phase 2)."""
    peak = np.abs(groups).max(axis=(1, 2))
    best: FloatArray = np.full(len(groups), np.inf, np.float32)
    scales: FloatArray = np.zeros_like(peak)
    for ratio in _CHANNEL_RATIOS:
        scale = peak * ratio / _INT8_MAX
        whole = _whole_scales(steps, scale)
        codes = _codes(groups, whole, scale, zeros)
        fitted = (codes - zeros[:, :, None]) * (whole * scale[:, None])[:, :, None]
        error = _error(groups, fitted, counts).sum(axis=1)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, scale, scales)
    return scales


def _whole_scales(steps: FloatArray, scales: FloatArray) -> FloatArray:
    """The integer scales ``S`` of groups, at least 1."""
    whole: FloatArray = np.clip(_divided(steps, scales[:, None]), 1, _INT8_MAX)
    return whole


def _codes(groups: FloatArray, whole: FloatArray, scales: FloatArray, zeros: FloatArray) -> FloatArray:
    """Codes 0 … 15 that also keep ``|S·(code - zero)|`` within 127."""
    reach = np.floor(_INT8_MAX / whole)[:, :, None]
    zero = zeros[:, :, None]
    nearest = _divided(groups, (whole * scales[:, None])[:, :, None]) + zero
    codes: FloatArray = np.clip(nearest, np.maximum(zero - reach, 0), np.minimum(zero + reach, _TOP))
    return codes


def _error(x: FloatArray, fitted: FloatArray, counts: FloatArray) -> FloatArray:
    """Weighted squared error of each group ``(n_out, n_groups)``."""
    error: FloatArray = np.einsum("ijk,jk->ij", np.square(fitted - x), counts)
    return error


def _divided(x: FloatArray, steps: FloatArray) -> FloatArray:
    """``round(x / step)``; 0 where the step is 0."""
    wide = np.broadcast_to(steps, x.shape)
    return np.rint(np.divide(x, wide, out=np.zeros_like(x), where=wide > 0))


def dgq(options: str) -> DualGrained:
    """The layout of ``groupN``, 128 when nothing is said."""
    match = _OPTIONS.fullmatch(options or "group128")
    if not match:
        raise UsageError(f"dgq: '{options}' is not groupN", _HINT)
    return DualGrained(int(match[1]))
