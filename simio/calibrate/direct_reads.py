"""One round of direct reads, by the runtime's own reader into the runtime's own buffers, a thread for each in flight.

Python's cost of a read is part of the round, as it is part of a run; so, for blocks as large as a run's requests, are
the hand-over to a thread and back and the checksum.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import xxhash

from simio.calibrate.kernels import Arena, gemv_work
from simio.calibrate.scratch_file import ScratchFile
from simio.runtime.storage import Buffers, DirectFile
from simio.units import MIB


@dataclass(frozen=True, slots=True)
class Access:
    """Reads of ``block_bytes`` with ``queue_depth`` in flight; ``pattern`` as in a device file."""

    pattern: str
    block_bytes: int
    queue_depth: int

    @property
    def name(self) -> str:
        """The series of its bandwidths."""
        return f"read/{self.pattern}/{self.block_bytes}/{self.queue_depth}"


def offsets(access: Access, n_bytes: int, rng: random.Random) -> Callable[[], int]:
    """Where to read next: block after block from a random one on, or blocks at random. Threads may share it."""
    n_blocks = max(1, n_bytes // access.block_bytes)
    if access.pattern == "random":
        return lambda: rng.randrange(n_blocks) * access.block_bytes
    turns = itertools.count(rng.randrange(n_blocks))  # next() of it is one step for all threads
    return lambda: next(turns) % n_blocks * access.block_bytes


class AsARun:
    """Rounds of reads as ``simio run`` does them; every other large one beside a thread that multiplies weights."""

    def __init__(self) -> None:
        self._turns = itertools.cycle((False, True))
        self._multiply = gemv_work(Arena(_BESIDE_BYTES).blocks("BF16"))

    def __call__(self, file: ScratchFile, access: Access, duration_s: float, rng: random.Random) -> float:
        """Bandwidth of a round. [bytes/s]"""
        if access.block_bytes < LARGE_BYTES or not next(self._turns):
            return bandwidth(file, access, duration_s, rng)
        end_s = time.perf_counter() + duration_s

        def compute() -> None:
            for number in itertools.count():
                if time.perf_counter() >= end_s:
                    return
                self._multiply(number)

        beside = threading.Thread(target=compute, daemon=True)
        beside.start()
        try:
            return bandwidth(file, access, duration_s, rng)
        finally:
            beside.join()


#: Weights multiplied beside the reads: more than the caches hold.
_BESIDE_BYTES = 48 * MIB


def bandwidth(file: ScratchFile, access: Access, duration_s: float, rng: random.Random) -> float:
    """Bandwidth in the steady middle of a round of about ``duration_s``. [bytes/s]

    Counted from the completion that first saw all threads at work to the last one before the end, so that neither
    starting threads nor running dry counts.
    """
    read = _as_a_run if access.block_bytes >= LARGE_BYTES else _complete
    with DirectFile(file.path) as direct:
        end_s = time.perf_counter() + duration_s
        ends = read(direct, access, offsets(access, file.n_bytes, rng), end_s)
    return rate(ends, access, end_s)


#: From here on a block is read as ``simio run`` reads its requests.
LARGE_BYTES = MIB
#: Buffers in turn: a run computes with some while others are filled, so that none is still in the cache.
_IN_TURN = 8


def _as_a_run(file: DirectFile, access: Access, where: Callable[[], int], end_s: float) -> list[float]:
    """When each read ended that was handed to a thread, checked against a checksum, and waited for."""
    free = deque(memoryview(Buffers().take(access.block_bytes)) for _ in range(_IN_TURN + access.queue_depth))

    def read(buffer: memoryview, offset: int) -> float:
        file.read_into(buffer, offset, access.block_bytes)
        xxhash.xxh3_64_intdigest(buffer)
        return time.perf_counter()

    ends: list[float] = []
    with ThreadPoolExecutor(access.queue_depth) as pool:
        waiting: deque[tuple[memoryview, Future[float]]] = deque()
        while time.perf_counter() < end_s or len(ends) <= access.queue_depth:
            while len(waiting) < access.queue_depth:
                buffer = free.popleft()[: access.block_bytes]
                waiting.append((buffer, pool.submit(read, buffer, where())))
            buffer, done = waiting.popleft()
            ends.append(done.result())
            free.append(buffer)
    return ends


def rate(ends: list[float], access: Access, end_s: float) -> float:
    """Bytes per second from the times at which reads ended; see ``bandwidth``."""
    ends = sorted(ends)
    first = min(access.queue_depth, len(ends) // 2) - 1
    steady = [t for t in ends[first:] if t <= end_s] if first >= 0 else []
    if len(steady) < 3:  # slower than the round: count all of it
        steady = ends
    return access.block_bytes * (len(steady) - 1) / max(1e-9, steady[-1] - steady[0])


def _complete(file: DirectFile, access: Access, where: Callable[[], int], end_s: float) -> list[float]:
    """When each read ended; at least ``queue_depth`` + 1 of them."""
    ends: list[list[float]] = [[] for _ in range(access.queue_depth)]
    errors: list[BaseException] = []
    buffers = Buffers()

    def read(own: list[float]) -> None:
        try:
            buffer = memoryview(buffers.take(access.block_bytes))[: access.block_bytes]
            while len(own) < 2 or time.perf_counter() < end_s:
                file.read_into(buffer, where(), access.block_bytes)
                own.append(time.perf_counter())
        except BaseException as error:  # the calling thread raises it
            errors.append(error)

    threads = [threading.Thread(target=read, args=(own,), daemon=True) for own in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [t for own in ends for t in own]
