"""What a study takes from a decoder that is run: what its matrices multiply, one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import xxhash

from simio.errors import WriteError
from simio.quant.contract import Activations, Quantizer
from simio.records.model import Model


@dataclass(frozen=True, slots=True)
class Calibration:
    """A decoder and its text, which ``digest`` identifies.

    ``run`` computes the decoder, at every call anew: the name and the inputs of each of ``tensors``, in the order of
    their use. Nothing is kept, so that memory does not grow with the layers.
    """

    digest: str
    tensors: frozenset[str]
    run: Callable[[], Generator[tuple[str, Activations]]]


def looks_at_activations(quantizer: Quantizer) -> bool:
    """Whether :meth:`Quantizer.calibrated` does anything."""
    return type(quantizer).calibrated is not Quantizer.calibrated


def calibrate(model: Model, tokens: npt.NDArray[np.int64]) -> Calibration:
    """``model`` on ``tokens (n_texts, n_tokens)``. Raises what :func:`simio.quality.activations` does."""
    from simio.quality import activations, multiplied

    digest = xxhash.xxh3_128_hexdigest(model.digest.encode() + tokens.tobytes())
    return Calibration(digest, multiplied(model), partial(activations, model, tokens))


def on_disk(seen: Activations) -> Activations:
    """The same with its gram in an unnamed temporary file; raises ``WriteError`` where there is no room for it."""
    try:
        with tempfile.TemporaryFile(prefix="simio-") as file:
            file.write(seen.gram.data)
            file.flush()
            return replace(seen, gram=np.memmap(file, seen.gram.dtype, "r", shape=seen.gram.shape))
    except OSError as error:
        raise WriteError(
            f"{seen.gram.nbytes:,} bytes of a Gram matrix cannot be kept in a temporary file: {error.strerror}",
            "free some space, or name another directory in TMPDIR",
        ) from error
