"""What limits decoding, and how far the answer can be trusted."""

from __future__ import annotations

from simio.analytic.bounds import demand
from simio.predict.point import Point
from simio.predict.resolve import Resolved
from simio.records.device import Quantity
from simio.records.prediction import Bottleneck, Confidence
from simio.service_times import arithmetic_s, attention_s, base_codec, care_s, kv_traffic_s, paging_s, traffic_s

#: Kind of source → how much it is worth; the worst one behind the limiting resource decides the label.
_LABEL = {
    "measured": "high", "fitted": "high", "datasheet": "medium", "review": "medium", "inferred": "medium",
    "assumed": "low",
}  # fmt: skip


#: What limits a run whose resources are all mostly idle.
WAITING = "waiting (stages do not overlap)"

#: What the cores do for a weight cache, and for the kernel when memory is short.
CARE, PAGING = "weight cache", "page faults"

#: Below this share the busiest resource is not the limit: stages wait for each other.
BUSY = 0.5


def find(point: Point) -> Bottleneck:
    """Share of decode time that each resource is busy (demand ÷ servers ÷ time).

    The first decoded token is left out where there are others: some of its reads happened during the prefill.
    """
    latencies = point.token_latencies_s
    skip = 1 if len(latencies) > 2 else 0
    first = point.plan.n_setup + skip
    wanted = demand(point.timed, first)
    time = sum(latencies[skip:])
    memory, cores, care, paging = _compute_split(point, first)
    total = {
        "storage bandwidth": wanted.busy_s["storage"],
        "storage latency": wanted.busy_s["slots"] / point.timed.queue_depth if point.timed.latency_s else 0.0,
        "decompression": wanted.busy_s["decompress"] / point.timed.n_workers,
        "memory bandwidth": memory,
        "compute": cores,
        CARE: care,
        PAGING: paging,
    }
    share = {name: busy / time for name, busy in total.items()}
    ranked = sorted(share, key=lambda name: share[name], reverse=True)
    busiest = max(wanted.busy_s[name] / wanted.servers[name] for name in wanted.busy_s)
    if busiest / time < BUSY:
        return Bottleneck(WAITING, ranked[0], share, busiest / time)
    return Bottleneck(ranked[0], ranked[1], share, busiest / time)


def _compute_split(point: Point, first: int) -> tuple[float, float, float, float]:
    """Compute time of the decode passes, split by what binds each step: DRAM, the cores (with synchronisation), the
    care of a weight cache, and pages brought back from swap.
    """
    counts: dict[int, int] = {}
    for p in point.plan.order[first:]:
        counts[p] = counts.get(p, 0) + 1
    memory = cores = care = paging = 0.0
    for p, n in counts.items():
        for step in point.plan.passes[p].steps:
            traffic, arithmetic = float(traffic_s(step, point.rates)), float(arithmetic_s(step, point.rates))
            attention, kv_traffic = float(attention_s(step, point.rates)), kv_traffic_s(step, point.rates)
            cores += n * step.overheads * float(point.rates.layer_overhead_s)
            paging += n * float(paging_s(step, point.rates))
            care += n * float(care_s(step, point.rates) - paging_s(step, point.rates))
            if traffic >= arithmetic:
                memory += n * traffic
            else:
                cores += n * arithmetic
            if attention > float(kv_traffic):
                cores += n * attention
            else:
                memory += n * attention
    return memory, cores, care, paging


def confidence(bottleneck: Bottleneck, resolved: Resolved, point: Point, ram_is_asked: bool) -> Confidence:
    """The label of the worst source behind the two busiest resources, and what it rests on."""
    ranked = sorted(bottleneck.share, key=lambda name: bottleneck.share[name], reverse=True)[:2]
    used = {name: _numbers(name, resolved, point) for name in ranked if bottleneck.share[name] > 0.05}
    if not ram_is_asked and point.plan.runtime != "resident":
        used["usable RAM"] = [resolved.device.memory.usable]
    scenario, thermal = resolved.scenario, resolved.device.thermal
    if thermal is not None and (scenario.sustained_s is not None or scenario.entry_temperature_c is not None):
        used["heat"] = [thermal.time_constant, thermal.cpu_share, thermal.storage_share, thermal.cool, thermal.hot]
    kinds = {name: sorted({q.kind for q in qs}) for name, qs in used.items()}
    ranks = [_LABEL[k] for ks in kinds.values() for k in ks]
    label = next((rank for rank in ("low", "medium", "high") if rank in ranks), "medium")
    basis = "; ".join(f"{name}: {', '.join(ks)}" for name, ks in kinds.items())
    if resolved.profile.basis == "statistics" and resolved.profile.codec != "raw":
        basis += "; compression: stored statistics of the same layout, not this model's weights"
        label = "medium" if label == "high" else label
    return Confidence(label, basis)


def _numbers(resource: str, resolved: Resolved, point: Point) -> list[Quantity]:
    """The device's numbers behind a resource."""
    device = resolved.device
    if resource.startswith("storage"):
        size = point.plan.request_bytes
        near = [p.bandwidth for p in device.storage.curve if size / 8 <= p.block_bytes <= 8 * size]
        faults = [device.storage.read_ahead_bytes, device.storage.fault_overhead]
        if device.storage.fault_bandwidth:
            faults.append(device.storage.fault_bandwidth)
        pages = [device.memory.fresh_page] if point.plan.fresh_bytes and device.memory.fresh_page else []
        others = pages + (faults if point.plan.runtime == "mmap" else [])
        return (near or [p.bandwidth for p in device.storage.curve]) + others
    if resource == "memory bandwidth":
        return [device.memory.read_bandwidth]
    if resource in (CARE, PAGING):
        care = (
            (device.memory.commit_bandwidth, device.cpu.handover)
            if resource == CARE
            else (device.memory.swap_fault, device.memory.swap_onset, device.memory.swap_share)
        )
        return [q for q in care if q is not None]
    if resource == "decompression":
        rate = device.cpu.decompress.get(base_codec(resolved.profile.codec))
        return [rate] if rate else []
    return [device.cpu.gemv[kernel] for kernel in _main_kernels(point) if kernel in device.cpu.gemv]


def _main_kernels(point: Point) -> list[str]:
    """Kernel classes of at least a twentieth of the weights a token multiplies."""
    bytes_of: dict[str, int] = {}
    for step in point.plan.passes[point.plan.order[-1]].steps:
        for kernel, n_bytes in step.weight_bytes:
            bytes_of[kernel] = bytes_of.get(kernel, 0) + n_bytes
    return [kernel for kernel, n_bytes in bytes_of.items() if n_bytes >= 0.05 * sum(bytes_of.values())]
