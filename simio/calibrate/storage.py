"""What of storage is measured: which accesses, how often, by which engine; and the curve that comes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from simio.calibrate.direct_reads import Access
from simio.calibrate.document import curve_point
from simio.calibrate.quantities import of_rounds, percentile
from simio.calibrate.rounds import Probe, Series
from simio.calibrate.scratch_file import ScratchFile
from simio.units import KIB, MIB

BLOCKS = (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
DEPTHS = (1, 2, 4, 8)
#: Small blocks are also read this deep.
DEEP, DEEP_BLOCKS = 32, (4 * KIB, 64 * KIB)
#: What a streaming run asks for, measured in every sweep; the others in every third.
_MAIN_BLOCK, _MAIN_DEPTH = MIB, 4
#: A depth is better than a smaller one only if it is faster by more than this.
_WORTH = 1.03

#: One round: (file, access, seconds, where to begin) → bytes/s
Engine = Callable[[ScratchFile, Access, float, random.Random], float]


def is_main(access: Access) -> bool:
    """Whether a streaming run reads like this."""
    return access.block_bytes >= _MAIN_BLOCK and access.queue_depth <= _MAIN_DEPTH


def accesses() -> list[Access]:
    """Every point of the curve."""
    depths = {block: (*DEPTHS, *((DEEP,) if block in DEEP_BLOCKS else ())) for block in BLOCKS}
    return [Access(p, block, depth) for p in ("random", "sequential") for block in BLOCKS for depth in depths[block]]


def probes(file: ScratchFile, engine: Engine, extra_s: float = 0.0, seed: int = 1) -> list[Probe]:
    """A probe for each access that the file is large enough for."""
    rng = random.Random(seed)
    return [
        _probe(file, access, engine, extra_s, rng) for access in accesses() if access.block_bytes * 8 <= file.n_bytes
    ]


def _probe(file: ScratchFile, access: Access, engine: Engine, extra_s: float, rng: random.Random) -> Probe:
    return Probe(
        access.name,
        lambda duration_s: {access.name: engine(file, access, duration_s, rng)},
        every=1 if is_main(access) else 3,
        extra_s=extra_s,
    )


def curve(series: Series, source: str) -> list[dict[str, Any]]:
    """``[[storage.curve]]``: the points measured."""
    return [
        curve_point(a.pattern, a.block_bytes, a.queue_depth, of_rounds(series[a.name], "bytes_per_s", source))
        for a in accesses()
        if a.name in series
    ]


def best_queue_depth(series: Series) -> int:
    """The smallest depth at which reads of the largest block are about as fast as at any."""
    block = max(a.block_bytes for a in accesses() if a.name in series)
    medians = {
        a.queue_depth: percentile(series[a.name], 50)
        for a in accesses()
        if a.block_bytes == block and a.pattern == "sequential" and a.name in series
    }
    return min(depth for depth, rate in medians.items() if rate * _WORTH >= max(medians.values()))
