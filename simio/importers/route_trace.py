"""Routing traces of BigMoeOnEdge (``# route_trace v1``): read for ``simio predict --routing``, not as measured runs.

Comment lines give the model (``n_layer=… n_expert=… n_expert_used=…``); then a row for each expert chosen:
``turn,phase,step,layer,slot,expert,weight,residency,expert_bytes``. Phase 0 is the prompt, 1 decoding. What the phone's
cache held (residency) is measured, and not read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from simio.errors import MeasurementFileError, UsageError
from simio.records.routing import RoutingTrace

MAGIC = "# route_trace v1"
COLUMNS = "turn,phase,step,layer,slot,expert,weight"
_HINT = "expected a route_trace v1 file of BigMoeOnEdge, see docs/measurements.md"

Chosen = dict[int, list[tuple[int, int, float]]]  # layer → (slot, expert, weight)


def sniff(path: Path) -> bool:
    """Whether ``path`` starts like a routing trace."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().startswith(MAGIC)
    except OSError:
        return False


def read(path: Path) -> RoutingTrace:
    """The trace in ``path``; raises ``UsageError`` without a file, ``MeasurementFileError`` naming file and line."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such routing trace"
        raise UsageError(f"{path}: {what}", "give a route_trace v1 file with --routing")
    if not sniff(path):
        raise MeasurementFileError(f"{path}: is no routing trace", _HINT)
    about: dict[str, str] = {}
    tokens: dict[tuple[int, int, int], Chosen] = defaultdict(lambda: defaultdict(list))
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.startswith("#"):
                pairs = dict(re.findall(r"(\w+)=(\S+)", line))
                if "layer" not in pairs:
                    about |= pairs
            elif not line.startswith("turn,") and line.strip():
                turn, phase, step, layer, *chosen = _row(path, number, line)
                tokens[int(turn), int(phase), int(step)][int(layer)].append((int(chosen[0]), int(chosen[1]), chosen[2]))
    return _trace(path, about, tokens)


def _whole(path: Path, number: int, pairs: dict[str, str], key: str) -> int:
    try:
        return int(pairs[key])
    except (KeyError, ValueError):
        raise MeasurementFileError(f"{path}: line {number}: no whole number {key}", _HINT) from None


def _row(path: Path, number: int, line: str) -> tuple[int, int, int, int, int, int, float]:
    cells = line.split(",")
    try:
        turn, phase, step, layer, slot, expert = map(int, cells[:6])
        weight = float(cells[6])
    except (ValueError, IndexError):
        raise MeasurementFileError(f"{path}: line {number}: '{line.strip()[:60]}' is not {COLUMNS}", _HINT) from None
    if min(turn, step, layer, slot, expert) < 0 or phase not in (0, 1) or not 0 <= weight <= 1e6:
        raise MeasurementFileError(f"{path}: line {number}: a number out of its range", _HINT)
    return turn, phase, step, layer, slot, expert, weight


def _trace(path: Path, about: dict[str, str], tokens: dict[tuple[int, int, int], Chosen]) -> RoutingTrace:
    n_layers, n_experts, top_k = (_whole(path, 2, about, key) for key in ("n_layer", "n_expert", "n_expert_used"))
    order = sorted(key for key in tokens if len(tokens[key]) == n_layers or key[1] == 0)
    decoded = [key for key in order if key[1] == 1]
    if not decoded:
        raise MeasurementFileError(f"{path}: no decoded token takes experts in all {n_layers} layers", _HINT)
    if not 1 <= top_k <= n_experts:
        raise MeasurementFileError(f"{path}: n_expert_used={top_k} of {n_experts} experts", _HINT)
    for key in decoded:
        for layer, chosen in tokens[key].items():
            if len({expert for _, expert, _ in chosen}) != top_k:
                raise MeasurementFileError(f"{path}: step {key[2]}, layer {layer}: not {top_k} experts", _HINT)

    def of(keys: list[tuple[int, int, int]], column: int) -> tuple[tuple[tuple[float, ...], ...], ...]:
        layers = range(n_layers)
        return tuple(tuple(tuple(c[column] for c in sorted(tokens[k].get(n, []))) for n in layers) for k in keys)

    prompt = [key for key in order if key[1] == 0]
    experts = [e for key in order for chosen in tokens[key].values() for _, e, _ in chosen]
    if max(experts) >= n_experts:
        raise MeasurementFileError(f"{path}: expert {max(experts)} of a model with {n_experts}", _HINT)
    return RoutingTrace(
        n_layers=n_layers,
        n_experts=n_experts,
        top_k=top_k,
        prompt=_whole_numbers(of(prompt, 1)),
        decoded=_whole_numbers(of(decoded, 1)),
        weights=of([*prompt, *decoded], 2),
    )


def _whole_numbers(table: tuple[tuple[tuple[float, ...], ...], ...]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    return tuple(tuple(tuple(int(e) for e in layer) for layer in token) for token in table)
