"""From a scenario to a Prediction: resolve, evaluate, hold against the laws, explain.

The room can be called as its verb: ``simio.predict(device="pixel8", model="llama-3.2-3b:q4_k_m")``.
"""

from __future__ import annotations

from typing import Any

import numpy

from simio import __version__
from simio.analytic.bounds import demand
from simio.callable_room import make_callable
from simio.predict import bottleneck, laws
from simio.predict.energy import energy_interval, energy_j_per_token
from simio.predict.interval import Drawn, interval
from simio.predict.point import Point, evaluate
from simio.predict.resolve import Progress, Resolved, resolve
from simio.predict.suggest import suggest
from simio.records.prediction import Prediction, Suggestion, TokenLatency
from simio.records.scenario import Scenario
from simio.service_times import lane_s, read_bandwidth
from simio.sim import engine


def predict(
    scenario: Scenario | None = None,
    /,
    *,
    full_check: bool = False,
    suggestions: bool = True,
    progress: Progress | None = None,
    trying: Progress | None = None,
    **fields: Any,
) -> Prediction:
    """Predict TTFT and the latency of every token.

    ``fields`` are those of ``Scenario``, alone or on top of ``scenario``. ``full_check`` lets the SimPy engine cover
    the whole run instead of a prefix. ``progress(done, total)`` is called while a weights file is sampled, ``trying``
    likewise while changes are tried. Raises ``SimioError`` (see ``simio.errors``) for input that cannot be predicted.
    """
    asked = Scenario.of(scenario, **fields)
    resolved = resolve(asked, progress)
    point = evaluate(resolved)
    helps = suggest(asked, resolved, point, progress, trying) if suggestions else ()
    return explain(asked, resolved, point, interval(asked, resolved, point), helps, full_check)


def explain(
    scenario: Scenario,
    resolved: Resolved,
    point: Point,
    drawn: Drawn,
    suggestions: tuple[Suggestion, ...] = (),
    full_check: bool = False,
) -> Prediction:
    """``point`` as a prediction, held against the laws. Raises ``LawError`` where one fails."""
    checks = laws.check(point, scenario, full_check)
    limits = bottleneck.find(point)
    decode = demand(point.timed, point.plan.n_setup)
    whole = demand(point.timed)
    latencies = point.token_latencies_s
    return Prediction(
        tokens_per_s=point.tokens_per_s,
        ttft_s=point.first_token_s - point.load_s,
        cold_start_s=point.first_token_s,
        token_latency_s=TokenLatency.of(latencies),
        interval=drawn.interval,
        energy_j_per_token=energy_j_per_token(resolved, point),
        energy_interval=energy_interval(scenario, resolved, point),
        bytes_per_token=decode.link_bytes / len(latencies),
        hit_ratio=point.plan.hit_ratio,
        cache_hit_ratio=point.plan.cache_hit_ratio,
        peak_ram_bytes=point.plan.ram.peak,
        ram=point.plan.ram,
        bottleneck=limits,
        busy_s=whole.busy_s,
        bounds_s={"lower": whole.lower_s, "upper": whole.upper_s},
        checks=checks,
        confidence=bottleneck.confidence(limits, resolved, point, scenario.ram_bytes is not None),
        suggestions=suggestions,
        scenario=scenario,
        resolved=resolved.scenario,
        model=_model(resolved),
        compression=_compression(resolved),
        token_latencies_s=tuple(latencies),
        notes=(*resolved.profile.model.notes, *point.plan.notes, *_doubts(drawn, resolved, point, scenario.n_tokens)),
        versions={"simio": __version__, "numpy": numpy.__version__, "simpy": engine.VERSION},
    )


def _model(resolved: Resolved) -> dict[str, object]:
    model = resolved.profile.model
    return {
        "name": model.name,
        "source": model.source,
        "n_bytes": model.n_bytes,
        "n_weights": model.n_weights,
        "bits_per_weight": model.bits_per_weight,
        "active_bytes": resolved.layout.active_bytes(resolved.scenario.top_k or 0),
        "digest": model.digest,
    }


def _compression(resolved: Resolved) -> dict[str, object]:
    profile = resolved.profile
    raw = max(1, profile.raw_bytes)
    entropy = sum(t.entropy_bits_per_byte * sum(t.raw_bytes) for t in profile.tensors) / raw
    return {
        "codec": profile.codec,
        "ratio": profile.ratio,
        "bound_ratio": 8 / entropy if entropy else None,
        "ratio_interval": profile.ratio_interval,
        "basis": profile.basis,
    }


#: Lanes that bring less than this share more are not worth having.
LANE_GAIN = 0.02


def _idle_lanes(resolved: Resolved, point: Point) -> list[str]:
    """Where more lanes read slices of experts than the storage rewards."""
    lanes = point.plan.queue_depth
    if resolved.scenario.dense_weights is None:
        return []
    storage, n_bytes, fresh = resolved.device.storage, point.plan.request_bytes, resolved.device.memory.fresh_page
    busy_s = float(lane_s(storage, n_bytes, fresh.value if fresh and point.plan.fresh_bytes else 0.0))
    rate = [min(read_bandwidth(storage, n_bytes, n), n * n_bytes / busy_s) for n in range(1, lanes + 1)]
    enough = 1 + next(n for n, r in enumerate(rate) if r >= (1 - LANE_GAIN) * max(rate))
    return [f"more than {enough} lanes gain nothing here"] if enough < lanes else []


def _replayed(resolved: Resolved, asked_tokens: int) -> list[str]:
    """Where a routing trace is shorter than the run asked for."""
    if resolved.trace is None:
        return []
    n_prompt, n_tokens = len(resolved.trace.prompt), resolved.scenario.n_tokens
    notes = [f"the routing trace ends after {n_tokens} tokens, and so does this run"] if n_tokens < asked_tokens else []
    if resolved.scenario.prompt_tokens > n_prompt:
        notes.append(f"the trace's prompt of {n_prompt} tokens is replayed again and again")
    return notes


def _planned_elsewhere(resolved: Resolved) -> list[str]:
    """Where a joint plan was made for another device."""
    made_for = resolved.profile.planned_for
    if made_for in ("", resolved.device.id):
        return []
    return [
        f"the joint plan was made for {made_for}: on {resolved.device.id} another choice may be faster, and its mean "
        "decompression rate is another"
    ]


def _doubts(drawn: Drawn, resolved: Resolved, point: Point, asked_tokens: int) -> tuple[str, ...]:
    """What the lanes, and the RAM of the device, leave open."""
    usable = resolved.device.memory.usable
    notes = _idle_lanes(resolved, point)
    notes += [*_replayed(resolved, asked_tokens), *_planned_elsewhere(resolved)]
    if resolved.scenario.entry_temperature_c is not None and resolved.device.thermal is None:
        notes.append(
            f"how {resolved.device.name} behaves when hot is not known: its temperature at the start is not used"
        )
    notes += [f"usable RAM of {resolved.device.name}: {usable.note}"] if usable.note else []
    if drawn.infeasible:
        notes.append(f"in {100 * drawn.infeasible:.0f} % of the draws the weights do not fit in RAM (0 tokens/s)")
    return tuple(notes)


make_callable(__name__, predict)

__all__ = ["Point", "Resolved", "evaluate", "explain", "predict", "resolve"]
