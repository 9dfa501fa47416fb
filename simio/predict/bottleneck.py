"""What limits decoding, and how far the answer can be trusted."""

from __future__ import annotations

from simio.analytic.bounds import demand
from simio.predict.point import Point
from simio.predict.resolve import Resolved
from simio.records.device import Quantity
from simio.records.prediction import Bottleneck, Confidence
from simio.service_times import arithmetic_s, base_codec, traffic_s

#: Kind of source → how much it is worth; the worst one behind the limiting resource decides the label.
_LABEL = {
    "measured": "high", "fitted": "high", "datasheet": "medium", "review": "medium", "inferred": "medium",
    "assumed": "low",
}  # fmt: skip


def find(point: Point) -> Bottleneck:
    """Share of decode time that each resource is busy (demand ÷ servers ÷ time)."""
    first = point.plan.n_setup
    wanted = demand(point.timed, first)
    time = sum(point.token_latencies_s)
    memory, cores = _compute_split(point, first)
    total = {
        "storage bandwidth": wanted.busy_s["storage"],
        "storage latency": wanted.busy_s["slots"] / point.timed.queue_depth if point.timed.latency_s else 0.0,
        "decompression": wanted.busy_s["decompress"] / point.timed.n_workers,
        "memory bandwidth": memory,
        "compute": cores,
    }
    share = {name: busy / time for name, busy in total.items()}
    ranked = sorted(share, key=lambda name: share[name], reverse=True)
    busiest = max(wanted.busy_s[name] / wanted.servers[name] for name in wanted.busy_s)
    return Bottleneck(ranked[0], ranked[1], share, busiest / time)


def _compute_split(point: Point, first: int) -> tuple[float, float]:
    """Compute time of the decode passes, split by what binds each step: DRAM, or the cores (with synchronisation)."""
    counts: dict[int, int] = {}
    for p in point.plan.order[first:]:
        counts[p] = counts.get(p, 0) + 1
    memory = cores = 0.0
    for p, n in counts.items():
        for step in point.plan.passes[p].steps:
            traffic, arithmetic = float(traffic_s(step, point.rates)), float(arithmetic_s(step, point.rates))
            memory += n * (traffic if traffic >= arithmetic else 0.0)
            overhead = step.overheads * float(point.rates.layer_overhead_s)
            cores += n * ((arithmetic if arithmetic > traffic else 0.0) + overhead)
    return memory, cores


def confidence(bottleneck: Bottleneck, resolved: Resolved) -> Confidence:
    """The label of the worst source behind the two busiest resources, and what it rests on."""
    behind = {name: _numbers(name, resolved) for name in (bottleneck.limit, bottleneck.next)}
    used = {name: qs for name, qs in behind.items() if bottleneck.share[name] > 0.05}
    kinds = {name: sorted({q.kind for q in qs}) for name, qs in used.items()}
    ranks = [_LABEL[k] for ks in kinds.values() for k in ks]
    label = next((rank for rank in ("low", "medium", "high") if rank in ranks), "medium")
    basis = "; ".join(f"{name}: {', '.join(ks)}" for name, ks in kinds.items())
    if resolved.profile.basis == "statistics" and resolved.scenario.codec != "raw":
        basis += "; compression: stored statistics of the same layout, not this model's weights"
        label = "medium" if label == "high" else label
    return Confidence(label, basis)


def _numbers(resource: str, resolved: Resolved) -> list[Quantity]:
    device = resolved.device
    if resource.startswith("storage"):
        return [p.bandwidth for p in device.storage.curve if p.block_bytes >= 65536] or [
            p.bandwidth for p in device.storage.curve
        ]
    if resource == "memory bandwidth":
        return [device.memory.read_bandwidth]
    if resource == "decompression":
        rate = device.cpu.decompress.get(base_codec(resolved.scenario.codec))
        return [rate] if rate else []
    used = {n for t in resolved.profile.model.tensors for n in (t.dtype.lower(),)}
    return [q for k, q in device.cpu.gemv.items() if k in used] or list(device.cpu.gemv.values())
