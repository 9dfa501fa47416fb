"""Memory that a thread uses again and again, so that a kernel does not wait for the system to hand out pages."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

_LOCAL = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """An uninitialized array of this thread; the same memory for every call with this ``name``, grown as needed."""
    held: npt.NDArray[Any] | None = getattr(_LOCAL, name, None)
    if held is None or held.size < prod(shape):
        held = np.empty(prod(shape), dtype)
        setattr(_LOCAL, name, held)
    return held[: prod(shape)].reshape(shape)
