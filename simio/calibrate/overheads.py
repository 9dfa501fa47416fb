"""What a run pays beside reading, decompressing and multiplying: hand-overs, small operators, sharing a matrix."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from statistics import median

import numpy as np

from simio.calibrate.scratch_file import ScratchFile
from simio.records.model import Architecture, Model, Stream, Tensor
from simio.runtime import kernels
from simio.runtime.forward import Decoder
from simio.runtime.hyperparameters import Hyperparameters
from simio.runtime.in_ram import InRamWeights
from simio.runtime.matrices import matrix_of
from simio.runtime.scratch import FloatArray

#: A decoder of middling width: its small operators take what those of a model worth streaming take.
_D, _D_FF, _N_HEADS, _N_KV, _N_LAYERS, _VOCAB = 1024, 1024, 16, 4, 4, 4096


def hand_over_s(duration_s: float) -> float:
    """Time from ``queue.put`` in one thread to the return of ``queue.get`` in another that waits: half a round trip."""
    there: queue.Queue[int] = queue.Queue()
    back: queue.Queue[int] = queue.Queue()

    def echo() -> None:
        while there.get():
            back.put(1)

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    n, begin_s = 0, time.perf_counter()
    while n < 20 or time.perf_counter() - begin_s < duration_s:
        there.put(1)
        back.get()
        n += 1
    elapsed_s = time.perf_counter() - begin_s
    there.put(0)
    thread.join()
    return elapsed_s / n / 2


def read_call_s(file: ScratchFile, duration_s: float) -> float:
    """Time of one preadv(2) of a page that is in the page cache: what a read costs beyond its transfer."""
    handle = os.open(file.path, os.O_RDONLY)
    buffers = [bytearray(4096)]
    try:
        n, begin_s = 0, time.perf_counter()
        while n < 20 or time.perf_counter() - begin_s < duration_s:
            os.preadv(handle, buffers, 0)
            n += 1
        return (time.perf_counter() - begin_s) / n
    finally:
        os.close(handle)


class Layers:
    """A decoder in RAM, by itself and matrix by matrix: what a token takes beside its kernels, and what threads add."""

    def __init__(self) -> None:
        tensors = _tensors()
        architecture = Architecture("llama", _N_LAYERS, _D, _N_HEADS, _N_KV, _D // _N_HEADS, _D_FF, _VOCAB)
        model = Model("overheads", "file", "gguf", "", 0, architecture, tensors)
        shape = Hyperparameters("llama", _N_LAYERS, _D, _N_HEADS, _N_KV, _D // _N_HEADS, _D_FF, _VOCAB, 0,
                                1e-5, 10000.0, "neighbours", _D // _N_HEADS)  # fmt: skip
        weights = InRamWeights(model, _Gaussian())
        self._weights = weights
        self._alone = Decoder(model, shape, weights)
        self._matrices = [matrix_of(t) for t in tensors if len(t.shape) > 1 and t.role != "embedding"]
        self._shared: dict[int, Decoder] = {1: self._alone}
        self._model, self._shape = model, shape
        self._alone.feed([1])

    def overhead_s(self, duration_s: float) -> float:
        """Time of a decoded token per layer, less what the kernels alone take for its matrices. [s]"""
        token_s, kernels_s = self._token_s(1, duration_s / 2), self._kernels_s(duration_s / 2)
        return max(0.0, (token_s - kernels_s) / _N_LAYERS)

    def thread_efficiency(self, n_threads: int, duration_s: float) -> float:
        """Rate of each of ``n_threads`` that share every matrix ÷ the rate of one alone, small operators aside."""
        alone_s, kernels_s = self._token_s(1, duration_s / 3), self._kernels_s(duration_s / 3)
        shared_s = self._token_s(n_threads, duration_s / 3) - max(0.0, alone_s - kernels_s)
        return min(1.0, kernels_s / (n_threads * max(1e-9, shared_s)))

    def _token_s(self, n_threads: int, duration_s: float) -> float:
        if n_threads not in self._shared:
            self._shared[n_threads] = Decoder(self._model, self._shape, self._weights, n_threads)
        decoder = self._shared[n_threads]
        decoder.reset()
        times: list[float] = []
        end_s = time.perf_counter() + duration_s
        while len(times) < 3 or time.perf_counter() < end_s:
            begin_s = time.perf_counter()
            decoder.next_token([1])
            times.append(time.perf_counter() - begin_s)
            if decoder.n_positions >= 64:
                decoder.reset()
        return median(times)

    def _kernels_s(self, duration_s: float) -> float:
        """The same matrices in the same blocks, without a decoder around them."""
        x = {m.n_cols: np.full(m.n_cols, 0.01, np.float32) for m in self._matrices}
        out = np.empty(max(m.n_rows for m in self._matrices), np.float32)
        times: list[float] = []
        end_s = time.perf_counter() + duration_s
        while len(times) < 3 or time.perf_counter() < end_s:
            begin_s = time.perf_counter()
            for m in self._matrices:
                for part in self._weights.parts(m.name):
                    for block in part:
                        kernels.matvec(m.dtype, block.data, block.n_rows, m.n_cols, x[m.n_cols], out[: block.n_rows])
            times.append(time.perf_counter() - begin_s)
        return median(times)


class _Gaussian:
    """Reads any tensor as Gaussian weights."""

    def read(self, stream: Stream, start: int, n_bytes: int) -> bytes:
        if stream.dtype == "F32":
            return np.ones(n_bytes // 4, np.float32).tobytes()
        values: FloatArray = np.random.default_rng(start).normal(0.0, 0.02, n_bytes // 2).astype(np.float32)
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def _tensors() -> tuple[Tensor, ...]:
    kv = _D * _N_KV // _N_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (_D,), "attn_q": (_D, _D), "attn_k": (kv, _D), "attn_v": (kv, _D), "attn_output": (_D, _D),
        "ffn_norm": (_D,), "ffn_gate": (_D_FF, _D), "ffn_up": (_D_FF, _D), "ffn_down": (_D, _D_FF),
    }  # fmt: skip
    layers = [(f"blk.{i}.{use}.weight", shape, i) for i in range(_N_LAYERS) for use, shape in shapes.items()]
    ends = {"token_embd": (_VOCAB, _D), "output_norm": (_D,), "output": (_VOCAB, _D)}
    outer = [(f"{use}.weight", shape, None) for use, shape in ends.items()]
    return tuple(_tensor(*one) for one in [*layers, *outer])


def _tensor(name: str, shape: tuple[int, ...], layer: int | None) -> Tensor:
    n = math.prod(shape)
    dtype, size = ("F32", 4) if len(shape) == 1 else ("BF16", 2)
    stream = Stream("data", dtype, shape, 0, 0, size * n)
    role = "norm" if len(shape) == 1 else "embedding" if name.startswith("token") else "mlp"
    return Tensor(name, shape, dtype, role, layer, None, 1, n, size * n, (stream,))
