"""Every equation that turns bytes and flop into seconds, and those into joules: born here and nowhere else.

The rates may be floats, or arrays with one entry per Monte Carlo draw: the equations are the same. So may the numbers
of a device: ``simio sensitivity`` draws each of them by itself.
Symbols: n bytes, s bytes per read, Q reads in flight, B bandwidth, L latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import exp, inf, log, log2
from typing import TYPE_CHECKING, TypeVar

from simio.errors import DeviceFileError
from simio.records.codec_profile import plain_codec
from simio.records.device import Cpu, Device, Power, Quantity, ReadPoint, Storage, Thermal
from simio.records.plan import Fetch, Plan, Step

_OfCore = TypeVar("_OfCore")

#: What the kernel swaps and clears at a time.
PAGE_BYTES = 4096

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Seconds = float | NDArray[np.float64]
else:
    Seconds = float


@dataclass(frozen=True, slots=True)
class Factors:
    """What multiplies each rate of a device: 1 for the file's values, an array for Monte Carlo draws."""

    storage: Seconds = 1.0
    memory: Seconds = 1.0
    gemv: Seconds = 1.0
    prefill: Seconds = 1.0
    decompress: Seconds = 1.0
    layer_overhead: Seconds = 1.0
    fault_overhead: Seconds = 1.0
    core_speed: Seconds = 1.0  # of the slower cores against the fastest
    ratio: Seconds = 1.0  # compression
    parallel: Seconds = 1.0  # efficiency of all cores busy
    threads: Seconds = 1.0  # efficiency of compute threads
    commit: Seconds = 1.0  # rate at which a weight cache changes its pages
    swap: Seconds = 1.0
    handover: Seconds = 1.0
    fresh: Seconds = 1.0  # time to fill a page that nobody has touched

    def times(self, other: Factors) -> Factors:
        """Both together."""
        return Factors(*(getattr(self, name) * getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates one plan meets on one device: threads, workers, request size and queue depth already applied."""

    memory_bytes_per_s: Seconds
    gemv_bytes_per_s: Mapping[str, Seconds]  # by kernel class, all compute threads together
    prefill_flop_per_s: Mapping[str, Seconds]
    layer_overhead_s: Seconds
    storage: Storage
    queue_depth: int
    storage_factor: Seconds
    most_bytes_per_s: float  # through a mapping larger than its RAM; infinite for other reads
    ratio_factor: Seconds
    read_limit_bytes_per_s: float | None  # a throttle in front of the storage
    fault_overhead_s: Seconds  # 0 unless reads are page faults
    read_latency_s: Seconds  # of a burst, until its bytes are in place
    fresh_page_s: Seconds | None  # touching a page for the first time; None where reads land in buffers
    decompress_bytes_per_s: Seconds  # one worker
    commit_bytes_per_s: Seconds  # of a weight cache's pages; infinite where not known
    swap_fault_s: Seconds  # one page from swap
    handover_s: Seconds  # threads woken when what they wait for is there


def read_bandwidth(storage: Storage, block_bytes: float, queue_depth: float, sequential: bool = False) -> float:
    """Bandwidth of reads of ``block_bytes`` with ``queue_depth`` in flight. [bytes/s]

    The queue law, corrected towards the measured points (Shepard's inverse-distance weighting in log2 s, log2 Q):

        B(s, Q) = law(s, Q) · exp(Σ wᵢ ln(Bᵢ / law(sᵢ, Qᵢ)) / Σ wᵢ),  wᵢ = 1/dᵢ²        (R2)
        law(s, Q) = min(B_max, Q·s / (L + s/B_max))                                       (R1)

    L follows from the smallest measured block; points of the other pattern count as 3 octaves farther away. Exact at
    measured random points; outside them the nearest residual carries over. Sequential reads are never slower than
    random ones. Never above ``B_max``, the best measured point. References: Shepard, ACM 1968; Little's law for R1.
    """
    return float(_bandwidth(storage, block_bytes, queue_depth, sequential))


def _bandwidth(storage: Storage, block_bytes: float, queue_depth: float, sequential: bool) -> Seconds:
    random = _shepard(storage, block_bytes, queue_depth, "random")
    return _larger(random, _shepard(storage, block_bytes, queue_depth, "sequential")) if sequential else random


def _shepard(storage: Storage, block_bytes: float, queue_depth: float, pattern: str) -> Seconds:
    rates: list[Seconds] = [p.bandwidth.value for p in storage.curve]
    best = reduce(_larger, rates)
    smallest = min(storage.curve, key=lambda p: (p.block_bytes, p.queue_depth))
    latency = _latency(smallest, best)
    weights = 0.0
    total: Seconds = 0.0
    for point in storage.curve:
        distance = log2(point.block_bytes / block_bytes) ** 2 + log2(point.queue_depth / queue_depth) ** 2
        distance += 0.0 if point.pattern == pattern else 9.0
        residual = _log(point.bandwidth.value / _law(point.block_bytes, point.queue_depth, latency, best))
        if distance < 1e-12:
            return point.bandwidth.value
        weights += 1 / distance
        total += residual / distance
    return _smaller(best, _law(block_bytes, queue_depth, latency, best) * _exp(total / weights))


def _latency(point: ReadPoint, best: Seconds) -> Seconds:
    """L of (R1) from one point; at least a microsecond, so that the law stays finite. [s]"""
    s = point.block_bytes
    return _larger(1e-6, point.queue_depth * s / point.bandwidth.value - s / best)


def _law(block_bytes: float, queue_depth: float, latency_s: Seconds, best: Seconds) -> Seconds:
    return _smaller(best, queue_depth * block_bytes / (latency_s + block_bytes / best))


def fault_bandwidth(storage: Storage) -> float:
    """What reads through a mapping never exceed while others make room; infinite where not known. [bytes/s]"""
    return storage.fault_bandwidth.value if storage.fault_bandwidth else inf


def read_latency_s(
    storage: Storage, block_bytes: float, queue_depth: int, sequential: bool, n_together: int = 1
) -> Seconds:
    """Time a burst waits beyond its share of the link: ``L = k·s/B(s, min(k, Q)) − k·s/B(s, Q)`` (R3). [s]

    ``n_together``: k, the reads it begins with.
    """
    few, all_ = (
        n_together * block_bytes / _bandwidth(storage, block_bytes, depth, sequential)
        for depth in (min(n_together, queue_depth), queue_depth)
    )
    return _larger(0.0, few - all_)


def filling_s(n_bytes: float, fresh_page_s: Seconds) -> Seconds:
    """Time a lane needs to put ``n_bytes`` into pages that nobody has touched: ``n/4096·t_fresh`` (R6). [s]

    Direct reads land in a buffer of the lane; copying them into a weight cache faults and clears every page. The other
    lanes read on, so it delays a burst once, and a lane's next read. Of a OnePlus 15R, what a token's reads take beside
    what is proportional to its bytes is, in ms: serially 29 and 40 for Gemma-4-26B-A4B with 2 and 4 lanes (30 layers,
    1.9 MiB a slice), 25 and 20 for Qwen3-30B-A3B (48 layers, 0.9 MiB); stalls with overlap 28 and 15 (lines through
    the tokens of each run; github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1, sessions of 2026-07-12 to
    07-14; how lanes read: core/src/moe/expert_stream_source.cpp).
    """
    return n_bytes / PAGE_BYTES * fresh_page_s


def lane_s(storage: Storage, block_bytes: float, fresh_page_s: Seconds, storage_factor: Seconds = 1.0) -> Seconds:
    """Time a lane is busy with one read and nothing beside it: ``s/B(s, 1) + t_fill(s)`` (R7). [s]

    While one of two lanes fills pages the other reads alone: a OnePlus 15R reads slices of 0.9 MiB at 1675 MiB/s and of
    1.9 MiB at 1610 (the same lines, serially), where its flash gives 2068 and 2053 to two reads. With 1.7 us a
    page this is 1737 and 2005; the larger slices ask for 2.5 us.
    """
    alone = block_bytes / _bandwidth(storage, block_bytes, 1, sequential=False) / storage_factor
    return alone + filling_s(block_bytes, fresh_page_s)


def link_s(fetch: Fetch, rates: Rates) -> Seconds:
    """Time the storage link is held: ``n/min(B(s, Q), B_fault) + n_reads·t_fault`` with ``s = n/n_reads`` (R4). [s]

    Compressed bytes are fewer by what the draw says the ratio is better than the profile's. Behind a throttle it takes
    at least ``n/limit`` (R5): faults are taken while the throttle makes the next read wait. Lanes that also fill
    pages bring no more than they have hands for: at least ``n_reads·min(t_lane/Q, t_lane − L − t_fill)``, since what a
    read waits with a slot (R3, R6) is counted there (R7).
    """
    if fetch.n_reads == 0:
        return 0.0
    size = max(512.0, fetch.link_bytes / fetch.n_reads)
    bandwidth = _smaller(rates.most_bytes_per_s, _bandwidth(rates.storage, size, rates.queue_depth, fetch.sequential))
    better_ratio = rates.ratio_factor if fetch.n_chunks else 1.0
    n_bytes = fetch.link_bytes / better_ratio
    free = n_bytes / (bandwidth * rates.storage_factor) + fetch.n_reads * rates.fault_overhead_s
    if rates.fresh_page_s is not None and not fetch.sequential:
        busy = lane_s(rates.storage, size, rates.fresh_page_s, rates.storage_factor)
        free = _larger(free, fetch.n_reads * _smaller(busy / rates.queue_depth, busy - rates.read_latency_s))
    return free if rates.read_limit_bytes_per_s is None else _larger(free, n_bytes / rates.read_limit_bytes_per_s)


def decompress_s(fetch: Fetch, rates: Rates) -> Seconds:
    """Time one worker is held by one chunk: ``n/D``, n bytes of output (D1). [s]"""
    return fetch.decompress_bytes / fetch.n_chunks / rates.decompress_bytes_per_s


def traffic_s(step: Step, rates: Rates) -> Seconds:
    """Time DRAM needs for the weights of one step: ``Σ n_c / B_mem`` (C1a). [s]"""
    return sum(n for _, n in step.weight_bytes) / rates.memory_bytes_per_s


def arithmetic_s(step: Step, rates: Rates) -> Seconds:
    """Time the cores need: dequantize + GEMV ``Σ n_c/g_c`` for decode, ``Σ f_c/p_c`` for a prefill batch (C1b). [s]"""
    if step.flop:
        return sum(flop / _of(rates.prefill_flop_per_s, kernel) for kernel, flop in step.flop)
    return sum(n / _of(rates.gemv_bytes_per_s, kernel) for kernel, n in step.weight_bytes)


def kv_traffic_s(step: Step, rates: Rates) -> Seconds:
    """Time DRAM needs for the KV cache one step walks: ``n_kv / B_mem``. [s]"""
    return step.kv_bytes / rates.memory_bytes_per_s


def attention_s(step: Step, rates: Rates) -> Seconds:
    """Time of an FP16 matrix-vector product with the KV cache, after the weights': ``max(n/B_mem, n/g_f16)`` (C1c). [s]

    In a prefill batch its arithmetic is part of C1b.
    """
    traffic = kv_traffic_s(step, rates)
    if step.flop or not step.kv_bytes:
        return traffic
    return _larger(traffic, step.kv_bytes / _of(rates.gemv_bytes_per_s, "f16"))


def compute_s(step: Step, rates: Rates) -> Seconds:
    """Time to compute one step: the slower of traffic and arithmetic, then attention, then synchronisation. [s]

    ``t = max(C1a, C1b) + C1c + m·t_layer + C4`` (C1); roofline: Williams et al., CACM 2009.
    """
    if not step.weight_bytes:
        return care_s(step, rates)
    weights = _larger(traffic_s(step, rates), arithmetic_s(step, rates))
    return weights + attention_s(step, rates) + step.overheads * rates.layer_overhead_s + care_s(step, rates)


def care_s(step: Step, rates: Rates) -> Seconds:
    """Time the cores spend on a weight cache: ``n_commit/C + n_swap/4096·t_swap + w·t_handover`` (C4). [s]

    C: pages that evicted experts give back for new ones, in bytes/s, one thread (touching them: R6). Per token of
    Qwen3-30B-A3B and Gemma-4-26B-A4B on a OnePlus 15R the engine's own clock of it is proportional to the bytes read,
    0.12 ms a MiB with 0–4 ms left (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1, column mgmt_ms of
    six runs).
    """
    if step.care is None:
        return 0.0
    commit = step.care.commit_bytes / rates.commit_bytes_per_s
    return commit + paging_s(step, rates) + step.care.handovers * rates.handover_s


def paging_s(step: Step, rates: Rates) -> Seconds:
    """The part of C4 that memory pressure costs: ``n_swap/4096·t_swap``. [s]"""
    return step.care.swap_bytes / PAGE_BYTES * rates.swap_fault_s if step.care else 0.0


def heat_state(thermal: Thermal, entry_temperature_c: Seconds | None, loaded_s: Seconds) -> Seconds:
    """How far heat has got after ``loaded_s`` of load: 0 cool, 1 as derated as it gets (H1).

    ``x = 1 − (1 − x₀)·e^(−t/τ)``, one thermal mass; ``x₀ = (T₀ − T_cool)/(T_hot − T_cool)`` in 0…1, 0 where T₀ is not
    known.

    >>> from simio.records.device import Quantity
    >>> def q(x): return Quantity(x, x, x, "1", "", "")
    >>> heat_state(Thermal(q(600.0), q(0.7), q(0.67), q(40.0), q(90.0)), 65.0, 0.0)
    0.5
    """
    start: Seconds = 0.0
    if entry_temperature_c is not None:
        start = (entry_temperature_c - thermal.cool.value) / (thermal.hot.value - thermal.cool.value)
    return 1.0 - (1.0 - _smaller(1.0, _larger(0.0, start))) * _exp(-loaded_s / thermal.time_constant.value)


def derated(share: Quantity, state: Seconds) -> Seconds:
    """What is left of a rate: ``1 − (1 − share)·x`` (H2)."""
    return 1.0 - (1.0 - share.value) * state


def rates_of(
    device: Device,
    plan: Plan,
    codec: str,
    factors: Factors,
    relative_rate: float = 1.0,
    read_limit_bytes_per_s: float | None = None,
) -> Rates:
    """The rates ``plan`` meets on ``device``. ``relative_rate``: decompressing these weights ÷ the reference."""
    faulting = plan.runtime == "mmap"
    busy = _busy_cores(plan)
    share = _core_share(device.cpu, plan)
    company = parallel_efficiency(device.cpu, busy, factors.parallel) if plan.decompresses else 1.0
    speed = compute_speed(device.cpu, plan.n_threads, factors) * share * company
    default_speed = compute_speed(device.cpu, device.cpu.default_threads, factors)
    decompress = _decompress_rate(device, codec, plan, share) * company * relative_rate
    latency: Seconds = 0.0
    if not faulting:
        reads = plan.request_bytes, plan.queue_depth
        latency = read_latency_s(device.storage, *reads, sequential=plan.in_order, n_together=plan.n_together)
    fresh = _value(device.memory.fresh_page, 0.0) * factors.fresh
    return Rates(
        memory_bytes_per_s=device.memory.read_bandwidth.value * factors.memory,
        gemv_bytes_per_s={k: q.value * speed * factors.gemv * factors.core_speed for k, q in device.cpu.gemv.items()},
        prefill_flop_per_s={
            k: q.value * _smaller(1.0, speed / default_speed) * factors.prefill * factors.core_speed
            for k, q in device.cpu.prefill.items()
        },
        layer_overhead_s=device.cpu.layer_overhead.value * factors.layer_overhead,
        storage=device.storage,
        queue_depth=plan.queue_depth,
        storage_factor=factors.storage,
        most_bytes_per_s=fault_bandwidth(device.storage) if faulting and plan.hit_ratio < 1 else inf,
        ratio_factor=factors.ratio,
        read_limit_bytes_per_s=read_limit_bytes_per_s,
        fault_overhead_s=device.storage.fault_overhead.value * factors.fault_overhead if faulting else 0.0,
        read_latency_s=latency / factors.storage + filling_s(plan.fresh_bytes, fresh),
        fresh_page_s=fresh if plan.fresh_bytes and device.memory.fresh_page else None,
        decompress_bytes_per_s=decompress * factors.decompress * factors.core_speed,
        commit_bytes_per_s=_value(device.memory.commit_bandwidth, inf) * factors.commit,
        swap_fault_s=_value(device.memory.swap_fault, 0.0) * factors.swap,
        handover_s=_value(device.cpu.handover, 0.0) * factors.handover,
    )


def _busy_cores(plan: Plan) -> int:
    """Threads and workers that want a core at once."""
    return plan.n_threads + plan.n_workers if plan.decompresses else max(plan.n_threads, plan.n_workers)


def _core_share(cpu: Cpu, plan: Plan) -> float:
    """What each of them gets of a core."""
    return min(1.0, n_cores(cpu) / _busy_cores(plan))


@dataclass(frozen=True, slots=True)
class Drain:
    """What a plan draws on one device beyond nothing: powers, and the energy of a byte of memory traffic."""

    baseline_w: Seconds  # all the time
    threads_w: Seconds  # while the compute threads compute, all of them
    worker_w: Seconds  # while one worker decompresses
    storage_w: Seconds  # while the storage link is held
    dram_j_per_byte: Seconds


def drain_of(power: Power, cpu: Cpu, plan: Plan) -> Drain:
    """The powers that ``plan`` meets: ``P_threads = c·Σ P_core`` of the fastest n cores, ``P_worker = c·mean P_core``
    of the workers' cores (E3).

    c is what each thread gets of its core: 1, or cores ÷ (threads + workers) where they are more than the cores.
    """
    watts: list[Seconds] = [power.core[c.name].value for c in cpu.clusters for _ in range(c.n_cores)]
    workers = _workers_cores(watts, plan.n_threads, plan.n_workers)
    share = _core_share(cpu, plan)
    return Drain(
        baseline_w=power.baseline.value,
        threads_w=share * sum(watts[: plan.n_threads]),
        worker_w=share * sum(workers) / len(workers),
        storage_w=power.storage_read.value,
        dram_j_per_byte=power.dram.value,
    )


def energy_j(
    drain: Drain, run_s: Seconds, computing_s: Seconds, inflating_s: Seconds, reading_s: Seconds, dram_bytes: Seconds
) -> Seconds:
    """Energy of a run, or of some of its passes. [J]

    ``E = P_base·T + P_threads·t_compute + P_worker·t_inflate + P_storage·t_read + e·n_dram`` (E1): every part draws
    its power for as long as it is busy, and the rest of the device draws the baseline all the time. ``computing_s``:
    time in which the compute threads compute, all at once; ``inflating_s``: of all workers together; ``reading_s``: the
    storage link is held. simio's own choice: cores that wait are idle (llama.cpp's spin), and no clock is lowered.

    >>> energy_j(Drain(1.0, 4.0, 2.0, 0.5, 1e-10), 10.0, 5.0, 1.0, 4.0, 1e10)
    35.0
    """
    cores = drain.threads_w * computing_s + drain.worker_w * inflating_s
    return drain.baseline_w * run_s + cores + drain.storage_w * reading_s + drain.dram_j_per_byte * dram_bytes


def dram_traffic_bytes(walked_bytes: Seconds, link_bytes: Seconds, inflated_bytes: Seconds, ratio: Seconds) -> Seconds:
    """Traffic of memory: ``n_walked + n_link + n_out·(1 + 1/r)`` (E2). [bytes]

    Weights and KV cache are walked once; what storage delivers is written once; a decompressor reads 1/r and writes 1
    of every byte it puts out. Caches keep none of it: weights do not fit in them.
    """
    return walked_bytes + link_bytes + inflated_bytes * (1.0 + 1.0 / ratio)


def _value(quantity: Quantity | None, otherwise: float) -> float:
    return otherwise if quantity is None else quantity.value


def _decompress_rate(device: Device, codec: str, plan: Plan, share: float) -> float:
    """Rate of one worker of ``plan`` (D2); ``share`` is what each gets of its core."""
    if base_codec(codec) == "raw":
        return 1.0  # never divides anything: raw chunks have no decompress_bytes
    return worker_rate(device, codec, plan.n_threads, plan.n_workers) * share


def worker_rate(device: Device, codec: str, n_threads: int, n_workers: int) -> float:
    """Rate of one worker: the codec's anchor on the fastest core × the mean speed of the workers' cores (D2). [bytes/s]

    Workers take the cores that compute leaves first, then share the compute cores. Raises ``DeviceFileError`` where the
    device file has no rate of the codec.
    """
    base = base_codec(codec)
    if base not in device.cpu.decompress:
        raise DeviceFileError(
            f"{device.id}: cpu.decompress.{base} is missing", f"add the rate of {base} on one core to the device file"
        )
    speeds = _workers_cores(_core_speeds(device.cpu), n_threads, n_workers)
    return device.cpu.decompress[base].value * sum(speeds) / len(speeds)


def _workers_cores(cores: list[_OfCore], n_threads: int, n_workers: int) -> list[_OfCore]:
    """Of something that every core has, fastest first, what the workers' cores have: those compute leaves first."""
    return (cores[n_threads:] + cores[:n_threads])[:n_workers]


def default_workers(cpu: Cpu, n_threads: int) -> int:
    """Decompression workers where nobody says how many: the cores that compute leaves, half of all at least."""
    cores = n_cores(cpu)
    return max(1, cores - n_threads, cores // 2)


def base_codec(codec: str) -> str:
    """The key of ``cpu.decompress`` in a device file: ``byteplane(zstd:1)`` → ``zstd``."""
    return plain_codec(codec).partition(":")[0]


def _core_speeds(cpu: Cpu) -> list[float]:
    """Relative speed of every core, fastest first."""
    return [c.relative_speed.value for c in cpu.clusters for _ in range(c.n_cores)]


def n_cores(cpu: Cpu) -> int:
    """All cores, fast and slow."""
    return sum(c.n_cores for c in cpu.clusters)


def split_speed(cpu: Cpu, n_threads: int) -> float:
    """Fast cores' worth of ``n_threads`` that share a matrix evenly: ``n · speed of the slowest used`` (C2).

    Every barrier waits for the slowest core: on a phone with one prime core, three threads run 1.7 times faster than
    one (T-MAC paper, arXiv 2407.00088, OnePlus 12 rows), and threads beyond the performance cores slow a PC down.
    """
    used = _core_speeds(cpu)[:n_threads]
    return len(used) * used[-1]


def compute_speed(cpu: Cpu, n_threads: int, factors: Factors) -> Seconds:
    """Fast cores' worth of ``n_threads`` that compute alone: C2 times what sharing costs each (C3).

    ``cpu.thread_efficiency`` is measured on whole matrices, so that fork and join count; without it, what busy cores
    cost each other.
    """
    if cpu.thread_efficiency is None:
        return split_speed(cpu, n_threads) * parallel_efficiency(cpu, n_threads, factors.parallel)
    return split_speed(cpu, n_threads) * _in_company(cpu, n_threads, cpu.thread_efficiency.value * factors.threads)


def parallel_efficiency(cpu: Cpu, n_busy: int, factor: Seconds = 1.0) -> Seconds:
    """What a core still does when ``n_busy`` are busy, as a share of what it does alone.

    ``1 - (1 - e)·(n_busy - 1)/(n_cores - 1)`` with ``e`` = ``cpu.parallel_efficiency``, the rate with all cores busy
    ÷ alone (C3): caches, memory, clock and hyperthreads are shared. Linear in between is simio's own choice; 1 where
    the device file does not say. ``simio calibrate host`` measures ``e``.
    """
    e = cpu.parallel_efficiency
    return 1.0 if e is None else _in_company(cpu, n_busy, e.value * factor)


def _in_company(cpu: Cpu, n_busy: int, efficiency: Seconds) -> Seconds:
    n = n_cores(cpu)
    return 1.0 if n == 1 else 1.0 - (1.0 - _smaller(1.0, efficiency)) * (min(n_busy, n) - 1) / (n - 1)


def _of(table: Mapping[str, Seconds], kernel: str) -> Seconds:
    if kernel in table:
        return table[kernel]
    if "default" in table:
        return table["default"]
    raise DeviceFileError(f"the device file has no rate for weights of class {kernel}", f"add cpu.gemv.{kernel}")


def _larger(a: Seconds, b: Seconds) -> Seconds:
    if isinstance(a, float) and isinstance(b, float):
        return a if a > b else b
    import numpy as np

    return np.maximum(a, b)


def _smaller(a: Seconds, b: Seconds) -> Seconds:
    if isinstance(a, float) and isinstance(b, float):
        return a if a < b else b
    import numpy as np

    return np.minimum(a, b)


def _exp(x: Seconds) -> Seconds:
    if isinstance(x, float):
        return exp(x)
    import numpy as np

    result: Seconds = np.exp(x)
    return result


def _log(x: Seconds) -> Seconds:
    if isinstance(x, float):
        return log(x)
    import numpy as np

    result: Seconds = np.log(x)
    return result
