"""Energy of a decoded token: equation E1 over the decode phase of a point, and its interval."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import numpy as np

from simio.analytic.bounds import demand
from simio.catalog.numbers import Path, with_numbers
from simio.predict.interval import LEVEL, factor
from simio.predict.point import Point
from simio.predict.resolve import Resolved
from simio.records.device import Device, Power, Quantity
from simio.records.plan import Plan
from simio.records.prediction import Interval
from simio.records.scenario import Scenario
from simio.service_times import Rates, Seconds, drain_of, dram_traffic_bytes, energy_j


@dataclass(frozen=True, slots=True)
class Token:
    """A decoded token, on average: floats, or arrays with one entry per scenario."""

    run_s: Seconds
    computing_s: Seconds
    inflating_s: Seconds  # of all workers together
    reading_s: Seconds
    link_bytes: Seconds
    walked_bytes: float  # weights and KV cache


def energy_j_per_token(resolved: Resolved, point: Point) -> float | None:
    """Mean energy of a decoded token; None where the device file has no ``[power]``. [J]"""
    found = energy_of(resolved.device, resolved.profile.ratio, point.plan, point.rates, _token(point))
    return None if found is None else float(found)


def energy_interval(asked: Scenario, resolved: Resolved, point: Point) -> Interval | None:
    """80 % interval of ``energy_j_per_token`` from the bounds of the powers, all times as predicted.

    ``asked.draws`` seeded draws, each number split log-normal as in ``predict.interval``; cores share a draw.
    """
    value, power = energy_j_per_token(resolved, point), resolved.device.power
    if value is None or power is None:
        return None
    if asked.draws == 0:
        return Interval(value, value, LEVEL)
    device = with_numbers(resolved.device, _draws(power, asked.draws, asked.seed))
    drawn = energy_of(device, resolved.profile.ratio, point.plan, point.rates, _token(point))
    ordered = np.sort(np.broadcast_to(np.asarray(drawn, dtype=float), asked.draws))
    tail = round((1 - LEVEL) / 2 * (len(ordered) - 1))
    return Interval(min(float(ordered[tail]), value), max(float(ordered[-1 - tail]), value), LEVEL)


def energy_of(device: Device, ratio: float, plan: Plan, rates: Rates, token: Token) -> Seconds | None:
    """Energy of ``token``, whose times are at ``rates``; ``ratio``: compression of the weights. [J]"""
    if device.power is None:
        return None
    inflated_bytes = token.inflating_s * rates.decompress_bytes_per_s
    traffic = dram_traffic_bytes(token.walked_bytes, token.link_bytes, inflated_bytes, ratio)
    drain = drain_of(device.power, device.cpu, plan)
    return energy_j(drain, token.run_s, token.computing_s, token.inflating_s, token.reading_s, traffic)


def walked_bytes(plan: Plan) -> float:
    """Weights and KV cache that a decoded token walks through, on average."""
    counts = Counter(plan.order[plan.n_setup :])
    total = sum(
        n * (step.kv_bytes + sum(n_bytes for _, n_bytes in step.weight_bytes))
        for p, n in counts.items()
        for step in plan.passes[p].steps
    )
    return total / sum(counts.values())


def _token(point: Point) -> Token:
    latencies, wanted = point.token_latencies_s, demand(point.timed, point.plan.n_setup)
    n, busy_s = len(latencies), wanted.busy_s
    return Token(
        run_s=sum(latencies) / n,
        computing_s=busy_s["compute"] / n,
        inflating_s=busy_s["decompress"] / n,
        reading_s=busy_s["storage"] / n,
        link_bytes=wanted.link_bytes / n,
        walked_bytes=walked_bytes(point.plan),
    )


def _draws(power: Power, n: int, seed: int | str) -> dict[Path, Seconds]:
    """``n`` values of every number of ``power``, by its place in the device."""
    rng = Random(f"power {seed}")

    def drawn(quantities: dict[Path, Quantity]) -> dict[Path, Seconds]:
        z = np.array([rng.gauss(0.0, 1.0) for _ in range(n)])
        return {path: quantity.value * factor(quantity, z) for path, quantity in quantities.items()}

    found = drawn({("power", "core", name): quantity for name, quantity in power.core.items()})
    for name in ("baseline", "dram", "storage_read"):
        found |= drawn({("power", name): getattr(power, name)})
    return found
