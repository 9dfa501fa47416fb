"""From a scenario and a profile to a Plan: one function per runtime, no clock anywhere.

The scenario must be complete (``predict.resolve`` fills what the user left open).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

from simio import registry
from simio.cache.base import CachePolicy, Prepared
from simio.cache.lru import Lru
from simio.cache.mapped_pages import PAGE_BYTES, Kernel
from simio.cache.none import NoCache
from simio.errors import UsageError
from simio.plan import expert_streaming
from simio.plan.layout import ExpertLayer, Layout, Slab
from simio.plan.mapped import ReplayedFile, chosen, replays
from simio.plan.memory import System, buffer_bytes, kv_cache_bytes, require
from simio.plan.passes import Passes, Residency, Routing
from simio.plan.placed import Placed, StreamResidency
from simio.plan.residency import InRam, MappedFile, Streamed, load_experts
from simio.plan.routing import draw_routing, replayed, union
from simio.plan.shares import DEMANDS, NOT_ASKED, share_out
from simio.records.model import Architecture
from simio.records.plan import Fetch, Plan, RamUse
from simio.records.routing import RoutingTrace
from simio.records.scenario import Scenario
from simio.units import format_bytes

#: Defaults of what the user may leave open: large enough for any flash measured here, and double buffering.
READ_BYTES = 4 * 1024**2
PREFETCH_DEPTH = 1


#: llama.cpp announces sequential access (src/llama-mmap.cpp), by which Linux doubles the window (mm/fadvise.c).
SEQUENTIAL = 2


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a plan needs of the device and its kernel, and the routing where it was recorded."""

    read_ahead_bytes: int
    folio_bytes: int = PAGE_BYTES  # largest folio of the page cache
    flush_bytes: int = 0  # read between two updates of a memory cgroup's statistics
    rank: float | None = None  # which case of a bistable page cache, 0 reads least, 1 most; None: their mean
    system: System = field(default_factory=System)
    trace: RoutingTrace | None = None


def is_bistable(plan: Plan) -> bool:
    """Whether ``Surroundings.rank`` matters: a replayed page cache too small for the weights."""
    return _TWO_LISTS in plan.notes


def build(scenario: Scenario, layout: Layout, architecture: Architecture, around: Surroundings) -> Plan:
    """Plan a run. Raises ``InfeasibleError`` when RAM does not suffice, ``UsageError`` for options at odds."""
    return _PLANNERS[scenario.runtime](scenario, layout, architecture, around)


def fits_in_ram(scenario: Scenario, layout: Layout, architecture: Architecture) -> bool:
    """Whether all weights, the KV cache and the buffers fit together."""
    return _ram(scenario, architecture, weights=layout.raw_bytes).peak <= (scenario.ram_bytes or 0)


def _resident(scenario: Scenario, layout: Layout, architecture: Architecture, around: Surroundings) -> Plan:
    ram = _ram(scenario, architecture, weights=layout.raw_bytes)
    require(
        ram.peak,
        ram.budget,
        "keeping all the weights in RAM",
        "use --runtime stream or mmap, or a smaller quantization",
    )
    loader = Streamed(layout, _policy("none", 0), False, 1.0, inf, False, _read_bytes(scenario))
    experts = [load_experts(b, _read_bytes(scenario)) for b in layout.blocks if isinstance(b, ExpertLayer)]
    tables = layout.looked_up_bytes
    table = Fetch(tables, -(-tables // _read_bytes(scenario)), 0, 0, 0, 0, sequential=True)
    load = [(table,) if tables else (), *loader.load(), *experts]
    residency = InRam()
    passes = _walk(scenario, layout, architecture, residency, load, around.trace)
    return _plan(scenario, passes, ram, staging_bytes=0)


def _mmap(scenario: Scenario, layout: Layout, architecture: Architecture, around: Surroundings) -> Plan:
    if scenario.codec != "raw":
        raise UsageError(
            f"runtime mmap maps raw weights and cannot decompress {scenario.codec}",
            "use --runtime stream or --codec raw",
        )
    anonymous = _ram(scenario, architecture, weights=0)
    require(anonymous.peak, anonymous.budget, "the KV cache with its buffers", "give more --ram or a shorter --context")
    page_cache_bytes = anonymous.budget - anonymous.peak
    ram = _ram(scenario, architecture, weights=min(layout.raw_bytes, page_cache_bytes))
    if around.folio_bytes > PAGE_BYTES and not layout.expert_bytes:
        kernel = Kernel(SEQUENTIAL * around.read_ahead_bytes, around.folio_bytes, around.flush_bytes)
        cases = replays(layout, page_cache_bytes, anonymous.budget, kernel)
        replayed = ReplayedFile(layout, chosen(cases, around.rank), around.read_ahead_bytes)
        passes = _walk(scenario, layout, architecture, replayed, replayed.load(), around.trace)
        notes = (_TWO_LISTS,) if cases[-1].settled_bytes else ()
        return _plan(scenario, passes, ram, 0, notes, request_bytes=around.read_ahead_bytes)
    fits = layout.raw_bytes <= page_cache_bytes
    mapped = MappedFile(layout, Lru(page_cache_bytes), around.read_ahead_bytes, fits)
    load = [mapped.slab(i, b) for i, b in enumerate(layout.blocks) if isinstance(b, Slab)]
    load += [_fault_in_experts(mapped, i, b) for i, b in enumerate(layout.blocks) if isinstance(b, ExpertLayer)]
    passes = _walk(scenario, layout, architecture, mapped, load, around.trace)
    plan = _plan(scenario, passes, ram, 0, request_bytes=around.read_ahead_bytes)
    return replace(plan, notes=(_PAST_RAM,)) if plan.hit_ratio < 0.01 else plan


def _fault_in_experts(residency: MappedFile, index: int, layer: ExpertLayer) -> tuple[Fetch, ...]:
    """Warming up touches every expert, in file order."""
    missing = residency.experts(index, layer, tuple(range(layer.n_experts)))
    return tuple(replace(fetch, sequential=True) for expert in missing for fetch in expert)


_PAST_RAM = (
    "the weights exceed the page cache: an LRU page cache hits nothing on a cyclic scan, so a little more RAM does not "
    "help until everything fits"
)

_TWO_LISTS = (
    "the weights exceed the page cache: Linux's two lists keep some of them, how much changes with a few megabytes and "
    "from run to run; the interval covers the cases"
)


def _stream(scenario: Scenario, layout: Layout, architecture: Architecture, around: Surroundings) -> Plan:
    if scenario.dense_weights is not None:
        routing = routing_of(scenario, layout, around.trace)
        return expert_streaming.stream(scenario, layout, architecture, around.system, _policy, routing, around.trace)
    arranged = arrange(scenario, layout, architecture)
    cache = arranged.residency.cache
    if isinstance(cache, Prepared) and layout.n_experts:
        cache.prepare(expert_streaming.references(scenario, layout, routing_of(scenario, layout, around.trace)))
    passes = _walk(scenario, layout, architecture, arranged.residency, arranged.residency.load(), around.trace)
    return _plan(scenario, passes, arranged.ram, arranged.ram.staging, arranged.notes)


def _arrange_placed(scenario: Scenario, layout: Layout, base: RamUse) -> Arrangement:
    """Every tensor where a joint plan puts it; the rest of the RAM beside ``base`` is for staging."""
    placed = Placed(layout, _read_bytes(scenario))
    held, step = placed.held_bytes, placed.step_staging_bytes
    free = base.budget - base.peak - held
    require(held + step, base.budget - base.peak, "the joint plan", "give more --ram, or plan for less")
    staging = min((_prefetch(scenario) + 1) * step, free) if scenario.staging_bytes is None else scenario.staging_bytes
    require(step, staging, "staging for one layer", "raise --staging")
    require(staging, free, "staging", "lower --staging or give more --ram")
    return Arrangement(placed, RamUse(held, staging, base.kv_cache, base.buffers, base.budget), ())


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the runtime ``stream`` divides the RAM: what is held, the (still empty) weight cache, staging."""

    residency: StreamResidency
    ram: RamUse
    notes: tuple[str, ...]


def arrange(scenario: Scenario, layout: Layout, architecture: Architecture) -> Arrangement:
    """Divide the RAM of a complete ``scenario``; errors as of ``build``."""
    base = _ram(scenario, architecture, weights=0)
    if layout.residency:
        return _arrange_placed(scenario, layout, base)
    free = base.budget - base.peak
    compressed = scenario.cache_form == "compressed"
    ratio = _stored_ratio(layout) if compressed else 1.0
    has_experts = layout.expert_bytes > 0
    policy = scenario.cache_policy or ("lru" if has_experts or scenario.cache_bytes else "none")
    unmet, needed, available, staging, fraction = share_out(
        free,
        step_staging(layout),
        _prefetch(scenario),
        _or_not_asked(scenario.staging_bytes),
        layout.dense_bytes * ratio,
        _or_not_asked(scenario.pinned_bytes),
        NOT_ASKED if scenario.pinned_fraction is None else scenario.pinned_fraction,
        _or_not_asked(scenario.cache_bytes),
        not has_experts and policy != "none",
    )
    if unmet >= 0:
        require(needed, available, *DEMANDS[unmet])
    cache = _policy(policy, 0)
    residency = Streamed(layout, cache, not has_experts, fraction, free - staging, compressed, _read_bytes(scenario))
    spare = free - staging - residency.pinned_ram_bytes
    cache_bytes = 0 if policy == "none" else spare if scenario.cache_bytes is None else scenario.cache_bytes
    require(cache_bytes, spare, f"a weight cache of {format_bytes(cache_bytes)}", "use a smaller --cache-size or --pin")
    residency.cache = _policy(policy, cache_bytes)
    cached = min(cache_bytes, layout.expert_bytes if has_experts else residency.unpinned_bytes)
    ram = RamUse(residency.pinned_ram_bytes + cached, staging, base.kv_cache, base.buffers, base.budget)
    cycle = residency.unpinned_bytes + _expert_cycle(layout, scenario, ratio)
    notes = (_small_cache(cache_bytes, cycle),) if policy != "none" and cache_bytes < cycle else ()
    return Arrangement(residency, ram, notes)


def _expert_cycle(layout: Layout, scenario: Scenario, ratio: float) -> int:
    """Bytes of experts one token uses, as the cache would hold them."""
    experts = (b.raw_bytes for b in layout.blocks if isinstance(b, ExpertLayer))
    return round(sum(experts) * (scenario.top_k or 0) * ratio)


def _small_cache(cache_bytes: int, cycle_bytes: int) -> str:
    return (
        f"the weight cache ({format_bytes(cache_bytes)}) is below one token cycle ({format_bytes(cycle_bytes)}): "
        "expect 0 % hits in it"
    )


def _or_not_asked(n_bytes: int | None) -> int:
    return NOT_ASKED if n_bytes is None else n_bytes


def unpinned(scenario: Scenario, layout: Layout, architecture: Architecture) -> tuple[Streamed, Plan]:
    """The plan of a dense model streamed with nothing pinned or cached, and the requests its slabs are cut into.

    Plans of the same scenario with other RAM, pins, staging and prefetch have the same passes, less the requests that
    ``shares.pin`` marks, which a first pass loads.
    """
    residency = Streamed(layout, NoCache(), False, 0.0, 0.0, False, _read_bytes(scenario))
    passes = _walk(scenario, layout, architecture, residency, [], None)
    return residency, _plan(scenario, passes, _ram(scenario, architecture, weights=0), staging_bytes=0)


def step_staging(layout: Layout) -> int:
    """Most staging one step can need, embedding row included. [bytes]"""
    most = max((_step_staging(block) for block in layout.blocks), default=0)
    return most + layout.row.stored_bytes + layout.tied_row_bytes


def _step_staging(block: Slab | ExpertLayer) -> int:
    """Most staging one step of ``block`` can hold: what is read plus what it decompresses to."""
    one = sum(c.stored_bytes + (c.raw_bytes if c.is_compressed else 0) for c in block.chunks)
    return one if isinstance(block, Slab) else one * min(block.n_experts, block.per_step)


def _stored_ratio(layout: Layout) -> float:
    chunks = [c for b in layout.blocks if isinstance(b, Slab) for c in b.chunks]
    return sum(c.stored_bytes for c in chunks) / max(1, sum(c.raw_bytes for c in chunks))


def _walk(
    scenario: Scenario,
    layout: Layout,
    architecture: Architecture,
    residency: Residency,
    load: list[tuple[Fetch, ...]],
    trace: RoutingTrace | None,
) -> Passes:
    """Load, prefill in batches, decode token by token."""
    routing = routing_of(scenario, layout, trace)
    passes = Passes(layout, architecture, scenario.kv_bytes_per_value, scenario.top_k or 0)
    passes.load(load)
    for first in range(0, scenario.prompt_tokens, scenario.batch_tokens):
        batch = min(scenario.batch_tokens, scenario.prompt_tokens - first)
        is_last = first + batch == scenario.prompt_tokens
        passes.prefill(residency, first, batch, union(routing[first : first + batch]), is_last)
    for token in range(scenario.n_tokens - 1):
        position = scenario.prompt_tokens + token
        passes.decode(residency, position, routing[position])
    return passes


def routing_of(scenario: Scenario, layout: Layout, trace: RoutingTrace | None) -> list[Routing]:
    """The experts of every token, prompt first; nothing for a dense model."""
    n_expert_layers = sum(isinstance(b, ExpertLayer) for b in layout.blocks)
    n_prompt, n_tokens = scenario.prompt_tokens, scenario.n_tokens
    if not n_expert_layers:
        return [[] for _ in range(n_prompt + n_tokens)]
    if trace is not None:
        return replayed(trace, n_prompt, n_tokens)
    return draw_routing(n_expert_layers, layout.n_experts, scenario.top_k or 0, n_prompt, n_tokens, scenario.seed)


def _plan(
    scenario: Scenario,
    passes: Passes,
    ram: RamUse,
    staging_bytes: int,
    notes: tuple[str, ...] = (),
    request_bytes: int | None = None,
) -> Plan:
    return Plan(
        runtime=scenario.runtime,
        passes=tuple(passes.passes),
        order=tuple(passes.order),
        prefetch_depth=1 if scenario.runtime == "mmap" else _prefetch(scenario),
        staging_bytes=staging_bytes,
        queue_depth=1 if scenario.runtime == "mmap" else scenario.queue_depth or 1,
        n_workers=scenario.n_workers or 1,
        n_threads=scenario.n_threads or 1,
        request_bytes=request_bytes or _read_bytes(scenario),
        ram=ram,
        notes=notes,
    )


def _read_bytes(scenario: Scenario) -> int:
    return scenario.read_bytes or READ_BYTES


def _prefetch(scenario: Scenario) -> int:
    return PREFETCH_DEPTH if scenario.prefetch_depth is None else scenario.prefetch_depth


def _ram(scenario: Scenario, architecture: Architecture, weights: int) -> RamUse:
    kv = kv_cache_bytes(scenario, architecture)
    return RamUse(weights, 0, kv, buffer_bytes(scenario, architecture), scenario.ram_bytes or 0)


def _policy(name: str, capacity_bytes: int) -> CachePolicy:
    if name == "none":
        return NoCache()
    policy: CachePolicy = registry.get("cache_policies", name)(capacity_bytes)
    return policy


_PLANNERS: dict[str, Callable[[Scenario, Layout, Architecture, Surroundings], Plan]] = {
    "resident": _resident,
    "mmap": _mmap,
    "stream": _stream,
}
