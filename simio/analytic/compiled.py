"""The same recurrence compiled with numba: the loop of ``recurrence.py``, unchanged."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from simio.analytic import recurrence
from simio.analytic.recurrence import Finish
from simio.errors import MissingPackageError
from simio.records.timed import TimedPlan


@lru_cache(maxsize=1)
def _compile() -> tuple[Any, Any]:
    try:
        from numba import njit
    except ModuleNotFoundError as error:
        raise MissingPackageError("the compiled recurrence needs numba", "pip install 'simio[fast]'") from error
    return njit(recurrence.max_plus), njit(recurrence.settle)


def prepare(timed: TimedPlan) -> tuple[Any, ...]:
    """The arguments of ``run_prepared`` as arrays, so that many runs convert once."""
    converted = [np.asarray(a) if isinstance(a, list) else a for a in recurrence.arguments(timed)]
    return tuple(converted)


def run_prepared(arguments: tuple[Any, ...], n_steps: int, n_workspace: int) -> Finish:
    """Resolve prepared arguments."""
    loop, settle = _compile()
    ends = np.zeros(len(arguments[0]))
    loop(*arguments, np.zeros(n_steps), np.zeros(n_steps, np.int64), ends, np.zeros(n_workspace), settle)
    return Finish(ends.tolist())


def run(timed: TimedPlan) -> Finish:
    """Resolve ``timed``; the first call compiles (about a second)."""
    return run_prepared(prepare(timed), timed.n_steps(), len(recurrence.workspace(timed)))
