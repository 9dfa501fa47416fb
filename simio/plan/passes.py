"""Turn blocks into the steps of one pass: what is multiplied, what is attended, what must be fetched first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, cast

from simio.plan.layout import ExpertLayer, Layout, Slab
from simio.plan.memory import padded_context
from simio.plan.residency import ExpertFetches
from simio.records.model import Architecture
from simio.records.plan import Fetch, Pass, Step

#: What one block needs: a slab's fetches, or those of every expert chosen.
Needs = tuple[Fetch, ...] | ExpertFetches

#: The embedding rows, and then block by block what must be fetched.
Decisions = tuple[tuple[Fetch, ...], list[Needs]]

Routing = list[tuple[int, ...]]  # experts per expert layer


class Residency(Protocol):
    """Decides, access by access, what is in RAM. Equal decisions return the same tuple object (see ``Passes``).

    ``settles``: dense tokens decide alike for ever, once two in a row have.
    """

    settles: ClassVar[bool]

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """What must be fetched before ``slab`` (block number ``index``) can be multiplied."""
        ...

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> ExpertFetches:
        """What each of the ``chosen`` experts needs before it can be multiplied."""
        ...

    def rows(self, n: int) -> tuple[Fetch, ...]:
        """The embedding rows of ``n`` tokens."""
        ...


@dataclass(frozen=True, slots=True)
class _Batch:
    """``n_tokens`` tokens after ``first`` earlier ones; ``wants_token``: the output head is needed."""

    first: int
    n_tokens: int
    wants_token: bool

    @property
    def context(self) -> int:
        """KV cells attended, padded."""
        return padded_context(self.first + self.n_tokens)


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
    _dense: dict[tuple[object, ...], dict[int, Step]] = field(default_factory=dict)
    _settled: Decisions | None = None  # of every token to come: dense tokens whose last two scans hit alike

    def decode(self, residency: Residency, position: int, routing: Routing) -> None:
        """Append one decoded token at context ``position``."""
        self._append("decode", residency, routing, _Batch(position, 1, wants_token=True))

    def prefill(self, residency: Residency, first: int, n_tokens: int, routing: Routing, is_last: bool) -> None:
        """Append one batch of ``n_tokens`` prompt tokens after ``first`` earlier ones; the last one yields a token."""
        self._append("prefill", residency, routing, _Batch(first, n_tokens, is_last))

    def load(self, fetches: list[tuple[Fetch, ...]]) -> None:
        """Append a loading pass: per block what is read before the first token. Nothing is computed."""
        steps = tuple(Step(i, "load", (), 0.0, (), 0, 0, block) for i, block in enumerate(fetches) if block)
        if steps:
            self.order.append(len(self.passes))
            self.passes.append(Pass("load", steps))

    def add(self, one: Pass) -> None:
        """Append a pass made elsewhere."""
        self.order.append(len(self.passes))
        self.passes.append(one)

    def dense_steps(self, kind: str, first: int, n_tokens: int, wants_token: bool) -> dict[int, Step]:
        """The steps of the dense blocks that a token or batch walks through, by number of block, nothing to fetch."""
        batch = _Batch(first, n_tokens, wants_token)
        shape = (kind, first, n_tokens) if kind == "prefill" else (kind, batch.context)
        if shape not in self._dense:
            blocks = enumerate(self.layout.blocks)
            wanted = [i for i, b in blocks if isinstance(b, Slab) and (wants_token or not b.is_head)]
            self._dense[shape] = {i: self._steps(kind, i, (), batch, ())[0] for i in wanted}
        return self._dense[shape]

    def _append(self, kind: str, residency: Residency, routing: Routing, batch: _Batch) -> None:
        rows, needs = self._settled or self._decide(residency, routing, batch)
        if kind == "decode" and not routing and residency.settles and self._settled is None:
            ids = list(map(id, needs))
            if ids == self._last_ids:
                self._settled = rows, needs
            self._last_ids = ids
        shape = batch if kind == "prefill" else batch.context
        key = (kind, shape, id(rows), tuple(map(id, needs)))
        if key not in self._seen:
            self._seen[key] = len(self.passes)
            steps = [s for i, n in enumerate(needs) for s in self._steps(kind, i, n, batch, rows if i == 0 else ())]
            self.passes.append(Pass(kind, tuple(steps)))
        self.order.append(self._seen[key])

    def _decide(self, residency: Residency, routing: Routing, batch: _Batch) -> Decisions:
        rows = residency.rows(batch.n_tokens)
        chosen = iter(routing)
        needs: list[Needs] = []
        for index, block in enumerate(self.layout.blocks):
            if isinstance(block, ExpertLayer):
                needs.append(residency.experts(index, block, next(chosen)))
            elif batch.wants_token or not block.is_head:
                needs.append(residency.slab(index, block))
        return rows, needs

    def _steps(self, kind: str, index: int, needs: Needs, batch: _Batch, rows: tuple[Fetch, ...]) -> list[Step]:
        """The steps of one block."""
        block = self.layout.blocks[index]
        is_batch = kind == "prefill"
        if isinstance(block, ExpertLayer):
            return self._expert_steps(block, cast(ExpertFetches, needs), batch.n_tokens if is_batch else 0)
        opens_layer = index == 0 or self.layout.blocks[index - 1].layer != block.layer
        kv = self._kv_bytes(block.layer, batch.context) if opens_layer and not block.is_head else 0.0
        flop: list[tuple[str, float]] = []
        if is_batch:
            n_tokens = 1 if block.is_head else batch.n_tokens
            flop = [(kernel, 2.0 * n * n_tokens) for kernel, n in block.weights]
            if kv and self.architecture.kv_layers[block.layer].n_values:
                flop.append(("f16", self._attention_flop(block.layer, batch)))
        fetches = rows + cast(tuple[Fetch, ...], needs)
        return [Step(block.layer, block.label, block.weight_bytes, kv, tuple(flop), int(opens_layer), 0, fetches)]

    def _expert_steps(self, layer: ExpertLayer, needs: ExpertFetches, n_tokens: int) -> list[Step]:
        """The chosen experts, in groups of at most a slab, each gated by the router. ``n_tokens``: 0 in decode."""
        per_group = layer.per_step
        share = n_tokens * self.top_k / max(1, len(needs))  # tokens that use each expert read
        steps = []
        for number, start in enumerate(range(0, len(needs), per_group)):
            group = needs[start : start + per_group]
            n = len(group)
            bytes_ = tuple((kernel, b * n) for kernel, b in layer.weight_bytes)
            flop = tuple((kernel, 2.0 * w * n * share) for kernel, w in layer.weights) if n_tokens else ()
            fetches = tuple(fetch for expert in group for fetch in expert)
            steps.append(Step(layer.layer, f"experts {layer.layer}", bytes_, 0.0, flop, 0, number + 1, fetches))
        return steps

    def _kv_bytes(self, layer: int, context: int) -> float:
        """KV bytes one token reads in ``layer``."""
        if layer >= len(self.architecture.kv_layers):
            return 0.0
        kv = self.architecture.kv_layers[layer]
        cells = context if kv.window is None else min(context, padded_context(kv.window))
        return kv.n_values * cells * self.kv_bytes_per_value + 2 * kv.fixed_bytes

    def _attention_flop(self, layer: int, batch: _Batch) -> float:
        """Scores and weighted sum of causal attention in one layer: ``4 · n_heads · head_dim · Σ positions attended``.

        Positions are those before each token, at most the layer's window.
        """
        window = self.architecture.kv_layers[layer].window
        last = batch.first + batch.n_tokens
        attended = (last**2 - batch.first**2) / 2
        if window is not None:
            attended = min(attended, float(window * batch.n_tokens))
        return 4.0 * self.architecture.n_heads * self.architecture.head_dim * attended
