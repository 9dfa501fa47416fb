"""From which rates on a codec pays on a device: the closed form beside the simulated curve.

Raw and compressed weights are streamed by the same scenario, each by its own plan; then the storage (or the
decompressor) is made slower and faster, all rates in one run of the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, log
from typing import Any

import numpy as np

from simio.analytic import break_even as closed
from simio.analytic import recurrence
from simio.errors import UsageError
from simio.predict.interval import Draws, latencies_at, mean_latency
from simio.predict.point import plan_of, rates_at
from simio.predict.resolve import Progress, Resolved, complete, resolve, uncompressed
from simio.predict.suggest import LEAST_GAIN
from simio.records.break_even import BreakEvenStudy, Curve, GainPoint, finite
from simio.records.plan import Fetch, Plan
from simio.records.scenario import Scenario
from simio.service_times import Factors, read_bandwidth
from simio.timing import time_plan
from simio.units import format_bytes

#: Rates drawn, and how far from the device's own: from a sixty-fourth to sixty-four times.
N_RATES, FARTHEST = 49, 64.0
#: A simulated gain this close to 1 is none: both wait for something else.
_NOTHING = 1e-3


def break_even(
    scenario: Scenario | None = None, /, *, progress: Progress | None = None, **fields: Any
) -> BreakEvenStudy:
    """Where the codec of a scenario starts to pay: ``fields`` of ``Scenario``, alone or on top of ``scenario``.

    ``progress(done, total)`` is called while a weights file is sampled. Raises ``UsageError`` where the codec is raw or
    the runtime does not stream, else as ``predict``.
    """
    asked = Scenario.of(scenario, **fields)
    if asked.runtime not in ("auto", "stream"):
        raise UsageError(f"the runtime {asked.runtime} reads no compressed weights", "use --runtime stream")
    resolved = resolve(replace(asked, runtime="stream"), progress)
    if resolved.profile.codec == "raw":
        raise UsageError("the codec is raw: there is nothing to break even", "for example --codec zstd:1")
    # Reads of whole requests for the raw weights, too: experts streamed slice by slice are another pipeline.
    depth = asked.prefetch_depth if asked.prefetch_depth is not None else 1
    bare = uncompressed(resolved.profile)
    as_raw = replace(asked, runtime="stream", codec="raw", chunk_bytes=bare.chunk_bytes, prefetch_depth=depth)
    runs = _Streamed.of(complete(as_raw, resolved.device, bare)), _Streamed.of(resolved)
    plan = runs[1].plan
    ratio, share = _read(plan)
    free = read_bandwidth(resolved.device.storage, plan.request_bytes, plan.queue_depth, sequential=True)
    storage = min(free, asked.read_limit_bytes_per_s or free)
    decompress = plan.n_workers * float(rates_at(resolved, plan, Factors()).decompress_bytes_per_s)
    factors = np.geomspace(1 / FARTHEST, FARTHEST, N_RATES)
    unlimited = runs[0].unlimited(), runs[1].unlimited()
    over_storage = _curve(
        unlimited, factors, free, "storage", lambda b: closed.pipelined_gain(ratio, share, decompress, b)
    )
    over_decompress = _curve(
        runs, factors, decompress, "decompress", lambda d: closed.pipelined_gain(ratio, share, d, storage)
    )
    return BreakEvenStudy(
        scenario=resolved.scenario,
        ratio=ratio,
        share=share,
        storage=storage,
        decompress=decompress,
        gain=closed.pipelined_gain(ratio, share, decompress, storage),
        simulated_gain=over_decompress.points[N_RATES // 2].gain,
        storage_limit=finite(closed.pipelined_storage(share, decompress)),
        serial_storage_limit=finite(closed.serial_storage(ratio, share, decompress)),
        decompress_limit=closed.pipelined_decompress(share, storage),
        serial_decompress_limit=finite(closed.serial_decompress(ratio, share, storage)),
        over_storage=over_storage,
        over_decompress=over_decompress,
        notes=_notes(runs[0].plan, plan, ratio),
    )


@dataclass(frozen=True, slots=True)
class _Streamed:
    """One way of storing the weights with its plan; ``scale`` makes short runs exact at the device's own rates."""

    resolved: Resolved
    plan: Plan
    scale: float

    @classmethod
    def of(cls, resolved: Resolved) -> _Streamed:
        plan = plan_of(resolved)
        rates = rates_at(resolved, plan, Factors())
        ends = recurrence.run(time_plan(plan, rates)).pass_end_s[plan.n_setup - 1 :]
        exact = (ends[-1] - ends[0]) / (len(ends) - 1)
        return cls(resolved, plan, exact / float(mean_latency(*latencies_at(plan, rates, 1))[0]))

    def unlimited(self) -> _Streamed:
        """The same without a throttle in front of the storage."""
        scenario = replace(self.resolved.scenario, read_limit_bytes_per_s=None)
        return _Streamed.of(replace(self.resolved, scenario=scenario))

    def tokens_per_s(self, factors: Factors, n: int) -> Draws:
        """At ``n`` rates at once, all of a cool device. Shape (n,)."""
        latency = mean_latency(*latencies_at(self.plan, rates_at(self.resolved, self.plan, factors), n))
        speed: Draws = 1 / (self.scale * latency)
        return speed


def _reads(plan: Plan) -> list[Fetch]:
    """What a token reads from storage."""
    return [f for s in plan.passes[plan.order[-1]].steps for f in s.fetches if f.n_reads]


def _read(plan: Plan) -> tuple[float, float]:
    """Of what a token reads: raw ÷ stored bytes, and the share of the raw bytes that is decompressed."""
    fetches = _reads(plan)
    raw = sum(f.raw_bytes for f in fetches)
    if not raw:
        return 1.0, 0.0
    return raw / sum(f.link_bytes for f in fetches), sum(f.decompress_bytes for f in fetches) / raw


def _curve(
    runs: tuple[_Streamed, _Streamed], factors: Draws, own: float, moved: str, gain_at: Callable[[float], float]
) -> Curve:
    """Raw and compressed at ``own`` × ``factors`` of one resource."""
    drawn = Factors(**{moved: factors})
    raw, packed = (run.tokens_per_s(drawn, len(factors)) for run in runs)
    rates = (own * factors).tolist()
    points = tuple(map(GainPoint, rates, raw.tolist(), packed.tolist(), map(gain_at, rates)))
    return Curve(points, _crossing(points))


def _crossing(points: tuple[GainPoint, ...]) -> float | None:
    """The rate at which the simulated gain last crosses 1 on its way, linear in between on logarithmic rates."""
    found = None
    for a, b in pairwise(points):
        left, right = a.gain - 1 - _NOTHING, b.gain - 1 - _NOTHING
        if (left > 0) != (right > 0):
            found = exp(log(a.bytes_per_s) + left / (left - right) * log(b.bytes_per_s / a.bytes_per_s))
    return found


def _notes(bare: Plan, packed: Plan, ratio: float) -> tuple[str, ...]:
    before, after = (sum(f.raw_bytes for f in _reads(plan)) for plan in (bare, packed))
    if not after:
        return ("every weight stays in RAM: a codec shortens loading and nothing else",)
    notes = []
    if ratio < LEAST_GAIN:
        notes.append(f"these weights shrink by {100 * (1 - 1 / ratio):.1f} %: below the noise of any phone measurement")
    if after > LEAST_GAIN * before:
        notes.append(
            f"buffers of compressed pieces leave less RAM for weights: {format_bytes(after - before)} more of them are "
            "read for a token, which the closed form does not know"
        )
    return tuple(notes)
