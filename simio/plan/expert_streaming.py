"""A mixture whose routed experts are read when the router has chosen them, and only those: the runtime ``stream``.

Dense weights stay in RAM (read into buffers, or mapped); experts go through a weight cache, and what it does not hold
is read slice by slice (a slice: one expert's share of one projection) by as many lanes as there are queue slots.

Per layer: the dense slabs; *care* of the cache for what is about to come; then the experts, in one step when serial
(all slices first, then all products), or projection by projection when they overlap: the gate projections are
multiplied while the down projections are still being read. Reads follow that order, as many at a time as there are
lanes, so what the lanes hold together arrives together. Threads take experts by number and wait for a missing one:
products up to the first expert of a projection's last lane load are done meanwhile.

``expert_store`` knows what of the cache the kernel has swapped out. Dense weights are lost where there is no room for
them even without a cache, or once, when a prompt has overflowed RAM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from simio.cache.base import CachePolicy, Prepared
from simio.cache.lru import Lru
from simio.errors import InfeasibleError
from simio.plan.expert_store import OVERFLOW, SHARED_OUT, Key, Store
from simio.plan.layout import ALIGN_BYTES, ExpertLayer, Layout, Slab
from simio.plan.memory import System, buffer_bytes, kv_cache_bytes, require
from simio.plan.passes import Passes, Routing
from simio.plan.routing import union
from simio.records.model import Architecture
from simio.records.plan import Care, Fetch, Pass, Plan, RamUse, Step
from simio.records.routing import RoutingTrace
from simio.records.scenario import Scenario
from simio.units import format_bytes

#: Lane loads of a layer that threads wait for without a loss. On a OnePlus 15R compute with overlap takes longer than
#: the least of its model by 0.38 ms for each slice after two loads in a run of Qwen3-30B-A3B without a cache, 0 to
#: 0.5 ms in five with one; counted from the second load on, 0.30 and 0 to 0.2 ms (github.com/Helldez/BigMoeOnEdge
#: docs/bench-data, commit 2d4f2b1; the engine's threads spin for 2048 yields before they sleep).
PATIENCE = 2
#: Share of the experts missed by the cache that a guess of the router one layer early names; the rest of its guesses
#: is read in vain. Two runs of Qwen3-30B-A3B on a OnePlus 15R halved their misses, from 23.5 to 11.9 % of the lookups,
#: and read 380 MiB a token where 121 were missed (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1,
#: 2026-07-12-pr23 qwen_sg).
GUESSED = 0.5
#: What a guessed expert costs the cores, in units of one asked for (0.12 ms a MiB): its pages are committed twice as
#: often, its reads are called off when the next layer begins, and products beside them take longer. Care and products
#: of the guessing runs of 2026-07-12 and 07-13 take 0.6 to 0.95 ms longer for each MiB guessed while their stalls
#: shrink. Here stalls shrink less; with 3 units runs of Qwen3-30B-A3B come out 16 % too fast to 9 % too slow, those of
#: Gemma-4-26B-A4B a quarter too fast. In a later build Gemma guessed nothing and lost nothing.
GUESS_CARE = 3


@dataclass(frozen=True, slots=True)
class Shares:
    """How the RAM is divided. ``room`` is what is left for the cache, negative when not even dense weights fit."""

    dense: int
    cache: int
    kv_cache: int
    buffers: int
    room: int
    in_ram: int  # of the cache; the system has swapped out the rest


def divide(scenario: Scenario, layout: Layout, architecture: Architecture, system: System) -> Shares:
    """Share out the RAM. Without a size the cache gets what is free; one that is too large is played as pressure.

    What is free leaves the system what it wants. A cache past that is swapped out in part, the coldest first: cached
    experts are the app's own memory however dense weights are held.

    Raises ``InfeasibleError`` without RAM for the KV cache, and where the app would be killed: it needs more memory of
    its own than the device has.
    """
    kv, buffers = kv_cache_bytes(scenario, architecture), buffer_bytes(scenario, architecture)
    dense = layout.dense_bytes + layout.looked_up_bytes
    budget = scenario.ram_bytes or 0
    require(kv + buffers, budget, "the KV cache with its buffers", "give more --ram or a shorter --context")
    room = budget - dense - kv - buffers
    others = kv + buffers + (dense if scenario.dense_weights == "anon" else 0)
    if scenario.cache_policy == "none":
        cache = 0
    elif scenario.cache_bytes is None:
        cache = max(0, min(room, budget - others - system.swap_onset_bytes))
    else:
        cache = scenario.cache_bytes
    cache = min(cache, layout.expert_bytes)
    if cache + others > system.total_bytes:
        needs, has = format_bytes(cache + others), format_bytes(system.total_bytes)
        raise InfeasibleError(
            f"the app needs {needs} of its own memory, the device has {has}: it is killed",
            "use a smaller --cache-size" if scenario.cache_bytes else "use a smaller --ram",
        )
    in_ram = max(0, min(room, cache - system.swapped_bytes(budget - others - cache)))
    return Shares(dense, cache, kv, buffers, room, min(cache, in_ram))


@dataclass(frozen=True, slots=True)
class Need:
    """What the experts of one layer need for one token or batch."""

    n_experts: int
    missing: int  # experts to read
    commit_bytes: int
    guessed: int = 0  # experts read ahead of the router, in vain or not

    def ahead(self, number: int, n_lanes: int) -> float:
        """What share of projection ``number``'s products can be done before the last of its slices arrive.

        Threads take the experts by number and wait for those that are missing; the ``r`` slices of the projection in
        its last lane load arrive together. Of ``n`` experts the first of the last ``r`` of ``m`` missing ones is at
        place ``(m−r+1)(n+1)/(m+1)`` on average; those before it need not wait.

        >>> Need(8, 1, 0).ahead(0, 4), Need(8, 2, 0).ahead(0, 4), Need(8, 2, 0).ahead(0, 1)
        (0.4375, 0.25, 0.625)
        """
        if not self.missing:
            return 0.0
        first, end = number * self.missing, (number + 1) * self.missing
        together = end - max(first, (end - 1) // n_lanes * n_lanes)
        place = (self.missing - together + 1) * (self.n_experts + 1) / (self.missing + 1)
        return (place - 1) / self.n_experts


@dataclass(slots=True)
class Walker:
    """Builds the passes of a run, token by token."""

    scenario: Scenario
    layout: Layout
    passes: Passes
    store: Store
    swapped_dense: float  # share of the dense weights that every token brings back
    overlaps: bool
    routing: list[Routing]
    trace: RoutingTrace | None
    n_lookups: int = 0
    n_hits: int = 0
    guessed_bytes: int = 0  # read by decoded tokens before the router has spoken
    vain_bytes: int = 0  # of these, not used by the token they were read for
    _random: Random = field(default_factory=lambda: Random(0))
    _last: list[tuple[int, ...]] = field(default_factory=list)
    _slices: dict[tuple[int, int], tuple[Fetch, ...]] = field(default_factory=dict)
    _steps: dict[tuple[int, Need, int, int], tuple[Step, ...]] = field(default_factory=dict)

    def walk(self, kind: str, position: int, n_tokens: int, routing: Routing, wants_token: bool) -> Pass:
        """One batch of the prompt, or one decoded token. What goes through swap for it is last: no read hides that."""
        steps: list[Step] = []
        swap_bytes = 0  # in, and of what makes room for it out
        chosen = iter(routing)
        layer_number = 0
        dense_steps = self.passes.dense_steps(kind, position, n_tokens, wants_token)
        for index, block in enumerate(self.layout.blocks):
            if isinstance(block, Slab):
                if index in dense_steps:
                    steps.append(self._dense(dense_steps[index]))
                continue
            experts = next(chosen)
            if kind == "decode" and self.scenario.drop_cold:
                experts = self._without_cold(index, experts, self._weights(position, layer_number, len(experts)))
            need, n_swapped = self._need(index, block, experts, layer_number)
            swap_bytes += n_swapped * block.raw_bytes
            if kind == "decode":
                self.n_lookups += len(experts)
                self.n_hits += len(experts) - need.missing
            steps += self.expert_steps(block, need, n_tokens if kind == "prefill" else 0, len(steps))
            layer_number += 1
        if kind == "decode":
            self._last = list(routing)
            self.store.trim()
        bare = Pass(kind, tuple(steps))
        return bare.with_last_swap(bare.last_swap_bytes + swap_bytes)

    def held(self, chosen: Routing) -> dict[Key, int]:
        """The size of every expert of a batch. [bytes]"""
        layers = [(i, block) for i, block in enumerate(self.layout.blocks) if isinstance(block, ExpertLayer)]
        pairs = zip(layers, chosen, strict=True)
        return {(index, expert): layer.raw_bytes for (index, layer), experts in pairs for expert in experts}

    def _dense(self, step: Step) -> Step:
        share = 1.0 if self.store.is_overfull else self.swapped_dense
        lost = round(share * sum(n for _, n in step.weight_bytes))
        if not lost:
            return step
        care = Care(swap_bytes=lost)
        return Step(step.layer, step.label, step.weight_bytes, step.kv_bytes, step.flop, step.overheads, 0, (), care)

    def _need(self, index: int, layer: ExpertLayer, experts: tuple[int, ...], number: int) -> tuple[Need, int]:
        """Touch the experts of one layer in the order of the router, after those read on a guess.

        Also returns how many times one goes through swap.
        """
        read = self._guess(index, layer, experts, number)
        guessed = len(read)
        self.guessed_bytes += guessed * layer.raw_bytes
        self.vain_bytes += len(read - set(experts)) * layer.raw_bytes
        missing = swapped = 0
        for expert in experts:
            hit, n_moves = self.store.use((index, expert), layer.raw_bytes)
            missing += not hit
            swapped += n_moves
        caches = self.scenario.cache_policy != "none"
        commit = (missing + GUESS_CARE * guessed) * layer.raw_bytes if caches else 0
        return Need(len(experts), missing, commit, guessed), swapped

    def _weights(self, position: int, number: int, n_experts: int) -> list[float]:
        """What share of the router's weight each expert of a decoded token has: as recorded, or dealt at random."""
        if self.trace is not None:
            found = self.trace.weights[len(self.trace.prompt) + position - self.scenario.prompt_tokens][number]
            return [weight / sum(found) for weight in found]
        shares = weights_by_rank(n_experts)
        return self._random.sample(shares, n_experts)  # popularity does not tell the weight

    def _without_cold(self, index: int, experts: tuple[int, ...], shares: list[float]) -> tuple[int, ...]:
        """Leave out those of little weight that would have to be read; the heaviest always stays."""
        least = self.scenario.drop_cold or 0.0
        kept = [
            expert
            for expert, share in zip(experts, shares, strict=True)
            if share >= min(least, max(shares)) or (index, expert) in self.store.cache
        ]
        return tuple(kept)

    def _guess(self, index: int, layer: ExpertLayer, experts: tuple[int, ...], number: int) -> set[int]:
        """Read experts before the router has spoken: those of the last token, or those an early router names."""
        guesses: list[int] = []
        if self.scenario.expert_prefetch and self._last:
            guesses += self._last[number][: self.scenario.expert_prefetch]
        if self.scenario.speculative_gate and self._last:
            other = self._random.choice(self.routing)[number]  # what some other token takes here: popular, but wrong
            guesses += [e if self._random.random() < GUESSED else w for e, w in zip(experts, other, strict=False)]
        read = [expert for expert in dict.fromkeys(guesses) if (index, expert) not in self.store.cache]
        for expert in read:
            self.store.use((index, expert), layer.raw_bytes)
        return set(read)

    def expert_steps(self, layer: ExpertLayer, need: Need, n_tokens: int, n_before: int) -> tuple[Step, ...]:
        """What one layer with such a need takes: ``n_tokens`` of a batch, 0 for a decoded token.

        ``n_before``: steps of this pass so far.
        """
        key = (layer.layer, need, n_tokens, n_before)
        if key not in self._steps:
            self._steps[key] = tuple(self._expert_steps(layer, need, n_tokens, n_before))
        return self._steps[key]

    def _expert_steps(self, layer: ExpertLayer, need: Need, n_tokens: int, n_before: int) -> Iterator[Step]:
        """Care of the cache, then the products: all at once, or one projection after the other.

        With overlap a step also has what of the next projection need not wait for reads, and care what of the first.
        """
        order = projections(layer)
        groups = [[p] for p in order] if self.overlaps else [order]
        n_lanes = self.scenario.queue_depth or 1
        ahead = [need.ahead(number, n_lanes) if self.overlaps else 0.0 for number in range(len(groups))]
        done = [0.0, *(_share_before(layer, groups, number, share) for number, share in enumerate(ahead)), 1.0]
        n_chosen = n_tokens * (self.scenario.top_k or 1)
        (bytes_, flop), *products = (
            _products(layer, need.n_experts, n_chosen, share, until) for share, until in pairwise(done)
        )
        reads = [self._reads(layer, group, need.missing) for group in groups]
        if self.overlaps:
            reads = lane_loads(reads, n_lanes)
        waits = Care(handovers=self._waits(sum(len(fetches) for fetches in reads)))
        early = self._reads(layer, order, need.guessed)
        # what is guessed is read from the care of the layer before on, what is needed once the router, the step before,
        # has spoken
        last_care = min(2 + len(groups), n_before)
        care = Care(need.commit_bytes)
        yield Step(layer.layer, f"cache {layer.layer}", bytes_, 0.0, flop, 0, last_care, early, care)
        for number, ((bytes_, flop), fetches) in enumerate(zip(products, reads, strict=True), start=1):
            # lanes start while the cache still makes room; serially they wait for it
            router = min(number + 1, n_before + number) if self.overlaps else number
            last = waits if number == len(groups) else None  # no read hides what waits cost
            yield Step(layer.layer, f"experts {layer.layer}", bytes_, 0.0, flop, 0, router, fetches, last)

    def _waits(self, n_reads: int) -> int:
        """How often threads are woken: serially once, else for each slice after ``PATIENCE`` lane loads."""
        return max(0, n_reads - PATIENCE * (self.scenario.queue_depth or 1)) if self.overlaps else min(n_reads, 1)

    def _reads(self, layer: ExpertLayer, group: list[int], n_experts: int) -> tuple[Fetch, ...]:
        """One read for each slice of ``n_experts``, by projection; contiguous experts come whole, at first."""
        every = projections(layer)
        if self.scenario.contiguous_experts:
            sizes = [sum(layer.chunks[p].raw_bytes for p in every)] if group[0] == every[0] else []
        else:
            sizes = [layer.chunks[p].raw_bytes for p in group]
        fetches: tuple[Fetch, ...] = ()
        for n_bytes in sizes:
            key = (n_bytes, n_experts)
            if key not in self._slices:
                read = n_bytes + ALIGN_BYTES  # slices start anywhere, direct reads at pages
                self._slices[key] = (Fetch(read, 1, n_bytes, 0, 0, 0, sequential=False),) * n_experts
            fetches += self._slices[key]
        return fetches


def _share_before(layer: ExpertLayer, groups: list[list[int]], number: int, ahead: float) -> float:
    """What share of a layer's products is done when group ``number`` waits for reads: all before, of it ``ahead``."""
    of_group = [sum(layer.chunks[p].raw_bytes for p in group) / layer.raw_bytes for group in groups[: number + 1]]
    return sum(of_group[:-1]) + ahead * of_group[-1]


def _products(
    layer: ExpertLayer, n_experts: int, n_chosen: int, done: float, until: float
) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, float], ...]]:
    """Weight bytes of a layer's products from share ``done`` to ``until``, and flop for ``n_chosen`` of a batch."""
    if done == until:
        return (), ()
    bytes_ = tuple((k, round(b * n_experts * until) - round(b * n_experts * done)) for k, b in layer.weight_bytes)
    flop = tuple((k, 2.0 * w * (until - done) * n_chosen) for k, w in layer.weights)
    return bytes_, flop if n_chosen else ()


def lane_loads(reads: list[tuple[Fetch, ...]], n_lanes: int) -> list[tuple[Fetch, ...]]:
    """Slices as the lanes take them, ``n_lanes`` at a time: those arrive together, and the first to be used waits.

    >>> lane_loads([("gate", "gate"), ("up", "up"), ("down", "down")], 4)
    [('gate', 'gate', 'up', 'up'), (), ('down', 'down')]
    """
    taken: list[tuple[Fetch, ...]] = [() for _ in reads]
    queue = [(number, fetch) for number, group in enumerate(reads) for fetch in group]
    for first in range(0, len(queue), n_lanes):
        taken[queue[first][0]] += tuple(fetch for _, fetch in queue[first : first + n_lanes])
    return taken


def weights_by_rank(top_k: int) -> list[float]:
    """What share of the router's weight the experts of a token get, the heaviest first: 1/(rank + 3), normalised.

    Mean shares of top-6 in a routing trace of Qwen3-30B-A3B: 0.272, 0.200, 0.164, 0.139, 0.120, 0.105, within 0.005 of
    this; of Gemma-4-26B-A4B within 0.045 (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1).
    """
    raw = [1 / (rank + 3) for rank in range(top_k)]
    return [weight / sum(raw) for weight in raw]


def projections(layer: ExpertLayer) -> list[int]:
    """The slices of one expert in the order they are multiplied: what goes up before what comes down."""
    named = len(layer.tensors) == len(layer.chunks)
    return sorted(range(len(layer.chunks)), key=lambda p: named and "down" in layer.tensors[p])


def stream(
    scenario: Scenario,
    layout: Layout,
    architecture: Architecture,
    system: System,
    policy: Callable[[str, int], CachePolicy],
    routing: list[Routing],
    trace: RoutingTrace | None,
) -> Plan:
    """Plan a streamed mixture. ``routing``: of the prompt's tokens and then of the decoded ones."""
    shares = divide(scenario, layout, architecture, system)
    name = scenario.cache_policy or "lru"
    in_ram = Lru(shares.in_ram) if shares.in_ram < shares.cache else None
    cache = policy(name, shares.cache)
    if isinstance(cache, Prepared):
        cache.prepare(references(scenario, layout, routing))
    store = Store(cache, in_ram)
    lost = min(1.0, max(0, -shares.room) / max(1, shares.dense))
    passes = Passes(layout, architecture, scenario.kv_bytes_per_value, scenario.top_k or 0)
    walker = Walker(scenario, layout, passes, store, lost, bool(scenario.expert_overlap), routing, trace)
    passes.load([(load_of(scenario, shares.dense),)])
    for first in range(0, scenario.prompt_tokens, scenario.batch_tokens):
        batch = min(scenario.batch_tokens, scenario.prompt_tokens - first)
        is_last = first + batch == scenario.prompt_tokens
        chosen = union(routing[first : first + batch])
        passes.add(walker.walk("prefill", first, batch, chosen, is_last))
        if is_last and name in SHARED_OUT:
            store.overflow(walker.held(chosen), shares.room)
    overflowed = (OVERFLOW,) if store.is_overfull else ()
    for position in range(scenario.prompt_tokens, scenario.prompt_tokens + scenario.n_tokens - 1):
        passes.add(walker.walk("decode", position, 1, routing[position], True))
    budget = scenario.ram_bytes or 0
    held = min(shares.dense + shares.cache, budget - shares.kv_cache - shares.buffers)  # what is past it is swapped
    return Plan(
        runtime="stream",
        passes=tuple(passes.passes),
        order=tuple(passes.order),
        prefetch_depth=prefetch_depth(layout),
        staging_bytes=0,
        queue_depth=scenario.queue_depth or 1,
        n_workers=scenario.n_workers or 1,
        n_threads=scenario.n_threads or 1,
        request_bytes=request_bytes(scenario, layout),
        ram=RamUse(held, 0, shares.kv_cache, shares.buffers, budget),
        notes=(*_notes(scenario, layout, shares), *overflowed, *_wasted(walker, scenario.n_tokens - 1)),
        in_order=False,
        n_together=n_together(scenario, layout),
        fresh_bytes=fresh_bytes(scenario, layout),
        cache_hit_ratio=walker.n_hits / walker.n_lookups if shares.cache else None,
    )


def load_of(scenario: Scenario, dense_bytes: int) -> Fetch:
    """Reading the dense weights before the first token."""
    n_reads = -(-dense_bytes // (scenario.read_bytes or 4 * 1024**2))
    return Fetch(dense_bytes, n_reads, 0, 0, 0, 0, sequential=True)


def prefetch_depth(layout: Layout) -> int:
    """Slices of a layer may be read from its first projection on."""
    return max(len(b.chunks) for b in layout.blocks if isinstance(b, ExpertLayer)) + 1


def request_bytes(scenario: Scenario, layout: Layout) -> int:
    """The mean size of what is read at once."""
    experts = [b for b in layout.blocks if isinstance(b, ExpertLayer)]
    n_slices = sum(1 if scenario.contiguous_experts else len(b.chunks) for b in experts)
    return sum(b.raw_bytes for b in experts) // max(1, n_slices)


def n_together(scenario: Scenario, layout: Layout) -> int:
    """Reads that are due when one expert is missing."""
    if scenario.contiguous_experts:
        return 1
    return min(len(block.chunks) for block in layout.blocks if isinstance(block, ExpertLayer))


def fresh_bytes(scenario: Scenario, layout: Layout) -> int:
    """What of one read lands in pages nobody has touched: all of it in a cache; without one, buffers are used again."""
    return 0 if scenario.cache_policy == "none" else request_bytes(scenario, layout)


def references(scenario: Scenario, layout: Layout, routing: list[Routing]) -> Iterator[tuple[tuple[int, int], int]]:
    """What the run will look up: the prompt batch by batch, then token by token."""
    starts = range(0, scenario.prompt_tokens, scenario.batch_tokens)
    batches = [union(routing[i : min(i + scenario.batch_tokens, scenario.prompt_tokens)]) for i in starts]
    experts = [(index, block) for index, block in enumerate(layout.blocks) if isinstance(block, ExpertLayer)]
    for chosen in (*batches, *routing[scenario.prompt_tokens : scenario.prompt_tokens + scenario.n_tokens - 1]):
        for (index, block), of_layer in zip(experts, chosen, strict=True):
            yield from (((index, expert), block.raw_bytes) for expert in of_layer)


def _wasted(walker: Walker, n_decoded: int) -> Iterator[str]:
    """What was read on a guess, and how much of it in vain."""
    if walker.guessed_bytes:
        each = format_bytes(walker.guessed_bytes / n_decoded)
        yield f"{each} per token are read on a guess, {walker.vain_bytes / walker.guessed_bytes:.0%} of it in vain"


def _notes(scenario: Scenario, layout: Layout, shares: Shares) -> Iterator[str]:
    """What the numbers alone do not tell."""
    cycle = sum(b.raw_bytes for b in layout.blocks if isinstance(b, ExpertLayer)) * (scenario.top_k or 0)
    if scenario.cache_policy in (None, "lru", "layer_lru") and shares.cache < cycle:
        yield (
            f"this cache ({format_bytes(shares.cache)}) is below one token cycle ({format_bytes(cycle)}): "
            "expect 0 % hits in it"
        )
    if shares.room < 0:
        yield (
            f"not even the dense weights fit: {format_bytes(-shares.room)} of them are paged in again for every token; "
            "beyond this cliff times are very uncertain"
        )
    elif shares.cache > shares.room:
        yield (
            f"this budget will be paid back in page faults: the cache is {format_bytes(shares.cache - shares.in_ram)} "
            "larger than what is left of it in RAM; times are very uncertain"
        )
    elif shares.cache > shares.in_ram:
        yield (
            "this budget will be paid back in page faults, in bursts: so little is left that the system swaps out "
            f"{format_bytes(shares.cache - shares.in_ram)} of the cache; times are uncertain"
        )
    if scenario.expert_overlap and not shares.cache:
        yield (
            "overlap without a cache: slice after slice is waited for, and what that costs the threads can be more "
            "than overlap saves"
        )
