"""Which weights are kept more precisely than the rest: an exact share of them, the ones with the highest score.

The share fixes their number, so that the size of a layout follows from the shape alone.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from simio.errors import UsageError
from simio.quant.contract import Activations, FloatArray

BoolArray = npt.NDArray[np.bool_]

_NUMBER = re.compile(r"\d*\.?\d+(e-?\d+)?")
_DAMPING = 0.01  # of the mean diagonal, as GPTQ (arXiv 2210.17323) and PB-LLM add to the Hessian


def read_share(text: str, layout: str, hint: str) -> float:
    """The share of salient weights that ``text`` tells. Raises ``UsageError`` unless it is a number in [0, 1)."""
    share = float(text) if _NUMBER.fullmatch(text) else -1.0
    if not 0 <= share < 1:
        raise UsageError(f"{layout}: '{text}' is not a share of the weights (0 to 1)", hint)
    return share


def highest(scores: FloatArray, count: int) -> BoolArray:
    """True at the ``count`` highest of ``scores`` (any shape, flat); of equal scores the first ones.

    >>> highest(np.array([1, 3, 2, 3, 2], np.float32), 3).tolist()
    [False, True, True, True, False]
    """
    flat = scores.reshape(-1)
    if count == 0:
        return np.zeros(flat.size, np.bool_)
    border = np.partition(flat, flat.size - count)[flat.size - count]
    chosen: BoolArray = flat > border
    ties = np.flatnonzero(flat == border)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return chosen


def hessian_salience(activations: Activations) -> FloatArray:
    """What ``|w|`` of each input channel counts ``(n_in,)``: ``1 / [H⁻¹]_jj`` with ``H = 2·XᵀX / n_tokens``, damped.

    Its square times ``w²`` is PB-LLM's salience ``w² / [H⁻¹]_jj²`` (arXiv 2310.00034).
    """
    hessian = 2 * activations.gram.astype(np.float64)
    diagonal = np.einsum("ii->i", hessian)  # a view
    diagonal += _DAMPING * max(float(diagonal.mean()), float(np.finfo(np.float32).tiny))
    return (1 / np.diag(np.linalg.inv(hessian))).astype(np.float32)


def fits(per_channel: FloatArray | None, n_in: int, layout: str) -> None:
    """Raise ``UsageError`` unless ``per_channel`` (a figure for each input channel, if any) is of ``n_in`` channels."""
    if per_channel is not None and len(per_channel) != n_in:
        raise UsageError(
            f"{layout} is calibrated for {len(per_channel)} input channels, the weights have {n_in}",
            "calibrate with the inputs of this matrix",
        )
