"""The 80 % interval: draw every device number between its bounds and run the recurrence for all draws at once.

``low`` and ``high`` of a device file are read as 10th and 90th percentile of a split log-normal around ``value``.
Numbers that move together (the points of a storage curve, the kernels of a CPU) share a draw. RAM moves the plan
itself, so it is drawn in three levels, each with its own plan.
"""

from __future__ import annotations

from dataclasses import replace
from math import log, log2
from random import Random

import numpy as np
from numpy.typing import NDArray

from simio.analytic import batch
from simio.errors import InfeasibleError
from simio.predict.point import Point, plan_of
from simio.predict.resolve import Resolved, complete
from simio.records.device import Quantity, ReadPoint
from simio.records.plan import Plan
from simio.records.prediction import Interval
from simio.records.scenario import Scenario
from simio.service_times import Factors, base_codec, rates_of
from simio.timing import time_plan

Draws = NDArray[np.float64]

LEVEL = 0.8
#: Standard normal quantile of 90 %.
Z90 = 1.2815515655446004
#: Passes of one kind drawn before the last latency is taken to repeat; distinct (routed) tokens drawn.
N_REPEATS, N_DISTINCT = 3, 6


def interval(asked: Scenario, resolved: Resolved, point: Point) -> Interval:
    """80 % interval of tokens/s around ``point``, from ``scenario.draws`` seeded draws."""
    n = asked.draws
    if n == 0:
        return Interval(point.tokens_per_s, point.tokens_per_s, LEVEL)
    rng = Random(asked.seed)  # numpy.random takes longer to import than 1,600 draws take here
    z = np.array([[rng.gauss(0.0, 1.0) for _ in range(n)] for _ in range(8)])
    speeds = np.empty(n)
    for level, members in _ram_levels(asked, z[7]):
        plan, variant = _plan_at(level, asked, resolved, point)
        if variant is None:
            speeds[members] = 0.0
        else:
            speeds[members] = 1 / _mean_latency(plan, variant, z[:, members], point)
    nominal = 1 / _mean_latency(point.plan, resolved, np.zeros((8, 1)), point)[0]
    ordered = np.sort(speeds * (point.tokens_per_s / nominal)).tolist()
    tail = (1 - LEVEL) / 2
    low, high = ordered[int(tail * (n - 1))], ordered[-1 - int(tail * (n - 1))]
    return Interval(min(low, point.tokens_per_s), max(high, point.tokens_per_s), LEVEL)


def _ram_levels(asked: Scenario, z: Draws) -> list[tuple[str, NDArray[np.bool_]]]:
    """Draws with low (20 %), stated (60 %) and high (20 %) usable RAM; only as stated when the user gave it."""
    if asked.ram_bytes is not None:
        return [("value", np.ones(z.shape, dtype=bool))]
    cut = 0.8416212335729143  # normal quantile of 80 %
    levels = [("low", z < -cut), ("value", np.abs(z) <= cut), ("high", z > cut)]
    return [(name, members) for name, members in levels if members.any()]


def _plan_at(level: str, asked: Scenario, resolved: Resolved, point: Point) -> tuple[Plan, Resolved | None]:
    if level == "value":
        return point.plan, resolved
    usable = round(getattr(resolved.device.memory.usable, level))
    if point.plan.runtime == "resident" and point.plan.ram.peak <= usable:
        return point.plan, resolved
    try:
        open_ = replace(
            asked, ram_bytes=usable, codec=resolved.scenario.codec, chunk_bytes=resolved.scenario.chunk_bytes
        )
        variant = complete(open_, resolved.device, resolved.profile, resolved.layout)
        return plan_of(variant), variant
    except InfeasibleError:
        return point.plan, None


def _mean_latency(plan: Plan, resolved: Resolved, z: Draws, point: Point) -> Draws:
    """Mean decode latency per draw, over a shortened run whose repeats are filled in. [s]"""
    short = _shorten(plan)
    factors = _factors(resolved, plan, z)
    rates = rates_of(resolved.device, plan, resolved.scenario.codec, factors, resolved.relative_rate)
    number = {p: i for i, p in enumerate(dict.fromkeys(p for p, _ in short))}
    brief = replace(plan, passes=tuple(plan.passes[p] for p in number), order=tuple(number[p] for p, _ in short))
    timed = time_plan(brief, rates)
    ends = batch.run(timed, z.shape[1])
    weights = np.array([count for _, count in short], dtype=float)
    decode = np.array([plan.passes[p].kind == "decode" for p, _ in short])
    latencies = np.diff(ends, axis=0, prepend=np.zeros((1, z.shape[1])))
    total: Draws = (latencies[decode] * weights[decode, None]).sum(axis=0) / weights[decode].sum()
    return total


def _shorten(plan: Plan) -> list[tuple[int, int]]:
    """(pass, how many passes it stands for): the prefill, then runs of equal passes cut to ``N_REPEATS``."""
    short: list[tuple[int, int]] = []
    distinct = 0
    for i, p in enumerate(plan.order):
        kind = plan.passes[p].kind
        if kind == "load" or (kind == "prefill" and i + 1 < plan.n_setup):
            continue
        run = 1
        while run <= len(short) and short[-run][0] == p:
            run += 1
        if run > N_REPEATS:
            short[-1] = (p, short[-1][1] + 1)
        elif distinct <= N_REPEATS + N_DISTINCT or kind == "prefill":
            short.append((p, 1))
            distinct += 1
    return short


def _factors(resolved: Resolved, plan: Plan, z: Draws) -> Factors:
    device = resolved.device
    point = _nearest(device.storage.curve, plan.request_bytes, plan.queue_depth)
    kernels = [n for p in plan.passes for s in p.steps for n in s.weight_bytes]
    kernel = max(kernels, key=lambda item: item[1])[0] if kernels else "f16"
    codec = base_codec(resolved.scenario.codec)
    cpu = device.cpu
    gemv = cpu.gemv.get(kernel) or next(iter(cpu.gemv.values()))
    prefill = cpu.prefill.get(kernel) or next(iter(cpu.prefill.values()))
    return Factors(
        storage=factor(point.bandwidth, z[0]),
        memory=factor(device.memory.read_bandwidth, z[1]),
        gemv=factor(gemv, z[2]),
        prefill=factor(prefill, z[3]),
        decompress=factor(cpu.decompress[codec], z[4]) if codec in cpu.decompress else np.ones(z.shape[1]),
        layer_overhead=factor(cpu.layer_overhead, z[5]),
        fault_overhead=factor(device.storage.fault_overhead, z[6]),
    )


def factor(quantity: Quantity, z: Draws) -> Draws:
    """Split log-normal multiplier: 10 % below ``low/value``, 10 % above ``high/value``."""
    if quantity.value == 0:
        return np.ones(z.shape)
    up = log(quantity.high / quantity.value) / Z90
    down = log(quantity.value / quantity.low) / Z90 if quantity.low > 0 else 1.0
    return np.exp(np.where(z > 0, up * z, down * z))


def _nearest(curve: tuple[ReadPoint, ...], block_bytes: float, depth: int) -> ReadPoint:
    return min(curve, key=lambda p: log2(p.block_bytes / block_bytes) ** 2 + log2(p.queue_depth / depth) ** 2)
