"""How much each input column of a matrix counts: the mean square of what it multiplies.

``diag(XᵀX) / n_tokens`` is the diagonal of the layer's Hessian up to a factor (GPTQ, arXiv 2210.17323, Eq. 1): an error
of a weight costs its square times this. Without calibration all columns count alike.
"""

from __future__ import annotations

import numpy as np

from simio.errors import UsageError
from simio.quant.contract import Activations, FloatArray


def of_columns(activations: Activations) -> FloatArray:
    """Mean square of each input ``(n_in,)``, float32, scaled to mean 1; ones where all inputs are zero."""
    square: FloatArray = np.maximum(np.diag(activations.gram), 0).astype(np.float32)
    mean = float(square.mean())
    return square / np.float32(mean) if mean > 0 else np.ones_like(square)


def for_matrix(importance: FloatArray | None, n_in: int, what: str) -> FloatArray:
    """``importance (n_in,)``, ones when there is none.

    Raises ``UsageError`` when it belongs to a matrix of another width; ``what`` names the layout in the message.
    """
    if importance is None:
        return np.ones(n_in, np.float32)
    if importance.shape != (n_in,):
        raise UsageError(
            f"{what} was calibrated for {importance.size} inputs, the matrix has {n_in}", "calibrate it for this matrix"
        )
    return importance
