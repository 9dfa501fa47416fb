"""Do one job per item on several threads, in order, without queueing: each worker takes the next item when it is free.

Threads suffice because codecs, reads and hashing release the GIL. A worker holds one item at a time, so memory does not
grow with the model. The calling thread only ticks; interrupted, it lets the workers finish the item in hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

_TICK_S = 0.1


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
    items: Sequence[int], job: Callable[[int], int], n_workers: int, tick: Callable[[int], None] | None = None
) -> None:
    """Call ``job`` on each item; ``tick(sum of what jobs returned)`` about ten times a second and at the end.

    Raises the first error of a job, after the other workers have stopped.
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
            wait(running)


def _work(turns: _Turns, job: Callable[[int], int]) -> None:
    item = turns.next(0)
    while item is not None:
        item = turns.next(job(item))
