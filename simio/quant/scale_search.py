"""Search the scale (and minimum) of many small groups at once, as ggml does: the least weighted error wins.

Each function takes groups ``x (n, m)`` float32 and returns one number per group. They express the searches of
ggml-quants.c (``make_qkx2_quants``, ``make_qx_quants``, ``make_q3_quants``, ``quantize_row_iq4_nl_impl``; llama.cpp,
MIT) in array form; codes are computed afterwards from the scales as stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simio.quant.contract import ByteArray, FloatArray

Column = npt.NDArray[np.float32]  # one value per group


class Levels:
    """Ascending whole-number levels within ±127, with the nearest one found by table.

    The borders between neighbours are then multiples of 1/2, so ``floor(2x)`` decides; a tie goes to the upper level.
    """

    def __init__(self, values: tuple[int, ...]) -> None:
        self.values: FloatArray = np.array(values, np.float32)
        borders = (self.values[1:] + self.values[:-1]) / 2
        self._index = np.searchsorted(borders, np.arange(-256, 256) / 2, side="right").astype(np.uint8)

    def nearest(self, x: FloatArray) -> ByteArray:
        """Index of the nearest level for every element of ``x``."""
        halves = np.clip(np.floor(2 * x), -256, 255).astype(np.int16)
        return self._index[halves + 256]


def affine(
    x: FloatArray, weights: FloatArray, top: int, trials: Sequence[float], absolute: bool
) -> tuple[Column, Column]:
    """Scale and minimum (≤ 0) with ``x ≈ scale·code + minimum``, codes 0 … ``top``.

    Every trial divides the range into ``top + trial`` steps, rounds, and solves the weighted least squares for scale
    and minimum; the trial with the least weighted squared (or, if ``absolute``, absolute) error wins.
    """
    total, total_x = weights.sum(axis=1), _dot(weights, x)
    low, high = np.minimum(x.min(axis=1), 0), x.max(axis=1)
    scale = (high - low) / np.float32(top)
    best = _error(x, weights, _codes(x, low, _inverse(scale), top), (scale, low), absolute)
    for trial in trials:
        codes = _codes(x, low, np.float32(top + trial) * _inverse(high - low), top)
        weighted = weights * codes
        sum_l, sum_ll, sum_xl = weighted.sum(axis=1), _dot(weighted, codes), _dot(weighted, x)
        new_scale, new_low = _least_squares(total, total_x, sum_l, sum_ll, sum_xl)
        error = _error(x, weights, codes, (new_scale, new_low), absolute)
        better = (error < best) & (total * sum_ll > sum_l * sum_l)
        scale, low, best = np.where(better, (new_scale, new_low, error), (scale, low, best))
    return scale, low


def symmetric(x: FloatArray, top: int) -> Column:
    """Signed scale with ``x ≈ scale·code``, codes ``-top`` … ``top - 1``, each weight weighted by its square."""
    peak = _signed_peak(x)
    weights = x * x
    scale, best = np.zeros_like(peak), np.full_like(peak, -1)
    for trial in (0, *range(-9, 0), *range(1, 10)):
        codes = np.clip(np.rint(x * (np.float32(-(top + 0.1 * trial)) * _inverse(peak))[:, None]), -top, top - 1)
        scale, best = _keep_better(weights * codes, x, codes, scale, best)
    return scale


def refined(x: FloatArray, top: int, rounds: int = 5) -> Column:
    """Signed scale as :func:`symmetric`, by moving one code at a time to the value that fits the others' scale."""
    weights = x * x
    codes = np.clip(np.rint(x * (np.float32(-top) * _inverse(_signed_peak(x)))[:, None]), -top, top - 1)
    sum_xl, sum_ll = _dot(weights * x, codes), _dot(weights * codes, codes)
    for i in list(range(x.shape[1])) * rounds:
        w, value, code = weights[:, i], x[:, i], codes[:, i]
        rest_xl, rest_ll = sum_xl - w * value * code, sum_ll - w * code * code
        new = np.clip(np.rint(value * rest_ll * _inverse(rest_xl)), -top, top - 1)
        new_xl, new_ll = rest_xl + w * value * new, rest_ll + w * new * new
        better = (rest_xl > 0) & (new_ll > 0) & (new_xl * new_xl * sum_ll > sum_xl * sum_xl * new_ll)
        codes[:, i] = np.where(better, new, code)
        sum_xl, sum_ll = np.where(better, (new_xl, new_ll), (sum_xl, sum_ll))
    return sum_xl * _inverse(sum_ll)


def codebook(x: FloatArray, levels: Levels, n_trials: int = 7) -> Column:
    """Signed scale with ``x ≈ scale·levels.values[code]``, each weight weighted by its square."""
    peak = _signed_peak(x)
    weights = x * x
    scale, best = np.zeros_like(peak), np.full_like(peak, -1)
    first = levels.values[0]
    for start in (-first, *(first + trial for trial in range(-n_trials, n_trials + 1))):
        chosen = levels.values[levels.nearest(x * (np.float32(start) * _inverse(peak))[:, None])]
        scale, best = _keep_better(weights * chosen, x, chosen, scale, best)
    return scale


def _keep_better(
    weighted: FloatArray, x: FloatArray, codes: FloatArray, scale: Column, best: Column
) -> tuple[Column, Column]:
    sum_xl, sum_ll = _dot(weighted, x), _dot(weighted, codes)
    fitted = sum_xl * _inverse(sum_ll)
    gain = fitted * sum_xl
    better = gain > best
    return np.where(better, fitted, scale), np.where(better, gain, best)


def _codes(x: FloatArray, low: Column, inverse: Column, top: int) -> FloatArray:
    codes = x - low[:, None]
    codes *= inverse[:, None]
    return np.clip(np.rint(codes, out=codes), 0, top, out=codes)


def _least_squares(
    total: Column, total_x: Column, sum_l: Column, sum_ll: Column, sum_xl: Column
) -> tuple[Column, Column]:
    """Weighted fit of ``x = scale·l + low`` with ``low ≤ 0``."""
    inverse = _inverse(total * sum_ll - sum_l * sum_l)
    scale = (total * sum_xl - total_x * sum_l) * inverse
    low = (sum_ll * total_x - sum_l * sum_xl) * inverse
    return np.where(low > 0, sum_xl * _inverse(sum_ll), scale), np.minimum(low, 0)


def _error(x: FloatArray, weights: FloatArray, codes: FloatArray, fit: tuple[Column, Column], absolute: bool) -> Column:
    """Weighted error of ``x ≈ scale·code + low``, ``fit`` being (scale, low)."""
    difference = codes * fit[0][:, None]
    difference += fit[1][:, None]
    difference -= x
    return _dot(weights, np.abs(difference) if absolute else difference * difference)


def _signed_peak(x: FloatArray) -> Column:
    """The element of largest magnitude of each group, with its sign."""
    where = np.abs(x).argmax(axis=1)
    return np.take_along_axis(x, where[:, None], axis=1)[:, 0]


def _inverse(x: Column) -> Column:
    """``1/x``, and 0 where that is not a finite number."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / x
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _dot(a: FloatArray, b: FloatArray) -> Column:
    result: Column = np.einsum("ij,ij->i", a, b)
    return result
