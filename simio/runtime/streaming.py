"""The weights of a forward pass, fetched step by step while earlier steps compute: what ``simio.plan`` plans, for real.

An admission thread walks all the passes of a run in order, as the planner does. A request is admitted once its step's
gate is open (the step ``1 + prefetch_depth`` before has computed; for experts, their router has chosen), staging has
room and a queue slot is free. The forward pass, on the calling thread, waits for a step's requests, computes with them,
and by asking for the next step's weights says that it has.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import SimpleQueue
from types import TracebackType

from simio.codecs.base import Buffer
from simio.container.reading import Container
from simio.runtime.fetching import Fetched, Fetcher
from simio.runtime.held import Held
from simio.runtime.in_ram import read_scales, read_small
from simio.runtime.kernels import dequantize
from simio.runtime.ledger import Ledger
from simio.runtime.matrices import RowBlock
from simio.runtime.places import Places, row_blocks
from simio.runtime.schedule import ExpertWork, SlabWork, Unit, Work, request_of
from simio.runtime.scratch import FloatArray


@dataclass(slots=True)
class _Step:
    """Requests that are computed with together."""

    pass_number: int
    fetches: list[Future[Fetched]] = field(default_factory=list)
    staging_bytes: int = 0
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How far the fetching may run ahead of the forward pass."""

    prefetch_depth: int  # steps
    staging_bytes: int  # buffers of requests that have not been computed with


class StreamedWeights:
    """``simio.runtime.matrices.Weights`` for the passes of one run; a context manager.

    ``wants_token`` has an entry for every pass: whether its output head is needed. Norms, biases, routers and scales
    are kept in RAM: they are read with their step like everything else, but asked for in any order.
    """

    def __init__(
        self,
        container: Container,
        work: Sequence[Work],
        wants_token: Sequence[bool],
        fetcher: Fetcher,
        held: Held,
        ledger: Ledger,
        budget: Budget,
    ) -> None:
        self._container = container
        self._work = work
        self._wants_token = wants_token
        self._fetcher = fetcher
        self._held = held
        self._ledger = ledger
        self._budget = budget
        self._gate = threading.Condition()
        self._n_computed = 0
        self._staged_bytes = 0
        self._chosen: dict[tuple[int, int], tuple[int, ...]] = {}
        self._stopped = False
        self._steps: SimpleQueue[_Step | None] = SimpleQueue()  # None: the end of a pass
        self._current: _Step | None = None
        self._weights: dict[int, Buffer] = {}
        self._ready_s = 0.0
        self._pass = 0
        self._places = Places(container)
        self._small: dict[str, FloatArray] = {}
        self._scales: dict[str, FloatArray | None] = {}
        self._admission = threading.Thread(target=self._admit_all, name="admission", daemon=True)

    def __enter__(self) -> StreamedWeights:
        pin_all(self._work, self._fetcher, self._held)
        self._admission.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._gate:
            self._stopped = True
            self._gate.notify_all()
        self._fetcher.stop()
        if self._admission.ident is not None:
            self._admission.join()

    def end_pass(self) -> None:
        """The pass is over: its last step has computed, its token is known."""
        while self._next_step():  # norms alone in a step are not waited for before
            pass
        self._ledger.end_pass()
        self._pass += 1

    def parts(self, tensor: str) -> Iterator[Sequence[RowBlock]]:
        """The row blocks of a matrix, those of one step at a time."""
        return row_blocks(self._places.matrix(tensor), self._arriving(self._places.codes(tensor, None)))

    def expert_parts(self, tensor: str, expert: int) -> Iterator[Sequence[RowBlock]]:
        """The same for one expert of a stacked tensor."""
        return row_blocks(self._places.matrix(tensor), self._arriving(self._places.codes(tensor, expert)))

    def experts(self, layer: int, chosen: Sequence[int]) -> None:
        """The router of ``layer`` has chosen: its experts may be read."""
        with self._gate:
            self._chosen[self._pass, layer] = tuple(chosen)
            self._gate.notify_all()

    def small(self, tensor: str) -> FloatArray:
        """A norm, a bias or a router, from RAM."""
        if tensor not in self._small:
            self._small[tensor] = read_small(self._places.tensor(tensor), self._container)
        return self._small[tensor]

    def scales(self, tensor: str) -> FloatArray | None:
        """The scales of a matrix, from RAM."""
        if tensor not in self._scales:
            self._scales[tensor] = read_scales(self._places.matrix(tensor), self._container)
        return self._scales[tensor]

    def embedding_rows(self, ids: Sequence[int]) -> FloatArray:
        """Rows of the token table, each read with its chunk, or taken from RAM where a plan holds the table there."""
        table = self._places.table
        matrix = self._places.matrix(table)
        rows = b"".join(self._row(table, token * matrix.row_bytes, matrix.row_bytes) for token in ids)
        scales = self.scales(table)
        if scales is not None and scales.size > 1:
            scales = scales.reshape(matrix.n_rows, -1)[list(ids)]
        return dequantize(matrix.dtype, rows, len(ids), matrix.n_cols, scales)

    def _row(self, table: str, start: int, n_bytes: int) -> bytes:
        numbers, skip = self._places.covering(table, start, n_bytes)
        chunks: Mapping[int, Buffer] | None = self._held.row_chunks(numbers, self._pass)
        if chunks is None:
            chunks = self._fetcher.read_now(request_of(self._container, numbers), self._pass)
        return b"".join(chunks[number] for number in numbers)[skip : skip + n_bytes]

    def _arriving(self, numbers: Sequence[int]) -> Iterator[list[Buffer]]:
        """The chunks ``numbers`` in order, those of one step at a time, as they come."""
        at = 0
        while at < len(numbers):
            while numbers[at] not in self._weights:
                if not self._next_step():
                    raise RuntimeError("the forward pass asks for weights that its plan has not")
            here = at
            while here < len(numbers) and numbers[here] in self._weights:
                here += 1
            yield [self._weights[n] for n in numbers[at:here]]
            at = here

    def _next_step(self) -> bool:
        """Wait until everything the next step needs is there; False where the pass has no other step."""
        self._finish_step()
        start_s = time.perf_counter()
        step = self._steps.get()
        if step is None:
            return False
        if step.error is not None:
            raise step.error
        weights: dict[int, Buffer] = {}
        for fetch in step.fetches:
            weights |= fetch.result().wait()
        self._ready_s = time.perf_counter()
        self._ledger.note("stall", step.pass_number, start_s, end_s=self._ready_s)
        self._current, self._weights = step, weights
        return True

    def _finish_step(self) -> None:
        """The current step has computed: give back what it held, which opens the gate for a later one."""
        step = self._current
        if step is None:
            return
        self._ledger.note("compute", step.pass_number, self._ready_s)
        self._current, self._weights = None, {}
        for fetch in step.fetches:
            self._fetcher.give_back(fetch.result())
        with self._gate:
            self._n_computed += 1
            self._staged_bytes -= step.staging_bytes
            self._gate.notify_all()

    def _admit_all(self) -> None:
        """The admission thread: everything of every pass, in order."""
        try:
            numbers = count()
            for pass_number in range(len(self._wants_token)):
                for units in self._planned(pass_number):
                    step = _Step(pass_number)
                    self._wait_for_step(next(numbers) - 1 - self._budget.prefetch_depth)
                    for unit in units():
                        self._admit(step, unit)
                    self._steps.put(step)
                self._steps.put(None)
        except _StoppedError:
            return
        except BaseException as error:  # the forward pass raises it once it gets here
            self._fetcher.stop()
            self._steps.put(_Step(0, error=error))

    def _planned(self, pass_number: int) -> Iterator[Callable[[], Iterable[Unit]]]:
        """The steps of a pass; what an expert step needs is known once its router has chosen."""
        for block in self._work:
            if isinstance(block, ExpertWork):
                chosen = self._wait_for_router(pass_number, block.layer)
                for first in range(0, len(chosen), block.per_step):
                    group = chosen[first : first + block.per_step]
                    yield partial(map, block.experts.__getitem__, group)
            elif self._wants_token[pass_number] or not block.is_head:
                yield partial(iter, block.units)

    def _wait_for_step(self, number: int) -> None:
        self._wait(lambda: self._n_computed > number)

    def _wait_for_router(self, pass_number: int, layer: int) -> tuple[int, ...]:
        self._wait(lambda: (pass_number, layer) in self._chosen)
        return self._chosen.pop((pass_number, layer))

    def _admit(self, step: _Step, unit: Unit) -> None:
        hit, keeps = self._held.access(unit)
        if hit:
            self._ledger.note("hit", step.pass_number, time.perf_counter(), unit.raw_bytes)
            self._stage(step, unit.packed_bytes if unit.form == "compressed" else 0)
            step.fetches += self._held.use(unit, step.pass_number)
            return
        for request in unit.requests:
            self._stage(step, request.n_bytes + request.packed_bytes)
        reads = [self._fetcher.read(r, step.pass_number, unit.form if keeps else None) for r in unit.requests]
        step.fetches += reads
        if keeps:
            self._held.keep(unit, reads)

    def _stage(self, step: _Step, n_bytes: int) -> None:
        """Take room in staging, waiting for it; a step that is alone there gets what it needs."""
        room = self._budget.staging_bytes - n_bytes
        self._wait(lambda: self._staged_bytes <= room or self._staged_bytes == step.staging_bytes)
        with self._gate:
            self._staged_bytes += n_bytes
            step.staging_bytes += n_bytes

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._gate:
            self._gate.wait_for(lambda: self._stopped or condition())
            if self._stopped:
                raise _StoppedError


class _StoppedError(Exception):
    """The run was given up while the admission thread waited."""


def pin_all(work: Sequence[Work], fetcher: Fetcher, held: Held) -> None:
    """Read what is pinned, a few requests at a time."""
    waiting: deque[tuple[Unit, list[Future[Fetched]]]] = deque()
    for block in work:
        for unit in block.pinned if isinstance(block, SlabWork) else ():
            waiting.append((unit, [fetcher.read(r, LOADING, unit.form) for r in unit.requests]))
            if len(waiting) > _PINNED_AT_ONCE:
                held.pin(*waiting.popleft())
    for unit, reads in waiting:
        held.pin(unit, reads)


#: The number of the pass that loads what is pinned.
LOADING = -1
_PINNED_AT_ONCE = 8
