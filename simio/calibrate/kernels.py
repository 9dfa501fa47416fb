"""The runtime's kernels as a calibration runs them: 1 MiB chunks walked in order, block of rows by block of rows.

The working set is larger than the last-level cache, so weights come from RAM, as they do in a run.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simio.records.weight_types import weight_type
from simio.units import MIB

N_COLS = 2048
CHUNK_BYTES = MIB
#: Tokens of a prefill batch: the prompt of a scenario that does not say.
N_TOKENS = 128
#: Class of a device file → the stored type that stands for it.
TYPES = {
    "f32": "F32", "f16": "F16", "bf16": "BF16", "fp8": "F8_E4M3", "int8": "I8", "int4": "INT4", "q8_0": "Q8_0",
    "q6_k": "Q6_K", "q5_k": "Q5_K", "q4_k": "Q4_K", "q4_0": "Q4_0", "q3_k": "Q3_K", "q2_k": "Q2_K", "iq4": "IQ4_XS",
    "iq3": "IQ3_S", "iq2": "IQ2_XS", "mxfp4": "MXFP4",
}  # fmt: skip

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """``n_rows`` rows of ``N_COLS`` weights of ``dtype``, as stored."""

    dtype: str
    data: memoryview
    n_rows: int


class Arena:
    """Memory larger than the caches, filled anew for each weight type, so that seventeen types need no more RAM.

    Chunks are objects of their own in pages of ordinary size, as a run holds them: one large array would lie in huge
    pages and be read some per cent faster.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_chunks = max(2, n_bytes // CHUNK_BYTES)
        self._holds = ""
        self._blocks: list[Rows] = []

    def blocks(self, dtype: str) -> list[Rows]:
        """The arena as blocks of rows of ``dtype``, as the runtime cuts them, in order."""
        if self._holds != dtype:
            self._blocks = []
            self._blocks = list(self._fill(dtype))
            self._holds = dtype
        return self._blocks

    def _fill(self, dtype: str) -> Iterator[Rows]:
        from simio.runtime.kernels import row_bytes, rows_per_block

        size = row_bytes(dtype, N_COLS)
        per_block, per_chunk = rows_per_block(size), CHUNK_BYTES // size
        pattern = np.resize(stored_rows(dtype, min(per_chunk, 64)), per_chunk * size)
        for _ in range(self._n_chunks):
            chunk = memoryview(pattern.tobytes())
            for first in range(0, per_chunk, per_block):
                n = min(per_block, per_chunk - first)
                yield Rows(dtype, chunk[first * size : (first + n) * size], n)


def working_set_bytes(sysfs: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Twice the last-level cache, at least 32 and at most 256 MiB."""
    sizes = [path.read_text().strip() for path in sysfs.glob("index*/size")]
    found = [int(m[1]) * {"K": 1024, "M": MIB, "": 1}[m[2]] for s in sizes if (m := re.fullmatch(r"(\d+)([KM]?)", s))]
    return min(256 * MIB, max(32 * MIB, 2 * max(found, default=0)))


def stored_rows(dtype: str, n_rows: int) -> npt.NDArray[np.uint8]:
    """``n_rows`` rows of Gaussian weights (σ = 0.02) stored as ``dtype``; their values are ordinary numbers."""
    rng = np.random.default_rng(0)
    packing = weight_type(dtype)
    n_bytes = n_rows * N_COLS // packing.block_weights * packing.block_bytes
    weights = rng.normal(0.0, 0.02, (n_rows, N_COLS)).astype(np.float32)
    if dtype == "F32":
        return weights.reshape(-1).view(np.uint8)
    if dtype in ("F16", "BF16"):
        wide = weights.astype(np.float16) if dtype == "F16" else (weights.view(np.uint32) >> 16).astype(np.uint16)
        return wide.reshape(-1).view(np.uint8)
    blocks = rng.integers(0, 256, (n_bytes // packing.block_bytes, packing.block_bytes), dtype=np.uint8)
    for place in _HALVES.get(dtype, ()):
        blocks[:, place : place + 2] = np.frombuffer(np.float16(0.001).tobytes(), np.uint8)
    if dtype == "MXFP4":
        blocks[:, 0] = 120
    if dtype == "F8_E4M3":
        blocks &= 0x7E  # neither NaN nor a sign
    return blocks.reshape(-1)


#: Where the FP16 units of a block lie: random bytes there would be NaN or infinite. Source: ggml-common.h.
_HALVES = {
    "Q8_0": (0,), "Q4_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q3_K": (108,), "Q2_K": (80, 82),
    "IQ4_XS": (0,), "IQ3_S": (0,), "IQ2_XS": (0,),
}  # fmt: skip


def can_compute(dtype: str) -> bool:
    """Whether the runtime has a kernel for ``dtype``."""
    from simio.runtime.dequantizing import known_dtypes

    return dtype in known_dtypes()


def gemv_work(blocks: Sequence[Rows]) -> Callable[[int], int]:
    """One block of a matrix-vector product, by number; bytes done."""
    from simio.runtime.kernels import matvec

    x = np.random.default_rng(1).normal(size=N_COLS).astype(np.float32)
    out = threading.local()

    def multiply(number: int) -> int:
        rows = blocks[number % len(blocks)]
        matvec(rows.dtype, rows.data, rows.n_rows, N_COLS, x, _buffer(out, rows.n_rows), _scales(rows.dtype))
        return len(rows.data)

    return multiply


def gemm_work(blocks: Sequence[Rows]) -> Callable[[int], int]:
    """One block of a prefill batch of ``N_TOKENS``, by number; flop done."""
    from simio.runtime.kernels import matmul

    x = np.random.default_rng(1).normal(size=(N_TOKENS, N_COLS)).astype(np.float32)
    out = threading.local()

    def multiply(number: int) -> int:
        rows = blocks[number % len(blocks)]
        result = _buffer(out, N_TOKENS * rows.n_rows).reshape(N_TOKENS, rows.n_rows)
        matmul(rows.dtype, rows.data, rows.n_rows, N_COLS, x, result, _scales(rows.dtype))
        return 2 * N_TOKENS * N_COLS * rows.n_rows

    return multiply


def _buffer(held: threading.local, n: int) -> FloatArray:
    buffer: FloatArray | None = getattr(held, "buffer", None)
    if buffer is None or len(buffer) < n:
        buffer = held.buffer = np.empty(n, np.float32)
    return buffer[:n]


def _scales(dtype: str) -> FloatArray | None:
    """I8 and FP8 matrices carry a scale; one a matrix costs as much as any."""
    return np.ones(1, np.float32) if dtype in ("I8", "F8_E4M3") else None


def shared_rate(works: Sequence[Callable[[int], int]], duration_s: float) -> list[float]:
    """A thread for each of ``works``, all at once; how much each does per second while all of them run.

    Threads that were given the same function share its numbers: together they walk through one working set.
    """
    turns = {id(work): itertools.count() for work in works}
    done = [0.0] * len(works)
    start = threading.Barrier(len(works))

    def run(k: int) -> None:
        work, numbers = works[k], turns[id(works[k])]
        work(next(numbers))
        start.wait()
        begin_s = time.perf_counter()
        total, elapsed_s = 0, 0.0
        while elapsed_s < duration_s:
            total += work(next(numbers))
            elapsed_s = time.perf_counter() - begin_s
        done[k] = total / elapsed_s

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(1, len(works))]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    return done


def one_blas_thread() -> AbstractContextManager[Any]:
    """BLAS on the calling thread only, as in a run."""
    from simio.runtime.kernels import one_blas_thread as limited

    context: AbstractContextManager[Any] = limited()
    return context
