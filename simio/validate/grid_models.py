"""The models of a grid: generated weights of real layouts, large enough to stream and small enough to run often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simio.runtime.checkpoint import Shape, Storing, bfloat16, int8_per_tensor, write_checkpoint


def _model(name: str, n_layers: int, storing: Storing, tail: float) -> Callable[[Path], Path]:
    """``tail``: degrees of freedom of the weights' t distribution; few make a largest weight far from the rest."""

    def make(folder: Path) -> Path:
        path, rng = folder / name, np.random.default_rng(n_layers)
        shape = Shape(n_layers, 1024, 2816, 16, 16, 8000)

        def weights(_: str, size: tuple[int, int]) -> npt.NDArray[np.float32]:
            drawn: npt.NDArray[np.float32] = (rng.standard_t(tail, size) / np.sqrt(size[1])).astype(np.float32)
            return drawn

        if not (path / "model.safetensors").exists():
            write_checkpoint(path, shape, weights, storing)
        return path

    return make


#: Name → how to make it below a folder. INT8 with one scale per tensor: codes of about 4 bits of entropy, as trained
#: weights have under such a scale; BF16 compresses by its exponents.
MODELS = {
    "int8-tensor": _model("int8-tensor", 12, int8_per_tensor, 4.5),
    "bf16": _model("bf16", 6, bfloat16, 30.0),
}
