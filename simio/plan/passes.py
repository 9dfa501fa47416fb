"""Turn blocks into the steps of one pass: what is multiplied, what is attended, what must be fetched first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from simio.plan.layout import SLAB_BYTES, ExpertLayer, Layout, Slab
from simio.plan.memory import padded_context
from simio.records.model import Architecture
from simio.records.plan import Fetch, Pass, Step

#: What must be fetched, the embedding row first and then block by block, and the experts chosen in each block.
Decisions = tuple[list[tuple[Fetch, ...]], list[tuple[int, ...]]]

Routing = list[tuple[int, ...]]  # experts per expert layer


class Residency(Protocol):
    """Decides, access by access, what is in RAM. Equal decisions return the same tuple object (see ``Passes``)."""

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """What must be fetched before ``slab`` (block number ``index``) can be multiplied."""
        ...

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> tuple[Fetch, ...]:
        """What must be fetched before the ``chosen`` experts can be multiplied."""
        ...

    def row(self) -> tuple[Fetch, ...]:
        """The embedding row of one token."""
        ...


@dataclass(slots=True)
class Passes:
    """Builds passes and stores equal ones once."""

    layout: Layout
    architecture: Architecture
    kv_bytes_per_value: float
    top_k: int
    passes: list[Pass] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    _seen: dict[tuple[object, ...], int] = field(default_factory=dict)
    _last_ids: list[int] = field(default_factory=list)
    _settled: Decisions | None = None  # of every token to come: dense tokens whose last two scans hit alike

    @property
    def has_experts(self) -> bool:
        """Whether reads jump to the experts a router chooses, instead of following the file."""
        return any(isinstance(block, ExpertLayer) for block in self.layout.blocks)

    def decode(self, residency: Residency, position: int, routing: Routing) -> None:
        """Append one decoded token at context ``position``."""
        context = padded_context(position + 1)
        self._append("decode", residency, routing, context, n_tokens=1, first=position)

    def prefill(self, residency: Residency, first: int, n_tokens: int, routing: Routing) -> None:
        """Append one batch of ``n_tokens`` prompt tokens after ``first`` earlier ones."""
        self._append("prefill", residency, routing, padded_context(first + n_tokens), n_tokens, first)

    def load(self, fetches: list[tuple[Fetch, ...]]) -> None:
        """Append a loading pass: per block what is read before the first token. Nothing is computed."""
        steps = tuple(Step(i, "load", (), 0.0, (), 0, 0, block) for i, block in enumerate(fetches) if block)
        if steps:
            self.order.append(len(self.passes))
            self.passes.append(Pass("load", steps))

    def _append(
        self, kind: str, residency: Residency, routing: Routing, context: int, n_tokens: int, first: int
    ) -> None:
        fetches, picks = self._settled or self._decide(residency, routing)
        if kind == "decode" and not routing and self._settled is None:
            ids = list(map(id, fetches))
            if ids == self._last_ids:
                self._settled = fetches, picks
            self._last_ids = ids
        batch = (n_tokens, first) if kind == "prefill" else ()
        key = (kind, context, batch, tuple(map(len, picks)), tuple(map(id, fetches)))
        if key not in self._seen:
            self._seen[key] = len(self.passes)
            self.passes.append(Pass(kind, self._steps(kind, picks, fetches, context, n_tokens, first)))
        self.order.append(self._seen[key])

    def _decide(self, residency: Residency, routing: Routing) -> Decisions:
        chosen = iter(routing)
        picks: list[tuple[int, ...]] = []
        fetches = [residency.row()]
        for index, block in enumerate(self.layout.blocks):
            if isinstance(block, Slab):
                picks.append(())
                fetches.append(residency.slab(index, block))
            else:
                picks.append(next(chosen))
                fetches.append(residency.experts(index, block, picks[-1]))
        return fetches, picks

    def _steps(
        self,
        kind: str,
        picks: list[tuple[int, ...]],
        fetches: list[tuple[Fetch, ...]],
        context: int,
        n_tokens: int,
        first: int,
    ) -> tuple[Step, ...]:
        steps: list[Step] = []
        attended: set[int] = set()
        batch = n_tokens if kind == "prefill" else 0
        for index, (block, pick) in enumerate(zip(self.layout.blocks, picks, strict=True)):
            needed = fetches[index + 1]
            if isinstance(block, ExpertLayer):
                steps += self._expert_steps(block, len(pick), needed, batch)
                continue
            is_head = block.layer >= self.architecture.n_layers
            flop = [(kernel, 2.0 * n * (1 if is_head else batch)) for kernel, n in block.weights] if batch else []
            kv = 0.0
            opens_layer = block.layer not in attended
            if opens_layer and not is_head:
                kv = self._kv_bytes(block.layer, context)
                if batch:
                    flop.append(("f16", self._attention_flop(first, n_tokens)))
            attended.add(block.layer)
            if index == 0:
                needed = fetches[0] + needed
            steps.append(
                Step(block.layer, block.label, block.weight_bytes, kv, tuple(flop), int(opens_layer), 0, needed)
            )
        return tuple(steps)

    def _expert_steps(self, layer: ExpertLayer, n: int, fetches: tuple[Fetch, ...], batch: int) -> list[Step]:
        """The chosen experts, in groups of at most a slab, each gated by the router."""
        if n == 0:
            return []
        per_group = max(1, SLAB_BYTES // max(1, layer.raw_bytes))
        n_groups = -(-n // per_group)
        share = batch * self.top_k / n  # tokens that use each expert read
        steps = []
        for group in range(n_groups):
            size = min(per_group, n - group * per_group)
            bytes_ = tuple((kernel, b * size) for kernel, b in layer.weight_bytes)
            flop = tuple((kernel, 2.0 * w * size * share) for kernel, w in layer.weights) if batch else ()
            part = fetches[len(fetches) * group // n_groups : len(fetches) * (group + 1) // n_groups]
            steps.append(Step(layer.layer, f"experts {layer.layer}", bytes_, 0.0, flop, 0, group + 1, part))
        return steps

    def _kv_bytes(self, layer: int, context: int) -> float:
        """KV bytes one token reads in ``layer``."""
        if layer >= len(self.architecture.kv_layers):
            return 0.0
        kv = self.architecture.kv_layers[layer]
        cells = context if kv.window is None else min(context, padded_context(kv.window))
        return kv.n_values * cells * self.kv_bytes_per_value + 2 * kv.fixed_bytes

    def _attention_flop(self, first: int, n_tokens: int) -> float:
        """Scores and weighted sum of causal attention: ``4 · n_heads · head_dim · Σ positions``, one layer."""
        last = first + n_tokens
        return 2.0 * self.architecture.n_heads * self.architecture.head_dim * (last**2 - first**2)
