"""Which numbers of a device move the answer, and so which to measure next.

Two views of the same numbers. The tornado moves one at a time to its low and its high bound (10th and 90th percentile).
Sobol indices share the variance of tokens/s out among all of them, drawn together as split log-normals: ``first`` is
the share that would go if a number were known, ``total`` includes what it does together with others. Sobol, Mathematics
and Computers in Simulation 55, 2001; estimators of Saltelli et al., Computer Physics Communications 181, 2010, as in
SALib (Herman and Usher, JOSS 2(9), 2017).

Unlike the 80 % interval, numbers of one table move by themselves here: the question is which of them to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from simio.catalog.numbers import Path
from simio.errors import MissingPackageError, UsageError
from simio.predict.interval import Z90, Draws
from simio.predict.point import evaluate
from simio.predict.resolve import Progress, resolve
from simio.records.scenario import Scenario
from simio.records.sensitivity import Influence, Sensitivity, Sobol
from simio.whatif.moved_numbers import RATIO, Movable, Moved, movables

#: Base samples of the Sobol indices: so many evaluations for each number and two more.
SAMPLES = 256
MOST_SAMPLES = 1 << 14
#: Random places at which a number must move nothing to count as not met.
N_PLACES = 12
#: Numbers whose bounds are followed through the whole run; of the others a few tokens say enough.
N_WHOLE = 8
#: Less than this share of tokens/s is rounding.
_NOTHING = 1e-9


def sensitivity(
    scenario: Scenario | None = None,
    /,
    *,
    samples: int | None = None,
    progress: Progress | None = None,
    **fields: Any,
) -> Sensitivity:
    """Which numbers move the tokens/s of a scenario: ``fields`` of ``Scenario``, alone or on top of ``scenario``.

    ``samples``: base samples of the Sobol indices, a power of two; 0 leaves them out; by default 256 where SALib is
    installed. ``progress(done, total)`` counts evaluations. Raises ``MissingPackageError`` where samples are asked for
    without SALib, ``UsageError`` for another number, else as ``predict``.
    """
    n_samples = _samples(samples)
    asked = Scenario.of(scenario, **fields)
    resolved = resolve(asked)
    point = evaluate(resolved)
    moved = Moved(asked, resolved, point, movables(resolved))
    met = _met(moved, asked.seed)
    moved = moved.only(met)
    ends = _ends(moved)
    indices: list[Sobol | None] = [None] * len(met)
    n_drawn = 0
    if n_samples and met:
        indices, n_drawn = _sobol(moved, n_samples, asked.seed, progress)
    found = [
        Influence(m.name, m.quantity, float(ends[2 * i]), float(ends[2 * i + 1]), indices[i], _how(m))
        for i, m in enumerate(met)
    ]
    found.sort(key=lambda i: (-(i.sobol.total if i.sobol else 0.0), -i.swing))
    n_idle = len(movables(resolved)) - len(met)
    return Sensitivity(resolved.scenario, point.tokens_per_s, tuple(found), n_idle, n_samples, n_drawn + len(ends))


def _samples(asked: int | None) -> int:
    if asked is None:
        return SAMPLES if find_spec("SALib") else 0
    if asked < 0 or asked > MOST_SAMPLES or asked & (asked - 1):
        raise UsageError(f"{asked} samples", f"give a power of two up to {MOST_SAMPLES}, or 0 for no Sobol indices")
    if asked and not find_spec("SALib"):
        raise MissingPackageError(
            "Sobol indices need SALib, which is not installed", "pip install 'simio[sensitivity]'"
        )
    return asked


def _met(moved: Moved, seed: int) -> list[Movable]:
    """The numbers that move the answer at one of a few random places, or at the values."""
    rng = np.random.default_rng(seed)
    n = len(moved.moving)
    base, other = rng.standard_normal((2, N_PLACES, n))
    base[:2] = 0.0
    other[0], other[1] = -Z90, Z90
    rows = np.repeat(base[:, None], n + 1, axis=1)
    rows[:, np.arange(n), np.arange(n)] = other
    answers = moved.tokens_per_s(rows.reshape(-1, n)).reshape(N_PLACES, n + 1)
    change = np.abs(answers[:, :n] - answers[:, n:])
    moves = np.any(change > _NOTHING * np.maximum(answers[:, :n], answers[:, n:]), axis=0)
    return [moved.moving[i] for i in np.flatnonzero(moves)]


def _ends(moved: Moved) -> Draws:
    """Tokens/s with each number at its low, then at its high bound; those that matter by whole runs."""
    rows = _one_at_a_time(len(moved.moving))
    found = moved.tokens_per_s(rows)
    swing = np.abs(found[1::2] - found[::2])
    for i in np.argsort(-swing)[:N_WHOLE]:
        if moved.moving[i].path != RATIO:
            found[2 * i : 2 * i + 2] = [moved.exactly(row) for row in rows[2 * i : 2 * i + 2]]
    return found


def _one_at_a_time(n: int) -> Draws:
    """Two rows a number: at its low bound, at its high bound."""
    rows = np.zeros((2 * n, n))
    rows[np.arange(0, 2 * n, 2), np.arange(n)] = -Z90
    rows[np.arange(1, 2 * n, 2), np.arange(n)] = Z90
    return rows


def _sobol(moved: Moved, n: int, seed: int, progress: Progress | None) -> tuple[list[Sobol | None], int]:
    """The indices of every number, and how many evaluations they took."""
    from SALib.analyze import sobol as analysis
    from SALib.sample import sobol as sampling
    from scipy.special import ndtri

    problem = {"num_vars": len(moved.moving), "names": [m.name for m in moved.moving],
               "bounds": [[0.0, 1.0]] * len(moved.moving)}  # fmt: skip
    unit = sampling.sample(problem, n, calc_second_order=False, seed=seed)
    z = ndtri(np.clip(unit, 1e-9, 1 - 1e-9))
    answers = moved.tokens_per_s(z, _counted(progress, len(z)))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = analysis.analyze(problem, answers, calc_second_order=False, seed=seed + 1)  # 0 is no seed to SALib
    rows = np.column_stack([found[key] for key in ("S1", "S1_conf", "ST", "ST_conf")])
    return [Sobol(*map(float, row)) if np.isfinite(row).all() else None for row in rows], len(z)


def _counted(progress: Progress | None, total: int) -> Callable[[int], None] | None:
    if progress is None:
        return None
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        progress(done, total)

    return count


#: Start of a path → how such a number is measured.
_HOW: Mapping[Path, str] = {
    ("storage", "curve"): "simio calibrate --adb, or fio results through simio calibrate --from",
    ("storage",): "simio calibrate host on the device itself, or fit it to runs with simio calibrate --runs",
    ("cpu", "gemv"): "llama-bench tg results through simio calibrate --from",
    ("cpu", "prefill"): "llama-bench pp results through simio calibrate --from",
    ("cpu", "decompress"): "lzbench results through simio calibrate --from",
    ("cpu",): "simio calibrate host on the device itself, or fit it to runs with simio calibrate --runs",
    ("memory", "usable"): "free RAM with the app in front (MemAvailable), then --ram or --available",
    ("memory",): "simio calibrate host on the device itself, or fit it to runs with simio calibrate --runs",
    ("thermal",): "a long run at full load, temperatures beside it",
    RATIO: "simio profile of the whole file",
}


def _how(m: Movable) -> str:
    starts = sorted(_HOW, key=len, reverse=True)
    return next((_HOW[start] for start in starts if m.path[: len(start)] == start), "")
