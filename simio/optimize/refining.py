"""What the linear program leaves out is found by trying: exchanges that the prediction itself finds faster.

Local search from a solution: change one item's option, or two items' at once, keep what is better, until nothing is or
time is up (Aarts & Lenstra, Local Search in Combinatorial Optimization, 1997, ch. 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, product
from math import prod
from time import monotonic

import numpy as np

from simio.study.problem import Indices, Problem

#: A selection that takes so much more RAM (with buffers for one step), or time, in the linear program than it may is
#: not worth a prediction.
RAM_SLACK, TIME_SLACK = 1.05, 1.25
#: Pairs of items are all tried where there are at most so many exchanges; else as many at random.
MOST_PAIRS = 20_000


def refine(
    start: Indices,
    problem: Problem,
    judged: Callable[[Indices], tuple[float, ...] | None],
    until_s: float,
    seed: int = 0,
) -> Indices:
    """The best selection on the way from ``start (m,)``; ``judged`` says how good one is (less is better), None: not
    possible. ``until_s`` on the monotonic clock ends the search."""
    best, least = start, judged(start)
    improved = True
    while improved and monotonic() < until_s:
        improved = False
        for options in _neighbours(best, problem, np.random.default_rng(seed)):
            if monotonic() >= until_s:
                break
            if not _near(options, problem, TIME_SLACK * problem.latency_s(best)):
                continue
            value = judged(options)
            if value is not None and (least is None or value < least):
                best, least, improved = options, value, True
                break
    return best


def _near(options: Indices, problem: Problem, most_s: float) -> bool:
    return (
        replace(problem, n_buffers=1).ram(options) <= problem.ram_bytes * RAM_SLACK
        and problem.quality(options) <= problem.cost_budget
        and problem.latency_s(options) <= most_s
    )


def _neighbours(options: Indices, problem: Problem, rng: np.random.Generator) -> Iterator[Indices]:
    """Selections that differ in one item, then in two."""
    of = [problem.options_of(item) for item in range(problem.n_items)]
    for item in rng.permutation(problem.n_items):
        for option in range(of[item].start, of[item].stop):
            if option != options[item]:
                yield _with(options, {item: option})
    for a, b in _pairs(of, rng):
        for x, y in product(range(of[a].start, of[a].stop), range(of[b].start, of[b].stop)):
            if x != options[a] and y != options[b]:
                yield _with(options, {a: x, b: y})


def _pairs(of: list[slice], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    n = len(of)
    if n * n * max(prod((s.stop - s.start,) * 2) for s in of) <= 2 * MOST_PAIRS:
        yield from combinations(range(n), 2)
        return
    for _ in range(MOST_PAIRS):
        a, b = rng.choice(n, 2, replace=False)
        yield int(a), int(b)


def _with(options: Indices, changed: dict[int, int]) -> Indices:
    other = options.copy()
    for item, option in changed.items():
        other[item] = option
    return other
