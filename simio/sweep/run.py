"""Run a study: blocks out, rows in, and a summary. Done scenarios are skipped; an interrupt keeps what came back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.cluster import workers
from simio.profiling.host import n_usable_cpus
from simio.sweep.block import FEW, Block, evaluate_block
from simio.sweep.outcome import COLUMNS, NUMBER
from simio.sweep.results import Results
from simio.sweep.rows import column_name
from simio.sweep.study import Study

Progress = Callable[[int, int], None]

#: Scenarios in a block at most: large enough to share plans, small enough to come back soon.
BLOCK = 1024
#: Scenarios in a block that SimPy plays.
SIM_BLOCK = 4


@dataclass(slots=True)
class Summary:
    """What came out. ``n`` of the study, of which ``evaluated`` now and ``skipped`` as done before."""

    n: int
    evaluated: int = 0
    skipped: int = 0
    infeasible: int = 0
    checked: int = 0
    largest_difference: float = 0.0  # from SimPy, relative
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain types, stable keys."""
        rate = self.evaluated / self.seconds if self.seconds else 0.0
        return {
            "n": self.n, "seconds": self.seconds, "evaluations_per_s": rate, "best": self.best,
            "evaluated": self.evaluated, "skipped": self.skipped, "infeasible": self.infeasible,
            "checked": self.checked, "largest_difference": self.largest_difference, "output": self.output,
        }  # fmt: skip

    def count(self, speeds: NDArray[np.float64], differences: NDArray[np.float64]) -> int | None:
        """Count rows; the number of the one that is faster than any before, if one is."""
        self.infeasible += int(np.isnan(speeds).sum())
        known = differences[~np.isnan(differences)]
        self.checked += len(known)
        self.largest_difference = max(self.largest_difference, float(known.max(initial=0.0)))
        if np.isnan(speeds).all():
            return None
        fastest = int(np.nanargmax(speeds))
        return fastest if speeds[fastest] > self.best.get("tokens_per_s", 0.0) else None


def sweep(
    study: Study,
    output: Path | None = None,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
    keep: Callable[[Block], object] | None = None,
) -> Summary:
    """Evaluate ``study`` and keep the rows in ``output`` (see ``results``); ``keep`` is given each block evaluated.

    ``jobs``: processes, by default one for each CPU this process may use; ``scheduler``: see ``cluster.workers``.
    ``progress(done, total)`` is called as blocks come back. Raises ``SimioError``.
    """
    begun = time.monotonic()
    summary = Summary(study.n, output=None if output is None else str(output))
    jobs = jobs or n_usable_cpus()
    if scheduler is None and study.n <= FEW and study.engine != "sim":
        jobs = 1
    with nullcontext() if output is None else Results(output, study) as results:
        done = np.empty(0, np.uint64) if results is None else results.done()
        if results is not None and len(done):
            _count_old(results, summary)
        task = partial(_evaluate, study, _checked(study))
        todo = _todo(study, done, jobs, summary, progress)
        first = next(todo, None)
        if first is not None:
            with workers(scheduler, jobs, partial(_warm_up, study)) as mapper:
                begun = time.monotonic()  # what follows compiling
                for block in mapper(task, chain([first], todo)):
                    summary.evaluated += len(block.numbers)
                    if results is not None:
                        results.add(block)
                    if keep is not None:
                        keep(block)
                    _count_new(block, study, summary)
                    if progress:
                        progress(summary.evaluated + summary.skipped, study.n)
        if results is not None:
            summary.output = str(results.join())
    summary.seconds = time.monotonic() - begun
    return summary


def _evaluate(study: Study, checked: frozenset[int], numbers: NDArray[np.int64]) -> Block:
    return evaluate_block(study, numbers, checked)


def _warm_up(study: Study) -> None:
    if study.engine != "sim":
        evaluate_block(study, np.arange(min(2, study.n)), frozenset())


def _checked(study: Study) -> frozenset[int]:
    """Which scenarios SimPy plays, too: seeded."""
    n = min(study.n_checked, study.n)
    return frozenset(np.random.default_rng(study.seed + 1).choice(study.n, n, replace=False).tolist())


def _todo(
    study: Study, done: NDArray[np.uint64], jobs: int, summary: Summary, progress: Progress | None
) -> Iterator[NDArray[np.int64]]:
    """Blocks of the scenarios that are not there yet."""
    most = SIM_BLOCK if study.engine == "sim" else BLOCK
    size = max(1, min(most, study.n // (4 * jobs)))
    for k in count():
        numbers = np.arange(k * size, min((k + 1) * size, study.n))
        if not len(numbers):
            return
        if len(done):
            numbers = numbers[~_among(study.digests(numbers), done)]
            summary.skipped += min((k + 1) * size, study.n) - k * size - len(numbers)
            if progress:
                progress(summary.evaluated + summary.skipped, study.n)
        if len(numbers):
            yield numbers


def _among(digests: NDArray[np.uint64], done: NDArray[np.uint64]) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(done, digests), len(done) - 1)
    found: NDArray[np.bool_] = done[places] == digests
    return found


def _count_old(results: Results, summary: Summary) -> None:
    """Rows that are there already."""
    for part, table in enumerate(results.rows(["tokens_per_s", "sim_difference"])):
        speeds, differences = (table[name].to_numpy() for name in ("tokens_per_s", "sim_difference"))
        fastest = summary.count(speeds.astype(float), differences.astype(float))
        if fastest is not None:
            summary.best = results.row(part, fastest)


def _count_new(block: Block, study: Study, summary: Summary) -> None:
    numbers = block.outcome.numbers
    fastest = summary.count(numbers[:, NUMBER["tokens_per_s"]], numbers[:, NUMBER["sim_difference"]])
    if fastest is None:
        return
    row: dict[str, Any] = dict(study.base)
    row |= {column_name(one): _plain(block.values[one.name][fastest]) for one in study.axes}
    row["chosen_runtime"] = block.outcome.runtime[fastest]
    row |= {n: float(v) for n, v in zip(COLUMNS, numbers[fastest], strict=True) if not np.isnan(v)}
    summary.best = row


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
