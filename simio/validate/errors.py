"""How large the errors are, how large they can be at best (repeats), and what a two-parameter line achieves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from statistics import fmean, median

import numpy as np

from simio.records.validation import Comparison, Group, Skipped, Summary, Validation

#: Below this a line through the others is no baseline.
LEAST_RUNS = 4


def summarize(rows: Sequence[Comparison], skipped: Sequence[Skipped] = ()) -> Validation:
    """Everything that is said of these comparisons.

    The baseline is fitted once over all ``rows``; groups quote its errors on their runs.
    """
    line = baseline_ms(rows)
    numbered = list(zip(rows, line, strict=True))
    return Validation(
        rows=tuple(rows),
        skipped=tuple(skipped),
        summary=_summary(numbered),
        by_kind=_groups(numbered, lambda row: row.kind),
        by_device=_groups(numbered, lambda row: row.device),
        by_model=_groups(numbered, lambda row: row.model),
        by_relation=_groups(numbered, lambda row: row.relation),
    )


def parts(validation: Validation) -> dict[str, Validation]:
    """The same by kind of run, most runs first, each with a baseline fitted on its own runs."""
    kinds = [kind for kind, _ in Counter(row.kind for row in validation.rows).most_common()]
    return {kind: summarize([row for row in validation.rows if row.kind == kind]) for kind in kinds}


def noise_floor(rows: Sequence[Comparison]) -> float | None:
    """Median of |a/b − 1| over all pairs of runs with equal ``repeat_of``, in the order given; None without pairs.

    No prediction can be closer: runs with equal inputs get equal predictions.
    """
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.repeat_of:
            groups.setdefault(row.repeat_of, []).append(row.measured_ms)
    differences = [abs(a / b - 1) for group in groups.values() for a, b in combinations(group, 2)]
    return median(differences) if differences else None


def baseline_ms(rows: Sequence[Comparison]) -> list[float | None]:
    """``ms = C + bytes/bandwidth`` for every run, C and bandwidth fitted by least squares on all the others.

    ``bytes`` is known before the run: the bytes simio predicts to be read from storage per token, or, where it
    predicts none because all weights are in RAM, the bytes of the model. One line serves all devices: it is trivial
    on purpose. All None with fewer than ``LEAST_RUNS`` runs. Where all the others have equal bytes the slope is
    undetermined, and the line of least norm is taken.
    """
    if len(rows) < LEAST_RUNS:
        return [None] * len(rows)
    n_bytes = np.array([row.baseline_bytes for row in rows])
    unit = float(n_bytes.max())  # keeps the two columns of like size
    design = np.column_stack([np.ones(len(rows)), n_bytes / unit])
    measured = np.array([row.measured_ms for row in rows])
    predicted: list[float | None] = []
    for i in range(len(rows)):
        others = np.arange(len(rows)) != i
        solution = np.linalg.lstsq(design[others], measured[others], rcond=None)[0]
        predicted.append(float(design[i] @ solution))
    return predicted


def _summary(numbered: Sequence[tuple[Comparison, float | None]]) -> Summary:
    rows = [row for row, _ in numbered]
    if not rows:
        return Summary(0, None, None, None, None, None, None, None, None, None)
    signed = [row.error for row in rows]
    errors = [abs(e) for e in signed]
    line = [abs(ms / row.measured_ms - 1) for row, ms in numbered if ms is not None]
    loads = _sizes(row.load_error for row in rows)
    p95s, read = _sizes(row.p95_error for row in rows), _sizes(row.bytes_error for row in rows)
    hits = _sizes(row.hit_error for row in rows)
    return Summary(
        n=len(rows),
        median_error=median(signed),
        median_abs_error=median(errors),
        mean_abs_error=fmean(errors),
        p90_abs_error=float(np.quantile(errors, 0.9)),
        max_abs_error=max(errors),
        coverage=fmean(row.is_covered for row in rows),
        noise_floor=noise_floor(rows),
        baseline_median_abs_error=median(line) if line else None,
        peer_median_abs_error=median(abs(row.peer_ms / row.measured_ms - 1) for row in rows),
        n_loads=len(loads),
        median_abs_load_error=median(loads) if loads else None,
        max_abs_load_error=max(loads, default=None),
        n_p95=len(p95s),
        median_abs_p95_error=median(p95s) if p95s else None,
        n_bytes=len(read),
        median_abs_bytes_error=median(read) if read else None,
        max_abs_bytes_error=max(read, default=None),
        n_hits=len(hits),
        max_abs_hit_error=max(hits, default=None),
    )


def _sizes(errors: Iterable[float | None]) -> list[float]:
    return [abs(error) for error in errors if error is not None]


def _groups(
    numbered: Sequence[tuple[Comparison, float | None]], name_of: Callable[[Comparison], str]
) -> tuple[Group, ...]:
    named: dict[str, list[tuple[Comparison, float | None]]] = {}
    for row, ms in numbered:
        named.setdefault(name_of(row), []).append((row, ms))
    return tuple(Group(name, _summary(members), _relation(members)) for name, members in sorted(named.items()))


def _relation(members: Sequence[tuple[Comparison, float | None]]) -> str:
    found = {row.relation for row, _ in members}
    return found.pop() if len(found) == 1 else "mixed"
