"""Bring the weights of requests into RAM: queue slots, one paced link, decompression workers. See ARCHITECTURE.md.

The stages are those of ``simio.analytic.recurrence``: a read takes a slot, then its turn on the link; its chunks go to
the workers in the order of arrival.
"""

from __future__ import annotations

import mmap
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

from simio.codecs.base import Buffer
from simio.container.reading import Container
from simio.plan.build import READ_BYTES
from simio.records.scenario import Scenario
from simio.runtime.ledger import Ledger
from simio.runtime.schedule import Request
from simio.runtime.storage import Buffers, DirectFile, Pacer

#: A chunk's weights, or the decompression that will give them.
Weights = Buffer | Future[Buffer]


@dataclass(slots=True)
class Fetched:
    """The chunks of one request. ``stored`` are the verified bytes to be held when the cache holds compressed."""

    weights: dict[int, Weights]
    buffer: mmap.mmap | None = None  # goes back when the step has computed
    stored: dict[int, bytes] = field(default_factory=dict)

    def wait(self) -> dict[int, Buffer]:
        """The weights by chunk number, once all are there; raises what a worker raised."""
        return {n: w.result() if isinstance(w, Future) else w for n, w in self.weights.items()}


class Fetcher:
    """Reads and decompresses on threads of its own, as many as the complete ``scenario`` says; a context manager."""

    def __init__(self, container: Container, ledger: Ledger, scenario: Scenario) -> None:
        queue_depth = scenario.queue_depth or 1
        self._container = container
        self._ledger = ledger
        self._file = DirectFile(container.path)
        self._pacer = Pacer(scenario.read_limit_bytes_per_s)
        self._read_bytes = scenario.read_bytes or READ_BYTES
        self._slots = threading.Semaphore(queue_depth)
        self._buffers = Buffers()
        self._readers = ThreadPoolExecutor(queue_depth + 1, thread_name_prefix="read")
        self._workers = ThreadPoolExecutor(scenario.n_workers or 1, thread_name_prefix="decompress")

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._workers.shutdown(cancel_futures=True)
        self._file.__exit__(kind, error, at)

    @property
    def note(self) -> str:
        """How the file is read."""
        return self._file.note

    def stop(self) -> None:
        """The run has been given up: reads no longer wait for their turn."""
        self._pacer.stop()

    def read(self, request: Request, pass_number: int, keep: str | None = None) -> Future[Fetched]:
        """Read ``request`` when a slot is free (which this call waits for).

        ``keep``: ``raw`` gives weights that outlive the buffer, ``compressed`` also the stored bytes.
        """
        self._slots.acquire()
        return self._readers.submit(self._read, request, pass_number, keep, self._pacer.reserve(request.n_bytes))

    def read_now(self, request: Request, pass_number: int) -> dict[int, bytes]:
        """Read and decompress on this thread: rows of the embedding table, known only when they are needed."""
        buffer = self._read_link(request, pass_number, self._pacer.reserve(request.n_bytes))
        weights = {n: self._container.unpack_chunk(n, self._region(n, buffer, request)) for n in request.chunks}
        self._buffers.give(buffer)
        return weights

    def decompress(self, stored: dict[int, bytes], pass_number: int) -> Future[Fetched]:
        """Decompress chunks held in RAM as stored."""
        ready: Future[Fetched] = Future()
        ready.set_result(Fetched({n: self._submit(n, region, pass_number) for n, region in stored.items()}))
        return ready

    def give_back(self, fetched: Fetched) -> None:
        """The step has computed: its read buffer may be used again, and what is held as stored is not held twice."""
        if fetched.buffer is not None:
            self._buffers.give(fetched.buffer)
            fetched.buffer = None
        if fetched.stored:
            fetched.weights = {}

    def _read(self, request: Request, pass_number: int, keep: str | None, end_s: float) -> Fetched:
        try:
            buffer = self._read_link(request, pass_number, end_s)
        finally:
            self._slots.release()
        fetched = Fetched({}, buffer)
        for number in request.chunks:
            region = self._region(number, buffer, request)
            weights = self._submit(number, region, pass_number)
            fetched.weights[number] = bytes(weights) if keep == "raw" and isinstance(weights, memoryview) else weights
            if keep == "compressed":
                fetched.stored[number] = bytes(region)
        return fetched

    def _read_link(self, request: Request, pass_number: int, end_s: float) -> mmap.mmap:
        buffer = self._buffers.take(request.n_bytes)
        start_s = time.perf_counter()
        self._file.read_into(memoryview(buffer)[: request.n_bytes], request.offset, self._read_bytes)
        self._pacer.wait_until(end_s)
        self._ledger.note("read", pass_number, start_s, request.n_bytes, n=-(-request.n_bytes // self._read_bytes))
        return buffer

    def _region(self, number: int, buffer: mmap.mmap, request: Request) -> memoryview:
        offset, n_bytes = self._container.stored_span(number)
        return memoryview(buffer)[offset - request.offset :][:n_bytes]

    def _submit(self, number: int, region: Buffer, pass_number: int) -> Weights:
        if self._container.is_raw(number):
            return self._container.stored(number, region)
        return self._workers.submit(self.unpack, number, region, pass_number)

    def unpack(self, number: int, region: Buffer, pass_number: int) -> Buffer:
        """Verify and decompress a chunk on this thread."""
        start_s = time.perf_counter()
        weights = self._container.unpack_chunk(number, region)
        self._ledger.note("decompress", pass_number, start_s, len(weights))
        return weights
