"""What runs with equal settings say of every predictor: how close any can come, and what knowing repeats would give.

Temperature and free RAM at the start are not settings; a predictor that sees them could tell repeats apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from statistics import median

import numpy as np
from acceptance import Line

from simio.records.measurement import Measurement
from simio.validate.compare import p95_s


def repeated(runs: Sequence[Measurement]) -> list[list[Measurement]]:
    """Groups of two or more runs that repeat each other."""
    groups: dict[str, list[Measurement]] = {}
    for run in runs:
        groups.setdefault(run.repeat_of, []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def floors(runs: Sequence[Measurement]) -> Iterator[Line]:
    """Three lines: the least error there can be, and that of an oracle that knows repeats."""
    groups = [[(_session(run), run.mean_token_s or 0.0) for run in group] for group in repeated(runs)]
    seconds = [[s for _, s in group] for group in groups]
    n = sum(map(len, groups))
    least = f"{least_error(seconds, 0.5):.1%}, {least_error(seconds, 0.9):.1%}"
    yield Line(
        f"no predictor can do better than, {n} runs with equal settings: median, 90th percentile", "–", least, True
    )
    own = [abs(median(group) / s - 1) for group in seconds for s in group]
    yield Line("… one that says the median of equal runs, this one among them", "–", spread(own), True)
    others = [abs(median(o) / s - 1) for group in groups for i, s in group if (o := [t for j, t in group if j != i])]
    yield Line(
        f"… one that says the median of equal runs of other sessions, {len(others)} runs", "–", spread(others), True
    )


def tail_floor(runs: Sequence[Measurement], error: float) -> Line:
    """How many 95th percentiles of tokens any predictor of settings can have within ``error``."""
    groups = [[p95_s(run.token_s) for run in group] for group in repeated([run for run in runs if run.token_s])]
    n, most = sum(map(len, groups)), sum(_within(group, error) for group in groups)
    what = f"… most any predictor of settings can have within {error:.0%}, of {n} runs with equal settings"
    return Line(what, "–", f"{most} of {n}", True)


def least_error(groups: Sequence[Sequence[float]], share: float) -> float:
    """The smallest error within which one number a group can have ``share`` of all members, by bisection.

    >>> round(least_error([[1.0, 1.5]], 1.0), 3)  # 1.2 is 20 % from both
    0.2
    """
    wanted = ceil(share * sum(map(len, groups)))
    low, high = 0.0, 10.0
    while high - low > 1e-6:
        error = (low + high) / 2
        reached = sum(_within(group, error) for group in groups)
        low, high = (low, error) if reached >= wanted else (error, high)
    return high


def _within(group: Sequence[float], error: float) -> int:
    """How many members the best single number has within ``error``: one at some member's upper end."""
    return max(sum(abs(m * (1 + error) / x - 1) <= error * (1 + 1e-9) for x in group) for m in group)


def _session(run: Measurement) -> str:
    return run.run_id.rpartition("/")[0]


def spread(errors: Sequence[float]) -> str:
    """Median and 90th percentile."""
    return f"{median(errors):.1%}, {np.quantile(errors, 0.9):.1%}"
