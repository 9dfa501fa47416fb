"""Residency decided tensor by tensor beforehand, by a joint plan: in RAM, in RAM compressed, or on flash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

from simio.plan.layout import Chunk, ExpertLayer, Layout, Slab
from simio.plan.residency import ExpertFetches, decompressions, reads, row_fetches
from simio.records.plan import Fetch


@dataclass(slots=True)
class Placed:
    """Every tensor where ``layout.residency`` puts it; no read goes across one that is in RAM."""

    settles: ClassVar[bool] = True
    layout: Layout
    read_bytes: int
    _place: dict[str, str] = field(init=False)
    _made: dict[object, tuple[Fetch, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._place = dict(self.layout.residency)

    @property
    def held_bytes(self) -> int:
        """RAM taken by tensors all the time."""
        held = 0
        for place, chunks in self._runs():
            held += sum(c.raw_bytes if place == "ram" else c.stored_bytes for c in chunks if place != "flash")
        return held

    @property
    def step_staging_bytes(self) -> int:
        """The most that the fetches of one step stage, a row of an embedding table with them."""
        slabs = (self.slab(i, b) for i, b in enumerate(self.layout.blocks) if isinstance(b, Slab))
        most = max((sum(f.staging_bytes for f in fetches) for fetches in slabs), default=0)
        return most + sum(f.staging_bytes for f in self.rows(1))

    def load(self) -> list[tuple[Fetch, ...]]:
        """What is read before the first token: the tensors held in RAM, block by block."""
        blocks = [b for b in self.layout.blocks if isinstance(b, Slab)]
        held = ([run for place, run in _runs(slab, self._place) if place != "flash"] for slab in blocks)
        return [tuple(f for run in runs for f in reads(run, self.read_bytes, staged=False)) for runs in held]

    def slab(self, index: int, slab: Slab) -> tuple[Fetch, ...]:
        """Reads of what lies on flash, decompressions of what is held compressed, in order of use."""
        if index not in self._made:
            found: list[Fetch] = []
            for place, run in _runs(slab, self._place):
                if place == "flash":
                    found += reads(run, self.read_bytes, staged=True)
                elif place == "ram-compressed":
                    found += decompressions(run)
            self._made[index] = tuple(found)
        return self._made[index]

    def experts(self, index: int, layer: ExpertLayer, chosen: tuple[int, ...]) -> ExpertFetches:
        """Joint plans are for dense models: ``predict`` refuses others."""
        raise AssertionError("a joint plan has no routed experts")

    def rows(self, n: int) -> tuple[Fetch, ...]:
        """Embedding rows; that of a table in RAM is not read."""
        key = ("rows", n)
        if key not in self._made:
            heads = [b for b in self.layout.blocks if isinstance(b, Slab) and b.is_head]
            tied = any(self._place.get(e.tensor) == "flash" for slab in heads for e in slab.extents)
            n_bytes = self.layout.row.stored_bytes + (self.layout.tied_row_bytes if tied else 0)
            self._made[key] = row_fetches(n_bytes, n, self.read_bytes)
        return self._made[key]

    def _runs(self) -> Iterator[tuple[str, list[Chunk]]]:
        for block in self.layout.blocks:
            if isinstance(block, Slab):
                yield from _runs(block, self._place)


def _runs(slab: Slab, place: dict[str, str]) -> list[tuple[str, list[Chunk]]]:
    """The chunks of ``slab`` with their place, together where one lies behind the other in the same place."""
    runs: list[tuple[str, list[Chunk]]] = []
    chunks = iter(slab.chunks)
    for extent in slab.extents:
        own, where = list(islice(chunks, extent.n)), place.get(extent.tensor, "flash")
        if extent.follows and runs and runs[-1][0] == where:
            runs[-1][1].extend(own)
        else:
            runs.append((where, own))
    return runs
