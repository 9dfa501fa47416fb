"""GPTQ: uniform codes chosen column by column, each column's error made good by the columns still to come.

Frantar et al., arXiv 2210.17323, algorithm 1, with the settings of the authors' code (IST-DASLab/gptq): H = 2·XᵀX,
inputs that are never active give weights of 0, damping of 1 % of H's mean diagonal, blocks of 128 columns. With U the
upper Cholesky factor of H⁻¹ (``H⁻¹ = UᵀU``) and q the code's value of column j, ``e = (w_j - q) / U_jj`` and every
later column k loses ``e·U_jk``. A group's scale is chosen from the weights as corrected so far. With ``actorder``
columns come in the order of falling H_jj, and scales from the weights as they were ("static groups"), so that the
layout stays that of the inner one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant import parse
from simio.quant.calibrated import Calibrated
from simio.quant.contract import FloatArray, Streams, checked
from simio.quant.integer_grid import IntegerGrid
from simio.quant.uniform import Uniform

Float64Array = npt.NDArray[np.float64]

_BLOCK_COLUMNS = 128
_BLOCK_FACTOR = 256
_DAMPING = 0.01


@dataclass(frozen=True, slots=True)
class Gptq(Calibrated):
    """The layout of ``inner``, its codes chosen for least output error."""

    inner: Uniform
    act_order: bool = False

    @property
    def name(self) -> str:
        """The text that :func:`simio.quant.parse` reads back."""
        return f"gptq:{'actorder:' if self.act_order else ''}{self.inner.name}"

    def quantize(self, w: FloatArray) -> Streams:
        """The streams of the inner layout.

        Raises ``UsageError`` before :meth:`calibrated`, and where the inputs are of another width.
        """
        x = checked(w, self.inner.row_multiple, self.name, self.inner.grain.largest)
        gram = self.inputs(x.shape[1]).gram
        diagonal = np.diag(gram)
        columns = np.where(diagonal > 0, x, np.float32(0)).T.copy()  # (n_in, n_out): a column of x is contiguous
        order = np.argsort(-diagonal, kind="stable") if self.act_order else np.arange(len(columns))
        return self._coded(columns, order, _upper_factor(gram, order))

    def dequantize(self, streams: Streams, shape: tuple[int, int]) -> FloatArray:
        """The weights ``(n_out, n_in)``."""
        return self.inner.dequantize(streams, shape)

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Those of the inner layout."""
        return self.inner.bits_per_weight(shape)

    def symbols(self, streams: Streams, shape: tuple[int, int]) -> Streams:
        """Those of the inner layout."""
        return self.inner.symbols(streams, shape)

    def _coded(self, columns: FloatArray, order: npt.NDArray[Any], factor: Float64Array) -> Streams:
        """The streams of ``columns (n_in, n_out)``, which are corrected in place, in ``order``."""
        n_in, n_out = columns.shape
        span = self.inner.columns_per_scale(n_in)
        grids: dict[int, IntegerGrid] = {}
        if self.act_order:
            grids = {start: self._grid(columns[start : start + span]) for start in range(0, n_in, span)}
            columns = columns[order]
        codes = np.empty((n_in, n_out), np.uint8)
        for block in range(0, n_in, _BLOCK_COLUMNS):
            end = min(block + _BLOCK_COLUMNS, n_in)
            upper = factor[block:end, block:].astype(np.float32)
            errors = np.empty((end - block, n_out), np.float32)
            for j in range(block, end):
                start = int(order[j]) // span * span
                if start not in grids:
                    grids[start] = self._grid(columns[start : start + span])
                code = grids[start].codes(self._groups(columns[j], len(grids[start].scales)))
                values = grids[start].values(code).reshape(-1)[:n_out]
                codes[order[j]] = code.reshape(-1)[:n_out]
                own = upper[j - block, j - block : end - block]
                errors[j - block] = (columns[j] - values) / own[0]
                columns[j + 1 : end] -= own[1:, None] * errors[j - block]
            columns[end:] -= upper[:, end - block :].T @ errors
        joined = IntegerGrid.joined([grids[start] for start in range(0, n_in, span)])
        return self.inner.streams(np.ascontiguousarray(codes.T), joined)

    def _grid(self, columns: FloatArray) -> IntegerGrid:
        """The levels of neighbouring columns that share scales."""
        return self.inner.grid(self.inner.grouped(np.ascontiguousarray(columns.T)))

    def _groups(self, column: FloatArray, n_scales: int) -> npt.NDArray[Any]:
        """One column of weights beside its ``n_scales`` scales: ``(n_scales, m, 1)``."""
        if self.inner.axis == "input":
            return self.inner.grouped(column[:, None])
        return column.reshape(n_scales, -1, 1)


def _upper_factor(gram: FloatArray, order: npt.NDArray[Any]) -> Float64Array:
    """U with ``UᵀU = (H + damping)⁻¹``, H in ``order``: as H reversed is ``LLᵀ``, U is ``L⁻¹`` reversed.

    Both steps work in place, block by block: the one float64 matrix is the largest thing there is, 0.5 GB for 8192
    inputs. (LAPACK's in-place routines, in scipy, hold Python's lock for as long as they take.)
    """
    backwards = order[::-1]
    h = np.empty(gram.shape, np.float64)
    for row, j in enumerate(backwards):
        h[row] = gram[j, backwards]
    h *= 2
    diagonal = np.einsum("ii->i", h)
    diagonal[diagonal <= 0] = 1
    diagonal += _DAMPING * diagonal.mean()
    spans = [slice(start, start + _BLOCK_FACTOR) for start in range(0, len(h), _BLOCK_FACTOR)]
    for own in spans:  # the Cholesky factor, a block of columns at a time
        below, before = slice(own.start, None), slice(0, own.start)
        h[below, own] -= h[below, before] @ h[own, before].T
        h[own, own] = _factor(h[own, own])
        h[own, own.stop :] = 0
        h[own.stop :, own] = h[own.stop :, own] @ np.linalg.inv(h[own, own]).T
    for own in spans:  # its inverse, a block of rows at a time
        before = slice(0, own.start)
        h[own, own] = np.linalg.inv(h[own, own])
        h[own, before] = -h[own, own] @ (h[own, before] @ h[before, before])
    return h[::-1, ::-1]


def _factor(block: Float64Array) -> npt.NDArray[Any]:
    try:
        lower: npt.NDArray[Any] | None = np.linalg.cholesky(block)
    except np.linalg.LinAlgError:
        lower = None
    if lower is None or not np.isfinite(lower).all():
        raise UsageError("gptq: the Gram matrix of the inputs is no Gram matrix", "calibrate with finite inputs")
    return lower


def gptq(options: str) -> Gptq:
    """``[actorder:]layout`` of a uniform layout."""
    act_order, inner = options.startswith("actorder:"), options.removeprefix("actorder:")
    layout = parse(inner) if inner else None
    if not isinstance(layout, Uniform):
        raise UsageError(
            f"gptq chooses uniform codes, not those of '{inner}'", "write for example gptq:int4:group128:zero"
        )
    return Gptq(layout, act_order)
