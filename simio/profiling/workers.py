"""Do one job per item on several threads: ``for_each`` keeps no results, ``in_order`` hands them back in order.

Threads suffice because codecs, reads and hashing release the GIL. Memory does not grow with the model: a worker holds
one item at a time, and results wait in a bounded queue. The calling thread ticks or takes the results; interrupted, it
lets the workers finish the item in hand.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

_TICK_S = 0.1

Result = TypeVar("Result")


class _Turns:
    """Hands out items one by one and adds up what their jobs returned; shared by the workers."""

    def __init__(self, items: Sequence[int]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()
        self._stopped = False
        self.done = 0

    def next(self, done: int) -> int | None:
        """Count what the last job returned; the next item, or None at the end or after ``stop``."""
        with self._lock:
            self.done += done
            return None if self._stopped else next(self._items, None)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True


def for_each(
    items: Sequence[int],
    job: Callable[[int], int],
    n_workers: int,
    tick: Callable[[int], None] | None = None,
    stopping: threading.Event | None = None,
) -> None:
    """Call ``job`` on each item; ``tick(sum of what jobs returned)`` about ten times a second and at the end.

    Raises the first error of a job, after the other workers have stopped. ``stopping`` is set then, and on Ctrl-C, so
    that a long job can end early.
    """
    turns = _Turns(items)
    with ThreadPoolExecutor(n_workers, thread_name_prefix="simio-profile") as pool:
        running = {pool.submit(_work, turns, job) for _ in range(n_workers)}
        try:
            while running:
                ended, running = wait(running, timeout=_TICK_S, return_when=FIRST_EXCEPTION)
                for worker in ended:
                    worker.result()
                if tick is not None:
                    tick(turns.done)
        finally:
            turns.stop()
            if stopping is not None:
                stopping.set()
            wait(running)


def _work(turns: _Turns, job: Callable[[int], int]) -> None:
    item = turns.next(0)
    while item is not None:
        item = turns.next(job(item))


def in_order(
    items: Sequence[int], job: Callable[[int], Result], n_workers: int, n_in_flight: int
) -> Generator[Result, None, None]:
    """The results of ``job`` in the order of ``items``; at most ``n_in_flight`` items are begun and not yet taken.

    Raises the error of the first item that has one. Closed early (``contextlib.closing``), it begins nothing more and
    waits for the jobs in hand.
    """
    flying: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_workers, thread_name_prefix="simio-in-order") as pool:
        try:
            for item in items:
                flying.append(pool.submit(job, item))
                if len(flying) >= n_in_flight:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()
