"""What a run pays beside reading, decompressing and multiplying: hand-overs, small operators, sharing a matrix."""

from __future__ import annotations

import os
import queue
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np

from simio.calibrate.scratch_file import ScratchFile
from simio.container.codec_choice import CodecChoice
from simio.container.packing import pack
from simio.container.profile import sizes_of_container
from simio.container.reading import Container
from simio.plan.build import READ_BYTES, arrange
from simio.plan.layout import lay_out
from simio.profiling.host import n_usable_cpus
from simio.records.scenario import Scenario
from simio.runtime import kernels
from simio.runtime.checkpoint import Shape, bfloat16, write_checkpoint
from simio.runtime.fetching import Fetcher
from simio.runtime.forward import Decoder
from simio.runtime.held import Held
from simio.runtime.hyperparameters import hyperparameters
from simio.runtime.in_ram import InRamWeights
from simio.runtime.ledger import Ledger
from simio.runtime.matrices import matrix_of
from simio.runtime.schedule import schedule
from simio.runtime.scratch import FloatArray
from simio.runtime.settings import complete_on_host
from simio.runtime.streaming import Budget, StreamedWeights
from simio.units import GB

#: A decoder of middling width: its small operators take what those of a model worth streaming take.
_SHAPE = Shape(4, 1024, 1024, 16, 16, 1024)
#: More tokens than a calibration has time for.
_MOST_TOKENS = 1 << 20


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
    """A decoder that streams from a container, all pinned: what a token takes beside its kernels, what threads add.

    A context manager; the container lies in a temporary folder and goes with it.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Layers:
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="simio-calibrate-")))
        write_checkpoint(folder / "layers", _SHAPE, _gaussian, bfloat16)
        pack(folder / "layers", folder / "layers.simio", CodecChoice.everywhere("raw"))
        container = self._stack.enter_context(Container.open(folder / "layers.simio"))
        profile = sizes_of_container(container)
        asked = Scenario("host", str(container.path), ram_bytes=GB, pinned_fraction=1.0)
        scenario = complete_on_host(asked, profile)
        fetcher = self._stack.enter_context(Fetcher(container, Ledger(), scenario))
        layout = lay_out(profile)
        arranged = arrange(scenario, layout, profile.model.architecture)
        work = schedule(container, layout, arranged.residency, READ_BYTES)
        held = Held(arranged.residency, fetcher)
        budget = Budget(1, arranged.ram.staging)
        self._streamed = self._stack.enter_context(
            StreamedWeights(container, work, (True,) * _MOST_TOKENS, fetcher, held, Ledger(), budget)
        )
        self._in_ram = InRamWeights(container.model, container)
        self._matrices = [matrix_of(t) for t in container.model.tensors if len(t.shape) > 1 and t.role != "embedding"]
        shape = hyperparameters(container.model, container)
        self._decoders = {
            n: self._stack.enter_context(Decoder(container.model, shape, self._streamed, n))
            for n in range(1, n_usable_cpus() + 1)
        }
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def overhead_s(self, duration_s: float) -> float:
        """Time of a decoded token per layer, less what the kernels alone take for its matrices. [s]"""
        token_s, kernels_s = self._token_s(1, duration_s / 2), self._kernels_s(duration_s / 2)
        return max(0.0, (token_s - kernels_s) / _SHAPE.num_hidden_layers)

    def thread_efficiency(self, n_threads: int, duration_s: float) -> float:
        """Rate of each of ``n_threads`` that share every matrix ÷ the rate of one alone, small operators aside."""
        alone_s, kernels_s = self._token_s(1, duration_s / 3), self._kernels_s(duration_s / 3)
        shared_s = self._token_s(n_threads, duration_s / 3) - max(0.0, alone_s - kernels_s)
        return min(1.0, kernels_s / (n_threads * max(1e-9, shared_s)))

    def _token_s(self, n_threads: int, duration_s: float) -> float:
        decoder = self._decoders[n_threads]
        decoder.reset()
        times: list[float] = []
        end_s = time.perf_counter() + duration_s
        while len(times) < 3 or time.perf_counter() < end_s:
            begin_s = time.perf_counter()
            decoder.next_token([1])
            self._streamed.end_pass()
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
                for part in self._in_ram.parts(m.name):
                    for block in part:
                        kernels.matvec(m.dtype, block.data, block.n_rows, m.n_cols, x[m.n_cols], out[: block.n_rows])
            times.append(time.perf_counter() - begin_s)
        return median(times)


def _gaussian(name: str, size: tuple[int, int]) -> FloatArray:
    drawn: FloatArray = np.random.default_rng(size[0]).normal(0.0, 0.02, size).astype(np.float32)
    return drawn
