"""Residency decided tensor by tensor beforehand, by a joint plan: in RAM, in RAM compressed, or on flash."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

from simio.cache.base import CachePolicy
from simio.cache.none import NoCache
from simio.errors import UsageError
from simio.plan.layout import Chunk, ExpertLayer, Layout, Slab
from simio.plan.residency import (
    ExpertFetches,
    SplitSlab,
    Streamed,
    decompressions,
    reads,
    requests,
    row_fetches,
)
from simio.records.plan import Fetch
from simio.records.scenario import Scenario


@dataclass(slots=True)
class Placed:
    """Every tensor where ``layout.residency`` puts it; no read goes across one that is in RAM. Nothing is cached."""

    settles: ClassVar[bool] = True
    rows_from_ram: ClassVar[bool] = True  # rows of a table held in RAM are not read
    caches_dense: ClassVar[bool] = False
    form: ClassVar[str] = "raw"  # of what a cache would keep
    layout: Layout
    read_bytes: int
    cache: CachePolicy = field(init=False, default_factory=NoCache)
    _place: dict[str, str] = field(init=False)
    _slabs: dict[int, SplitSlab] = field(init=False)
    _made: dict[object, tuple[Fetch, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._place = dict(self.layout.residency)
        self._slabs = {i: self._cut(block) for i, block in enumerate(self.layout.blocks) if isinstance(block, Slab)}

    @property
    def held_bytes(self) -> int:
        """RAM taken by tensors all the time."""
        return sum(
            sum(c.stored_bytes if form == "compressed" else c.raw_bytes for c in request)
            for split in self._slabs.values()
            for request, is_held, form in zip(split.requests, split.pinned, split.forms, strict=True)
            if is_held
        )

    @property
    def step_staging_bytes(self) -> int:
        """The most that the fetches of one step stage, a row of an embedding table with them."""
        slabs = (self.slab(i, b) for i, b in enumerate(self.layout.blocks) if isinstance(b, Slab))
        most = max((sum(f.staging_bytes for f in fetches) for fetches in slabs), default=0)
        return most + sum(f.staging_bytes for f in self.rows(1))

    def load(self) -> list[tuple[Fetch, ...]]:
        """What is read before the first token: the tensors held in RAM, block by block."""
        return [
            tuple(f for request in split.held() for f in reads(request, self.read_bytes, staged=False))
            for split in self._slabs.values()
        ]

    def split(self, index: int) -> SplitSlab:
        """The read requests of slab ``index``, those held in RAM marked."""
        return self._slabs[index]

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """Reads of what lies on flash, decompressions of what is held compressed, in order of use."""
        if index not in self._made:
            split = self._slabs[index]
            uses = map(self._use, split.requests, split.pinned, split.forms)
            self._made[index] = tuple(fetch for use in uses for fetch in use)
        return self._made[index]

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> ExpertFetches:
        """Joint plans are for dense models: ``predict`` refuses others."""
        raise AssertionError("a joint plan has no routed experts")

    def rows(self, n: int) -> tuple[Fetch, ...]:
        """Embedding rows; that of a table in RAM is not read."""
        key = ("rows", n)
        if key not in self._made:
            tied = self.layout.tied_row_bytes if self._place_of(self.layout.tied_table) == "flash" else 0
            self._made[key] = row_fetches(self.layout.row.stored_bytes + tied, n, self.read_bytes)
        return self._made[key]

    def _place_of(self, tensor: str | None) -> str:
        return self._place.get(tensor or "", "flash")

    def _use(self, request: tuple[Chunk, ...], is_held: bool, form: str) -> Iterable[Fetch]:
        if not is_held:
            return reads(request, self.read_bytes, staged=True)
        return decompressions(request) if form == "compressed" else ()

    def _cut(self, slab: Slab) -> SplitSlab:
        cut = [(place, r) for place, run in self._runs(slab) for r in requests(run, self.read_bytes)]
        return SplitSlab(
            tuple(request for _, request in cut),
            tuple(place != "flash" for place, _ in cut),
            tuple("compressed" if place == "ram-compressed" else "raw" for place, _ in cut),
        )

    def _runs(self, slab: Slab) -> list[tuple[str, list[Chunk]]]:
        """The chunks of ``slab`` with their place, together where one lies behind the other in the same place."""
        runs: list[tuple[str, list[Chunk]]] = []
        chunks = iter(slab.chunks)
        for extent in slab.extents:
            own, where = list(islice(chunks, extent.n)), self._place_of(extent.tensor)
            if extent.follows and runs and runs[-1][0] == where:
                runs[-1][1].extend(own)
            else:
                runs.append((where, own))
        return runs


#: Who decides where the weights of a streamed run lie: RAM shared out by the planner, or a plan made beforehand.
StreamResidency = Streamed | Placed


#: Choices that a joint plan has made.
_PLANNED = ("pinned_bytes", "pinned_fraction", "cache_policy", "cache_bytes", "cache_form")


def refuse_choices(scenario: Scenario) -> None:
    """Raises ``UsageError`` where ``scenario`` chooses what a joint plan has chosen."""
    for name in _PLANNED:
        if getattr(scenario, name) is not None:
            raise UsageError(
                f"{name} is given, but the joint plan says what is in RAM",
                "leave it out; a container packed without --plan has no plan",
            )
