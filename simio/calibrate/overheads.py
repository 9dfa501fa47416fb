"""What a run pays beside reading, decompressing and multiplying: hand-overs between threads, a layer's small work."""

from __future__ import annotations

import math
import os
import queue
import threading
import time

import numpy as np

from simio.calibrate.scratch_file import ScratchFile
from simio.records.model import Architecture, Model, Stream, Tensor
from simio.runtime import kernels
from simio.runtime.forward import Decoder
from simio.runtime.hyperparameters import Hyperparameters
from simio.runtime.in_ram import InRamWeights
from simio.runtime.scratch import FloatArray

#: Matrices of a layer of a Llama-like decoder: each is one hand-over to the compute threads.
N_MATRICES = 7
_D, _D_FF, _N_HEADS, _N_KV, _N_LAYERS, _VOCAB = 256, 512, 4, 2, 8, 64


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
    """A small decoder in RAM: its layers hold few weights, so their time is norms, rotation, attention, calls."""

    def __init__(self) -> None:
        tensors = _tensors()
        architecture = Architecture("llama", _N_LAYERS, _D, _N_HEADS, _N_KV, _D // _N_HEADS, _D_FF, _VOCAB)
        model = Model("overheads", "file", "gguf", "", 0, architecture, tensors)
        shape = Hyperparameters("llama", _N_LAYERS, _D, _N_HEADS, _N_KV, _D // _N_HEADS, _D_FF, _VOCAB, 0,
                                1e-5, 10000.0, "neighbours", _D // _N_HEADS)  # fmt: skip
        self._decoder = Decoder(model, shape, InRamWeights(model, _Gaussian()))
        self._bare = [
            (t.shape, np.zeros(t.n_weights, np.float32)) for t in tensors if t.layer == 0 and len(t.shape) > 1
        ]
        self._decoder.feed([1])

    def overhead_s(self, duration_s: float) -> float:
        """Time of a decoded token per layer, less what the kernels alone take for the layer's matrices. [s]"""
        self._decoder.reset()
        tokens, begin_s = 0, time.perf_counter()
        while tokens < 3 or time.perf_counter() - begin_s < duration_s / 2:
            self._decoder.feed([1])
            tokens += 1
            if self._decoder.n_positions >= 64:
                self._decoder.reset()
        layer_s = (time.perf_counter() - begin_s) / tokens / _N_LAYERS
        return max(0.0, layer_s - self._kernels_s(duration_s / 2))

    def _kernels_s(self, duration_s: float) -> float:
        n, begin_s = 0, time.perf_counter()
        while n < 3 or time.perf_counter() - begin_s < duration_s:
            for (n_rows, n_cols), data in self._bare:
                kernels.matvec("F32", data, n_rows, n_cols, data[:n_cols], np.empty(n_rows, np.float32))
            n += 1
        return (time.perf_counter() - begin_s) / n


class _Gaussian:
    """Reads any tensor as Gaussian weights."""

    def read(self, stream: Stream, start: int, n_bytes: int) -> bytes:
        values: FloatArray = np.random.default_rng(start).normal(0.0, 0.02, n_bytes // 4).astype(np.float32)
        return values.tobytes()


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
    stream = Stream("data", "F32", shape, 0, 0, 4 * n)
    role = "norm" if len(shape) == 1 else "embedding" if name.startswith("token") else "mlp"
    return Tensor(name, shape, "F32", role, layer, None, 1, n, 4 * n, (stream,))
