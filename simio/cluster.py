"""Who does many tasks: this process, a pool of processes, or a Dask cluster. Results come back in the order of tasks.

A worker that dies takes nothing along: the pool of this machine ends with an error that says how to go on, Dask gives
its tasks to another worker.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from simio.errors import MissingPackageError, SimioError, UsageError

#: Tasks in flight for each worker.
IN_FLIGHT = 3
#: How long an address may be silent. [s]
CONNECT_S = 8.0

Task = Callable[[Any], Any]
#: Runs a task over many arguments, in order; closing it early keeps what had been done.
Mapper = Callable[[Task, Iterable[Any]], Iterator[Any]]


@contextmanager
def workers(scheduler: str | None, jobs: int, warm_up: Callable[[], object] = int) -> Iterator[Mapper]:
    """A mapper: ``scheduler`` is None for processes of this machine, ``local`` for a Dask cluster on it, or an address.

    ``warm_up`` is called once where the processes inherit what it compiled. Raises ``UsageError`` for an address where
    nobody answers, ``MissingPackageError`` without Dask.
    """
    if scheduler is not None:
        with _dask(scheduler, jobs) as mapper:
            yield mapper
    elif jobs == 1:
        yield map
    else:
        warm_up()
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        with ProcessPoolExecutor(jobs, multiprocessing.get_context(method), initializer=_quietly) as pool:
            yield lambda task, items: _pooled(pool, jobs, task, items)


def _quietly() -> None:
    """Ctrl-C is for the process that collects."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pooled(pool: ProcessPoolExecutor, jobs: int, task: Task, items: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from _in_order(lambda item: pool.submit(task, item), items, IN_FLIGHT * jobs)
    except BrokenProcessPool:
        raise SimioError(
            "a worker process died, probably for lack of memory",
            "run the same command again to go on, with fewer --jobs",
        ) from None


def _in_order(submit: Callable[[Any], Future[Any]], items: Iterable[Any], most: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(submit(item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _dask(scheduler: str, jobs: int) -> Iterator[Mapper]:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise MissingPackageError("--scheduler needs Dask Distributed", "pip install 'simio[cluster]'") from error
    dask: Any = distributed
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler == "local":
        with (
            dask.LocalCluster(
                n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            ) as cluster,
            dask.Client(cluster) as client,
        ):
            yield _mapper(client, dask.KilledWorker)
        return
    try:
        client = dask.Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {scheduler} ({type(error).__name__})",
            "start one with `dask scheduler`, or use --scheduler local",
        ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise UsageError(f"the cluster at {scheduler} has no workers", f"start one: dask worker {scheduler}")
        yield _mapper(client, dask.KilledWorker)


def _mapper(client: Any, killed: type[Exception]) -> Mapper:
    def run(task: Task, items: Iterable[Any]) -> Iterator[Any]:
        n = max(1, sum(client.nthreads().values()))
        try:
            yield from _in_order(lambda item: client.submit(task, item, pure=False, retries=3), items, IN_FLIGHT * n)
        except killed as error:
            raise SimioError(f"workers of the cluster died again and again: {error}", "give them more memory") from None

    return run
