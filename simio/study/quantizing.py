"""One matrix under one layout, run by run: rows become streams, streams become chunks, chunks are compressed.

Layouts whose rows are apart see runs of ``RUN_WEIGHTS`` and are told the whole tensor's range; streams that belong to
the whole tensor (its scale) come with every run and count once. Other layouts see the whole matrix up to
``WHOLE_WEIGHTS``, and runs of a larger one as if they were matrices of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from simio.codecs.base import Codec
from simio.errors import UsageError
from simio.profiling.chunking import WeightsSource
from simio.quant.contract import Activations, FloatArray, Quantizer, Streams, TensorSummary
from simio.study.matrices import RUN_WEIGHTS, WHOLE_WEIGHTS, WeightMatrix
from simio.study.tally import Outcome, Tally

#: Large matrices that layouts see whole are quantized one at a time, to bound memory.
_large = threading.Semaphore(1)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A matrix, the digest of its bytes and the summary of its weights."""

    matrix: WeightMatrix
    digest: str
    summary: TensorSummary


class Stopped(Exception):
    """The study ends before this matrix is done."""


def set_up(quantizer: Quantizer, surveyed: Surveyed, inputs: Activations | None) -> Quantizer:
    """``quantizer`` for this matrix and its ``inputs``; raises ``UsageError`` where it needs them and has none."""
    if inputs is not None:
        quantizer = quantizer.calibrated(inputs)
    elif quantizer.needs_activations:
        raise UsageError("its inputs on a calibration text are not known")
    return quantizer.for_tensor(surveyed.summary) if quantizer.rows_apart else quantizer


def compress_matrix(
    surveyed: Surveyed,
    quantizer: Quantizer,
    codecs: Sequence[Codec],
    chunk_bytes: int,
    source: WeightsSource,
    done: Callable[[int], None],
) -> Outcome:
    """What the codecs make of the streams of ``quantizer``, which is set up; ``done(weights)`` is told of every run.

    Raises ``UsageError`` where the layout refuses the weights, ``ModelFileError`` when they cannot be read; what
    ``done`` raises comes through.
    """
    matrix = surveyed.matrix
    tally = Tally(quantizer, codecs, chunk_bytes)
    runs = matrix.runs(RUN_WEIGHTS if quantizer.rows_apart else WHOLE_WEIGHTS)
    of_tensor: frozenset[str] = frozenset()
    for first, n_rows in runs:
        is_large = n_rows * matrix.shape[1] > RUN_WEIGHTS
        with _large if is_large else nullcontext():
            w = matrix.read(source, first, n_rows)
            streams = quantizer.quantize(w)
            tally.count_error(w, streams)
        tally.count_codes(streams, w.shape)
        if first == 0 and len(runs) > 1 and quantizer.rows_apart:
            of_tensor = _of_tensor(quantizer, w, streams)
        tally.add({key: stream for key, stream in streams.items() if first == 0 or key not in of_tensor})
        done(w.size)
    return tally.end(matrix.n_weights)


def _of_tensor(quantizer: Quantizer, w: FloatArray, streams: Streams) -> frozenset[str]:
    """The streams that do not grow with the rows: those of the tensor."""
    other = quantizer.quantize(w[: len(w) // 2] if len(w) > 1 else np.repeat(w, 2, axis=0))
    return frozenset(key for key, stream in streams.items() if stream.nbytes == other[key].nbytes)
