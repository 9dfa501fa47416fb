"""From choices to a ``Problem``: seconds, RAM and cost of every option of every item, by the equations of predictions.

Seconds come from ``simio.service_times`` at the device's values: R4 at the size of the reads of a step, D1 and D2 for
each codec, C1 with traffic and arithmetic apart, of which a step takes the slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simio.errors import UsageError
from simio.plan.build import PREFETCH_DEPTH, READ_BYTES
from simio.plan.layout import SLAB_BYTES, Chunk
from simio.plan.memory import buffer_bytes, kv_cache_bytes
from simio.plan.passes import Passes
from simio.plan.placed import Placed
from simio.plan.residency import reads, row_fetches
from simio.predict.resolve import complete
from simio.records.codec_profile import CodecProfile
from simio.records.device import Device
from simio.records.plan import Fetch, Plan, RamUse, Step
from simio.records.scenario import Scenario
from simio.records.weight_types import weight_type
from simio.service_times import (
    Factors,
    Rates,
    arithmetic_s,
    attention_s,
    base_codec,
    decompress_s,
    link_s,
    rates_of,
    traffic_s,
)
from simio.study.choices import ChoiceTable, Option, TensorChoice
from simio.study.mixed_profile import Chosen, mixed_profile, padded_chunks
from simio.study.problem import STAGES, Indices, Problem
from simio.study.steps import Group, by_layer, by_slab
from simio.units import MIB

#: The label of tensors that stay as they are stored.
AS_STORED = ("as stored", "raw")

#: What is chosen together.
GRAINS = ("tensor", "layer")


@dataclass(frozen=True, slots=True)
class Candidates:
    """A problem, and what its columns mean: ``labels`` (quantizer, codec) and ``residency`` of each option."""

    problem: Problem
    items: tuple[tuple[TensorChoice, ...], ...]
    labels: tuple[tuple[str, str], ...]
    residency: tuple[str, ...]

    def chosen(self, options: Indices) -> list[Chosen]:
        """The tensors of a selection ``options (m,)``."""
        return [
            Chosen(choice.tensor, under(choice, self.labels[o]), self.residency[o])
            for item, o in zip(self.items, options, strict=True)
            for choice in item
        ]

    def only(self, keep: NDArray[np.bool_]) -> Candidates:
        """The same items with the options ``keep (n,)`` only."""
        kept = np.flatnonzero(keep)
        labels, residency = tuple(self.labels[i] for i in kept), tuple(self.residency[i] for i in kept)
        return Candidates(self.problem.only(keep), self.items, labels, residency)

    def with_label(self, label: tuple[str, str]) -> NDArray[np.bool_]:
        """Which options have ``label``."""
        return np.array([one == label for one in self.labels])

    def where_lacking(self, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The options that leave an item as it is stored, of the items for which ``keep`` has none."""
        lacking = ~np.isin(self.problem.item, self.problem.item[keep])
        return lacking & self.with_label(AS_STORED)


def under(choice: TensorChoice, label: tuple[str, str]) -> Option:
    """What ``label`` means for one tensor."""
    return choice.kept if label == AS_STORED else choice.under(label)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the choice is made for: a device, a run on it, and budgets."""

    device: Device
    scenario: Scenario  # of the run: RAM, context, threads … as asked
    cost_budget: float
    grain: str = "tensor"  # one of GRAINS
    may_keep: bool = True  # tensors may stay as they are stored, where there is another choice too


def candidates(table: ChoiceTable, setting: Setting, decompresses: bool) -> Candidates:
    """All options within ``setting``.

    Without ``decompresses`` only those that never decompress while tokens are made, and cores that do not share with
    workers: two regimes, because the rates of one plan depend on which it is.
    """
    labels = [label for label in table.labels if _has_rate(setting.device, label[1])]
    if setting.grain not in GRAINS:
        raise UsageError(f"'{setting.grain}' is nothing to choose by", f"use one of {', '.join(GRAINS)}")
    whole = setting.grain == "layer"
    groups = by_layer(table) if whole else by_slab(table)
    reference = _Reference(table, setting, labels, groups, decompresses)
    tensors_of = [
        group.choices if whole else (choice,) for group in groups for choice in group.choices[: 1 if whole else None]
    ]
    first = {choice.tensor.name: step for step, group in enumerate(groups) for choice in group.choices}
    rows: list[tuple[int, list[float], float, float, float]] = []
    meaning: list[tuple[tuple[str, str], str]] = []
    for item, group in enumerate(tensors_of):
        step = first[group[0].tensor.name]
        offered = [label for label in labels if any(c.under(label).label == label for c in group)]
        for label in (AS_STORED, *offered):
            for residency in ("flash", "ram-compressed", "ram"):
                costs = [reference.costs(choice, under(choice, label), residency, step) for choice in group]
                total = [sum(column) for column in zip(*costs, strict=True)]
                if residency == "ram-compressed" and not total[1]:
                    continue  # nothing there is compressed: the same as in RAM
                if total[1] and not decompresses:
                    continue
                cost = sum(under(choice, label).cost for choice in group)
                rows.append((item, total[:4], total[4], total[5], cost))
                meaning.append((label, residency))
    problem = Problem(
        item=np.array([r[0] for r in rows], dtype=np.intp),
        step=np.array([first[group[0].tensor.name] for group in tensors_of], dtype=np.intp),
        seconds=np.array([r[1] for r in rows]).reshape(-1, len(STAGES)),
        held=np.array([r[2] for r in rows]),
        staged=np.array([r[3] for r in rows]),
        cost=np.array([r[4] for r in rows]),
        fixed=reference.fixed,
        ram_bytes=reference.ram_bytes,
        cost_budget=setting.cost_budget,
        n_buffers=reference.n_buffers,
        staging_cap=reference.n_buffers * 2.0 * SLAB_BYTES,
        row_s=reference.row_s,
        row_link_s=reference.row_link_s,
    )
    return Candidates(
        problem, tuple(tensors_of), tuple(label for label, _ in meaning), tuple(place for _, place in meaning)
    )


def _has_rate(device: Device, codec: str) -> bool:
    base = base_codec(codec)
    return base == "raw" or base in device.cpu.decompress


def rated(table: ChoiceTable, device: Device) -> tuple[str, ...]:
    """A note on codecs that ``device`` has no rate for, if there are any."""
    missing = sorted({codec for _, codec in table.labels if not _has_rate(device, codec)})
    return (f"{device.name} has no decompression rate for {', '.join(missing)}: not chosen",) if missing else ()


class _Reference:
    """The rates every option meets, and what is the same for all of them: attention, norms, rows, KV cache, buffers.

    Rates depend on a plan only by its threads, workers, request size and whether workers decompress, so a plan with
    every tensor on flash stands for all.
    """

    def __init__(
        self,
        table: ChoiceTable,
        setting: Setting,
        labels: Sequence[tuple[str, str]],
        groups: Sequence[Group],
        decompresses: bool,
    ) -> None:
        device, self.chunk_bytes = setting.device, setting.scenario.chunk_bytes or MIB
        profile = self._profile(table, device, labels if decompresses else [])
        resolved = complete(setting.scenario, device, profile)
        scenario, architecture = resolved.scenario, profile.model.architecture
        self.read_bytes = scenario.read_bytes or READ_BYTES
        depth = PREFETCH_DEPTH if scenario.prefetch_depth is None else scenario.prefetch_depth
        if depth < 1:
            raise UsageError("prefetch_depth is 0", "a joint plan reads ahead by at least one step")
        self.n_buffers, self.n_workers = depth + 1, scenario.n_workers or 1
        placed = Placed(resolved.layout, self.read_bytes)
        plan = self._plan(scenario, profile, placed)
        self.plain = rates_of(device, plan, "raw", Factors(), 1.0, scenario.read_limit_bytes_per_s)
        self.rates: dict[str, Rates] = {
            codec: rates_of(device, plan, codec, Factors(), 1.0, scenario.read_limit_bytes_per_s)
            for codec in {"raw", *(codec for _, codec in labels)}
        }
        self.link_per_byte = self._link_per_byte(groups)
        self.fixed = self._fixed(table, groups, plan)
        kv, buffers = kv_cache_bytes(scenario, architecture), buffer_bytes(scenario, architecture)
        small = placed.held_bytes  # only what is not a choice is held in the reference
        row = row_fetches(placed.layout.row.stored_bytes, 1, self.read_bytes)
        self.row_link_s = self._links(row)
        self.row_s = float(self.plain.read_latency_s) + self.row_link_s if row else 0.0
        with_tied = placed.rows(1)  # here the head lies on flash, and where it is a table its row is read, too
        self.tied_link_s = self._links(with_tied) - self.row_link_s
        staged, self.tied_bytes = _staged(row), _staged(with_tied) - _staged(row)
        self.ram_bytes = float((scenario.ram_bytes or 0) - kv - buffers - small - self.n_buffers * staged)

    def _profile(self, table: ChoiceTable, device: Device, labels: Sequence[tuple[str, str]]) -> CodecProfile:
        """Every tensor on flash: compressed where a label with a codec takes it, else as it is stored."""
        packed = [label for label in labels if label[1] != "raw"]
        chosen = []
        for choice in table.choices:
            option = next((choice.under(label) for label in packed if choice.under(label).label == label), choice.kept)
            chosen.append(Chosen(choice.tensor, option, "flash"))
        return mixed_profile(table.model, chosen, device, self.chunk_bytes, "reference")

    def _plan(self, scenario: Scenario, profile: CodecProfile, placed: Placed) -> Plan:
        passes = Passes(placed.layout, profile.model.architecture, scenario.kv_bytes_per_value, 0)
        for token in range(scenario.n_tokens - 1):
            passes.decode(placed, scenario.prompt_tokens + token, [])
        return Plan(
            runtime="stream",
            passes=tuple(passes.passes),
            order=tuple(passes.order),
            prefetch_depth=self.n_buffers - 1,
            staging_bytes=0,
            queue_depth=scenario.queue_depth or 1,
            n_workers=scenario.n_workers or 1,
            n_threads=scenario.n_threads or 1,
            request_bytes=self.read_bytes,
            ram=RamUse(0, 0, 0, 0, scenario.ram_bytes or 0),
        )

    def _link_per_byte(self, groups: Sequence[Group]) -> list[float]:
        """Seconds of the link per stored byte, by step: in reads as large as the step's matrices together allow."""
        found = []
        for group in groups:
            sizes = [o.stored_bytes for choice in group.choices for o in (choice.options or (choice.kept,))]
            mean = len(group.choices) * sum(sizes) / len(sizes)
            size = int(min(self.read_bytes, max(4096.0, mean)))
            found.append(float(link_s(Fetch(size, 1, 0, 0, 0, 0, sequential=True), self.plain)) / size)
        return found

    def _fixed(self, table: ChoiceTable, groups: Sequence[Group], plan: Plan) -> NDArray[np.float64]:
        """``(k, 4)``: attention (mean over the tokens), synchronisation, norms and biases."""
        fixed = np.zeros((len(groups), len(STAGES)))
        layer_of: dict[int | None, int] = {}
        for number, group in enumerate(groups):
            layer_of.setdefault(group.layer, number)
        for index in plan.order:
            for step in plan.passes[index].steps:
                at = layer_of.get(step.layer, len(groups) - 1)
                busy = attention_s(step, self.plain) + step.overheads * self.plain.layer_overhead_s
                fixed[at, 2:] += float(busy) / len(plan.order)
        chosen = {choice.tensor.name for choice in table.choices}
        for tensor in table.model.tensors:
            if tensor.name not in chosen and tensor.role not in ("embedding", "other"):
                at = layer_of.get(tensor.layer, len(groups) - 1)
                fixed[at, 2:] += self._compute(weight_type(tensor.dtype).gemv_class, tensor.n_bytes)
        return fixed

    def _compute(self, kernel: str, n_bytes: int) -> tuple[float, float]:
        """Traffic and arithmetic. [s]"""
        step = Step(0, "", ((kernel, n_bytes),), 0.0, (), 0, 0, ())
        return float(traffic_s(step, self.plain)), float(arithmetic_s(step, self.plain))

    def costs(
        self, choice: TensorChoice, option: Option, residency: str, step: int
    ) -> tuple[float, float, float, float, float, float]:
        """Storage, decompression, traffic, arithmetic [s], held, staged [bytes] of ``option``.

        A table that is the head needs its row read where it is read itself.
        """
        chunks = padded_chunks(option, self.chunk_bytes)
        stored = sum(c.stored_bytes for c in chunks)
        packed = sum(c.raw_bytes for c in chunks if c.is_compressed)
        compute = self._compute(weight_type(option.dtype).gemv_class, option.raw_bytes)
        if residency == "ram":
            return 0.0, 0.0, *compute, float(option.raw_bytes), 0.0
        inflate = 0.0
        if packed:
            one = Fetch(0, 0, 0, packed, 1, packed, sequential=True)
            inflate = float(decompress_s(one, self.rates[option.codec])) / option.relative_rate / self.n_workers
        if residency == "ram-compressed":
            return 0.0, inflate, *compute, float(stored), float(packed)
        link, held = self._link(chunks, stored, step), 0.0
        if choice.tensor.role == "embedding":
            link, held = link + self.tied_link_s, float(self.n_buffers * self.tied_bytes)
        return link, inflate, *compute, held, float(stored + packed)

    def _links(self, fetches: Iterable[Fetch]) -> float:
        return sum(float(link_s(fetch, self.plain)) for fetch in fetches)

    def _link(self, chunks: list[Chunk], stored: int, step: int) -> float:
        """A tensor smaller than a read shares reads with its neighbours; of larger ones each read is counted."""
        if stored < self.read_bytes:
            return stored * self.link_per_byte[step]
        return self._links(reads(chunks, self.read_bytes, staged=False))


def _staged(fetches: Sequence[Fetch]) -> int:
    return sum(fetch.staging_bytes for fetch in fetches)
