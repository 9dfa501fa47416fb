"""Two or more things side by side, and in how many draws one is faster than another.

On one device the draws are paired: its storage, cores and RAM are what they are for both, so only what differs between
the two tells them apart (common random numbers: Glasserman and Yao, Management Science 38(6), 1992). What is of a run
and not of the device (repeats) is drawn for each by itself, and so is the compression ratio unless both read the same
compressed weights. Numbers of different devices are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from simio.errors import InfeasibleError, UsageError
from simio.predict import explain
from simio.predict.interval import LEVEL, OF_A_RUN, Deviates, Draws, deviates, interval, speeds
from simio.predict.point import Point, evaluate
from simio.predict.resolve import Progress, Resolved, resolve
from simio.records.comparison import Comparison, Contender, Odds
from simio.records.scenario import Scenario
from simio.units import format_bytes
from simio.whatif.words import fields_of

#: What can be compared: a word as on the command line, fields of a scenario, or a scenario.
Thing = str | Mapping[str, Any] | Scenario
#: Beyond this a table tells nothing; `simio sweep` is for that.
MOST = 50


def compare(*things: Thing, progress: Progress | None = None, **common: Any) -> Comparison:
    """Predict every one of ``things`` and say in how many draws each is faster than each other.

    A thing is a word (device, model, codec, runtime, or file of a device, model or scenario), a mapping of ``Scenario``
    fields, or a ``Scenario``; ``common`` fields go for all of them and win over those of a saved scenario.
    ``progress(done, total)`` counts things. What cannot run takes part with 0 tokens/s.

    Raises ``UsageError`` for fewer than two things, ``InfeasibleError`` where none can run, else as ``predict`` does.
    """
    if not 2 <= len(things) <= MOST:
        what = "nothing" if not things else "one thing" if len(things) == 1 else f"{len(things)} things"
        raise UsageError(f"{what} to compare", f"name from 2 to {MOST} devices, models, codecs or scenario files")
    scenarios = [scenario_of(thing, common) for thing in things]
    draws, seed = _one_kind_of_draws(scenarios)
    runs: list[_Run] = []
    for label, scenario in zip(_labels(things), scenarios, strict=True):
        if progress:
            progress(len(runs), len(things))
        runs.append(_run(label, scenario))
    if progress:
        progress(len(things), len(things))
    if all(run.resolved is None for run in runs):
        raise InfeasibleError(f"none of them can run: {runs[0].contender.problem}", "give more RAM")
    _draw(runs, draws, seed)
    odds = tuple(_odds(a, b, draws) for a, b in combinations(runs, 2))
    return Comparison(tuple(run.contender for run in runs), odds)


def scenario_of(thing: Thing, common: Mapping[str, Any]) -> Scenario:
    """``thing`` with the fields they all share. Raises ``UsageError`` where a device or a model is missing."""
    if isinstance(thing, Scenario):
        return Scenario.of(thing, **common)
    if not isinstance(thing, str):
        return Scenario.of(None, **{**common, **thing})
    given = fields_of(thing)
    is_whole = {"device", "model"} <= given.keys()
    for name in given.keys() & common.keys() if not is_whole else ():
        message = f"'{thing}' is a {name}, and {common[name]} is given as the {name} of all"
        raise UsageError(message, "leave one of them out")
    fields = {**given, **common}
    for name, example in (("device", "pixel8"), ("model", "llama-3.2-3b:q4_k_m")):
        if name not in fields:
            raise UsageError(f"'{thing}' names no {name}, and none is given for all", f"for example --{name} {example}")
    return Scenario.of(None, **fields)


class _Run:
    """One contender with what its draws need."""

    def __init__(self, contender: Contender, resolved: Resolved | None = None, point: Point | None = None) -> None:
        self.contender, self.resolved, self.point = contender, resolved, point
        self.tokens_per_s: Draws = np.zeros(1)


def _run(label: str, scenario: Scenario) -> _Run:
    try:
        resolved = resolve(scenario)
        point = evaluate(resolved)
    except InfeasibleError as error:
        return _Run(Contender(label, scenario, None, error.message))
    prediction = explain(scenario, resolved, point, interval(scenario, resolved, point))
    return _Run(Contender(label, scenario, prediction), resolved, point)


def _one_kind_of_draws(scenarios: Sequence[Scenario]) -> tuple[int, int]:
    kinds = {(s.draws, s.seed) for s in scenarios}
    if len(kinds) > 1:
        raise UsageError("the scenarios ask for different draws or seeds", "give --draws and --seed for all of them")
    return kinds.pop()


def _draw(runs: Sequence[_Run], n: int, seed: int) -> None:
    """Tokens/s of every run, draw by draw; equal devices meet equal deviates."""
    for i, run in enumerate(runs):
        if run.resolved is None or run.point is None:
            run.tokens_per_s = np.zeros(max(1, n))
        elif n == 0:
            run.tokens_per_s = np.array([run.point.tokens_per_s])
        else:
            z = _deviates(runs, i, n, seed)
            run.tokens_per_s = speeds(run.contender.scenario, run.resolved, run.point, z)


def _deviates(runs: Sequence[_Run], i: int, n: int, seed: int) -> Deviates:
    """Rows of the first run on the same device; those of a run by itself, the ratio of the first with these weights."""
    first = next(k for k, run in enumerate(runs) if _same_device(run, runs[i]))
    weights = next(k for k, run in enumerate(runs) if _same_weights(run, runs[i]))
    own, ratio = _stream(n, seed, i), _stream(n, seed, weights)["ratio"]
    return {**_stream(n, seed, first), **{name: own[name] for name in OF_A_RUN}, "ratio": ratio}


def _stream(n: int, seed: int, i: int) -> Deviates:
    """The first run's deviates are those of `simio predict`."""
    return deviates(n, seed if i == 0 else f"{seed} {i}")


def _same_device(a: _Run, b: _Run) -> bool:
    return a.resolved is not None and b.resolved is not None and a.resolved.device == b.resolved.device


def _same_weights(a: _Run, b: _Run) -> bool:
    if a.resolved is None or b.resolved is None:
        return False
    one, other = a.resolved.profile, b.resolved.profile
    return (one.model.digest, one.codec, one.chunk_bytes) == (other.model.digest, other.codec, other.chunk_bytes)


def _odds(a: _Run, b: _Run, n: int) -> Odds:
    """How ``a`` fares against ``b`` over their draws."""
    x, y = a.tokens_per_s, b.tokens_per_s
    share = float(np.mean(x > y) + np.mean(x == y) / 2)
    value = a.contender.tokens_per_s / b.contender.tokens_per_s if b.contender.tokens_per_s else None
    with np.errstate(divide="ignore", invalid="ignore"):
        ordered = np.sort(x / y)
    tail = round((1 - LEVEL) / 2 * (len(ordered) - 1))
    low, high = (float(v) if np.isfinite(v) else None for v in (ordered[tail], ordered[-1 - tail]))
    labels = a.contender.label, b.contender.label
    return Odds(*labels, share, value, low, high, n, _same_device(a, b))


def _labels(things: Sequence[Thing]) -> list[str]:
    """The words themselves, the fields given, or the model on the device; numbered where that is not enough."""
    labels = [_label(thing) for thing in things]
    seen = [labels[: i + 1].count(label) for i, label in enumerate(labels)]
    return [f"{label} #{n}" if labels.count(label) > 1 else label for label, n in zip(labels, seen, strict=True)]


def _label(thing: Thing) -> str:
    if isinstance(thing, str):
        return thing
    if isinstance(thing, Scenario):
        return f"{thing.model} on {thing.device}"
    return " · ".join(format_bytes(value) if name.endswith("_bytes") else str(value) for name, value in thing.items())
