"""The 80 % interval: draw every device number between its bounds and run the recurrence for all draws at once.

``low`` and ``high`` of a device file are read as 10th and 90th percentile of a split log-normal around ``value``.
Numbers that move together (the points of a storage curve, the kernels of a CPU) share a draw; so does the compression
ratio, between the bounds of its profile. Two numbers move the plan itself, so they are drawn in three levels, each with
its own plan: usable RAM and, under mmap, the read-ahead window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log, log2
from random import Random
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simio.analytic import batch
from simio.errors import InfeasibleError
from simio.plan.build import is_bistable
from simio.plan.mapped import N_SCANS
from simio.predict.point import Point, plan_of, rates_at
from simio.predict.resolve import Resolved, complete, left_of
from simio.records.device import Quantity, ReadPoint, Storage
from simio.records.plan import Pass, Plan
from simio.records.prediction import Interval
from simio.records.scenario import Scenario
from simio.records.timed import TimedPlan
from simio.service_times import Factors, Rates, base_codec
from simio.timing import time_plan

Draws = NDArray[np.float64]
Deviates = dict[str, Draws]
Count = TypeVar("Count", int, NDArray[np.int64])

LEVEL = 0.8
#: Standard normal quantiles of 90 % and 80 %.
Z90, Z80 = 1.2815515655446004, 0.8416212335729143
#: Passes of one kind drawn before the last latency is taken to repeat; distinct (routed) tokens drawn.
N_REPEATS, N_DISTINCT = 3, 6
#: Standard deviation of the logarithm of a run's time where all rates are known: 54 runs of `simio run` on a paced disk
#: were within 0.4 % of their prediction in half of the cases and within 1.1 % in eight of ten.
REPEAT = 0.007
#: Cases of a bistable page cache drawn.
N_CASES = 9
#: Standard deviation of repeated runs past a bistable page cache, as a share: four runs at one setting took 1346, 1369,
#: 1497 and 1504 ms a token (traces/host-llamacpp, three quarters of the file at 200 MB/s).
REPEAT_SPREAD = 0.058
#: Tokens that such a run is averaged over, where they swing from token to token: llama-bench takes three to five.
N_AVERAGED = 4
#: What is drawn, one row of normal deviates each.
DRAWN = ("storage", "memory", "gemv", "prefill", "decompress", "layer_overhead", "fault_overhead", "core_speed",
         "ratio", "ram", "read_ahead", "case", "parallel", "threads", "stretch", "repeat", "commit", "swap",
         "handover", "fresh")  # fmt: skip
#: Of these, what is of one run and not of the device.
OF_A_RUN = ("case", "stretch", "repeat")


@dataclass(frozen=True, slots=True)
class Drawn:
    """The interval of tokens/s, the share of draws in which the scenario cannot run at all, and the draws themselves.

    ``tokens_per_s`` has one entry a draw, in the order of ``deviates``; the value itself where none was asked for.
    """

    interval: Interval
    infeasible: float
    tokens_per_s: Draws


def interval(asked: Scenario, resolved: Resolved, point: Point) -> Drawn:
    """80 % interval of tokens/s around ``point``, from ``asked.draws`` seeded draws. A run that cannot start is 0."""
    if asked.draws == 0:
        value = point.tokens_per_s
        return Drawn(Interval(value, value, LEVEL), 0.0, np.array([value]))
    drawn = speeds(asked, resolved, point, deviates(asked.draws, asked.seed))
    low, high = tails(drawn)
    found = Interval(min(low, point.tokens_per_s), max(high, point.tokens_per_s), LEVEL)
    return Drawn(found, drawn.tolist().count(0.0) / len(drawn), drawn)


def tails(drawn: Draws) -> tuple[float, float]:
    """Between which ``LEVEL`` of the draws are."""
    ordered = np.sort(drawn).tolist()
    tail = round((1 - LEVEL) / 2 * (len(ordered) - 1))
    return ordered[tail], ordered[-1 - tail]


def deviates(n: int, seed: int | str) -> Deviates:
    """``n`` standard normal deviates for every name in ``DRAWN``; equal seeds give equal ones."""
    rng = Random(seed)  # numpy.random takes longer to import than these draws take here
    return {name: np.array([rng.gauss(0.0, 1.0) for _ in range(n)]) for name in DRAWN}


def speeds(asked: Scenario, resolved: Resolved, point: Point, z: Deviates) -> Draws:
    """Tokens/s of every draw of ``z``; 0 where the scenario cannot run."""
    n = len(z["ram"])
    nominal = 1 / mean_latency(*_latencies(point.plan, resolved, {name: np.zeros(1) for name in DRAWN}))[0]
    found = np.zeros(n)
    spread = repeat_spread(resolved)
    for members, variant, plan in _variants(asked, resolved, point, z):
        if variant is not None and plan is not None:
            drawn = {name: row[members] for name, row in z.items()}
            latencies, weights = _latencies(plan, variant, drawn)
            if is_bistable(plan):
                of_a_run = _some_tokens(latencies, drawn)
            else:
                of_a_run = mean_latency(latencies, weights) * np.exp(spread * drawn["repeat"])
            found[members] = 1 / of_a_run
    speed: Draws = found * (point.tokens_per_s / nominal)
    return speed


def repeat_spread(resolved: Resolved) -> float:
    """Standard deviation of the logarithm of a run's time where all rates are known."""
    return resolved.device.residual.value if resolved.device.residual else REPEAT


def _variants(
    asked: Scenario, resolved: Resolved, point: Point, z: Deviates
) -> Iterator[tuple[NDArray[np.bool_], Resolved | None, Plan | None]]:
    """Groups of draws that share a plan; no plan where the scenario cannot run."""
    for ram, in_ram_level in levels(z["ram"], asked.ram_bytes is None):
        variant = resolved if ram == "value" else _with_ram(ram, asked, resolved, point)
        is_mapped = variant is not None and variant.scenario.runtime == "mmap" and asked.read_ahead_bytes is None
        for window, in_window_level in levels(z["read_ahead"], is_mapped):
            members = in_ram_level & in_window_level
            if not members.any():
                continue
            if variant is not resolved or window != "value":
                yield members, variant, _plan_or_none(variant, window)
            elif is_bistable(point.plan):
                for rank, in_case in _cases(z["case"]):
                    if (members & in_case).any():
                        yield members & in_case, resolved, plan_of(resolved, rank=rank)
            else:
                yield members, resolved, point.plan


def _cases(z: Draws) -> list[tuple[float, NDArray[np.bool_]]]:
    """Equal shares of the draws, one for each case a bistable page cache is drawn in."""
    order = np.argsort(np.argsort(z)) * N_CASES // len(z)
    return [((k + 0.5) / N_CASES, order == k) for k in range(N_CASES)]


def levels(z: Draws, is_drawn: bool) -> list[tuple[str, NDArray[np.bool_]]]:
    """Draws at the low bound (20 %), at the value (60 %) and at the high bound (20 %)."""
    if not is_drawn:
        return [("value", np.ones(z.shape, dtype=bool))]
    return [("low", z < -Z80), ("value", np.abs(z) <= Z80), ("high", z > Z80)]


def _with_ram(level: str, asked: Scenario, resolved: Resolved, point: Point) -> Resolved | None:
    usable = round(getattr(resolved.device.memory.usable, level))
    usable = left_of(usable, resolved.scenario, resolved.device, resolved.layout, level)
    if point.plan.runtime == "resident" and point.plan.ram.peak <= usable:
        return resolved
    codec, chunk_bytes = resolved.profile.codec, resolved.profile.chunk_bytes
    open_ = replace(asked, ram_bytes=usable, available_bytes=None, codec=codec, chunk_bytes=chunk_bytes)
    try:
        return complete(open_, resolved.device, resolved.profile, resolved.layout)
    except InfeasibleError:
        return None


def _plan_or_none(variant: Resolved | None, window: str) -> Plan | None:
    if variant is None:
        return None
    try:
        return plan_of(variant, window)
    except InfeasibleError:
        return None


def mean_latency(latencies: Draws, weights: Draws) -> Draws:
    """Mean decode latency per draw. [s]"""
    total: Draws = (latencies * weights[:, None]).sum(axis=0) / weights.sum()
    return total


def _some_tokens(latencies: Draws, z: Deviates) -> Draws:
    """Mean latency per draw of ``N_AVERAGED`` tokens somewhere in the run, and the noise of repeats. [s]"""
    n_tokens, n = latencies.shape
    length = min(N_AVERAGED, n_tokens)
    first = np.argsort(np.argsort(z["stretch"])) * (n_tokens - length + 1) // n
    stretch: Draws = latencies[first[None, :] + np.arange(length)[:, None], np.arange(n)].mean(axis=0)
    return stretch * np.exp(REPEAT_SPREAD * z["repeat"])


def _latencies(plan: Plan, resolved: Resolved, z: Deviates) -> tuple[Draws, Draws]:
    return latencies_at(plan, rates_at(resolved, plan, drawn_factors(resolved, plan, z)), len(z["ram"]))


def latencies_at(plan: Plan, rates: Rates, n: int) -> tuple[Draws, Draws]:
    """Decode latencies of a shortened run at ``n`` rates at once, and how many tokens each stands for. [s]

    Shapes: (tokens, ``n``) and (tokens,).
    """
    short = shortened(plan)
    number = {p: i for i, p in enumerate(dict.fromkeys(p for p, _ in short))}
    passes = tuple(_with_mean_swap(plan, plan.passes[p]) for p in number)
    brief = replace(plan, passes=passes, order=tuple(number[p] for p, _ in short))
    ends = batch.run(_in_gangs(time_plan(brief, rates)), n)
    weights = np.array([count for _, count in short], dtype=float)
    decode = np.array([plan.passes[p].kind == "decode" for p, _ in short])
    latencies = np.diff(ends, axis=0, prepend=np.zeros((1, n)))
    return latencies[decode], weights[decode]


def _with_mean_swap(plan: Plan, p: Pass) -> Pass:
    """A decoded token with what all of them bring through swap on average: the first few are no sample of that."""
    if p.kind != "decode":
        return p
    return p.with_last_swap(round(fmean(plan.passes[i].last_swap_bytes for i in plan.order[plan.n_setup :])))


def _in_gangs(timed: TimedPlan) -> TimedPlan:
    """All workers decompress the chunks of one fetch together: close, several times cheaper to draw, and the small
    difference cancels against the nominal run, which is taken the same way."""
    gangs = [gang(n, timed.n_workers) for n in timed.n_chunks]
    times = [t * n for t, n in zip(timed.decompress_s, gangs, strict=True)]
    return replace(timed, decompress_s=times, n_chunks=[min(n, 1) for n in gangs], n_workers=1)


def gang(n_chunks: Count, n_workers: int) -> Count:
    """How many chunks the busiest of ``n_workers`` has of ``n_chunks``."""
    return -(-n_chunks // n_workers)


def shortened(plan: Plan) -> list[tuple[int, int]]:
    """(pass, how many passes it stands for): the last prefill, then runs of equal passes cut to ``N_REPEATS``."""
    most = N_SCANS if is_bistable(plan) else N_REPEATS + N_DISTINCT
    short: list[tuple[int, int]] = [(plan.order[plan.n_setup - 1], 1)]
    for p in plan.order[plan.n_setup :]:
        run = 0
        while run < len(short) and short[-1 - run][0] == p:
            run += 1
        if run >= N_REPEATS:
            short[-1] = (p, short[-1][1] + 1)
        elif len(short) <= most:
            short.append((p, 1))
    return short


def drawn_factors(resolved: Resolved, plan: Plan, z: Deviates) -> Factors:
    """What multiplies each rate that ``plan`` meets, in every draw."""
    storage, cpu, memory = resolved.device.storage, resolved.device.cpu, resolved.device.memory
    kernels = [n for p in plan.passes for s in p.steps for n in s.weight_bytes]
    kernel = max(kernels, key=lambda item: item[1])[0] if kernels else "f16"
    cores = [c for c in cpu.clusters for _ in range(c.n_cores)]
    quantities = {
        "storage": _read_rate(storage, plan),
        "memory": memory.read_bandwidth,
        "gemv": cpu.gemv.get(kernel),
        "prefill": cpu.prefill.get(kernel, cpu.prefill.get("default")),
        "decompress": cpu.decompress.get(base_codec(resolved.profile.codec)),
        "layer_overhead": cpu.layer_overhead,
        "fault_overhead": storage.fault_overhead,
        "core_speed": cores[min(plan.n_threads, len(cores)) - 1].relative_speed,
        "parallel": cpu.parallel_efficiency,
        "threads": cpu.thread_efficiency,
        "commit": memory.commit_bandwidth,
        "swap": memory.swap_fault,
        "handover": cpu.handover,
        "fresh": memory.fresh_page,
    }
    drawn = {name: factor(q, z[name]) for name, q in quantities.items() if q is not None}
    low, high = resolved.profile.ratio_interval or (1.0, 1.0)
    ratio = resolved.profile.ratio if resolved.profile.ratio_interval else 1.0
    return Factors(**drawn, ratio=_split_log_normal(min(low, ratio), ratio, max(high, ratio), z["ratio"]))


def _read_rate(storage: Storage, plan: Plan) -> Quantity:
    if plan.runtime == "mmap" and storage.fault_bandwidth:
        return storage.fault_bandwidth
    return _nearest(storage.curve, plan.request_bytes, plan.queue_depth).bandwidth


def factor(quantity: Quantity, z: Draws) -> Draws:
    """Split log-normal multiplier: 10 % below ``low/value``, 10 % above ``high/value``."""
    return _split_log_normal(quantity.low, quantity.value, quantity.high, z)


def _split_log_normal(low: float, value: float, high: float, z: Draws) -> Draws:
    if value == 0:
        return np.ones(z.shape)
    up = log(high / value) / Z90
    down = log(value / low) / Z90 if low > 0 else 1.0
    return np.exp(np.where(z > 0, up * z, down * z))


def _nearest(curve: tuple[ReadPoint, ...], block_bytes: float, depth: int) -> ReadPoint:
    return min(curve, key=lambda p: log2(p.block_bytes / block_bytes) ** 2 + log2(p.queue_depth / depth) ** 2)
