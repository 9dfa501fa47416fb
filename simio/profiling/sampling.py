"""Profile a part of the chunks: a stratified draw, its extrapolation to the rest, and a confidence interval.

Strata are (role, stream type, entropy to 0.1 bit), the entropy being that of a peek at each chunk (``peek``). Without
it a sample misses the few chunks that compress far better than the rest (rows of unused tokens, tensors of rounded
values). On all-MiniLM-L6-v2 in chunks of 1 MiB under ``zstd:1``, 300 draws: mean error 0.75 % from 21 % of the bytes
without the peek, 0.03 % from 15 % with it. Inside a stratum chunks are drawn without replacement; a stratum of few
chunks is taken whole, so a small model gives more than the share asked for. The estimate is the separate ratio
estimator with Satterthwaite's degrees of freedom (Cochran, Sampling Techniques, 3rd ed., chapters 5 and 6):

    r_h = Σ stored / Σ raw in the sample of stratum h
    T   = Σ_h (stored of the sample + r_h · raw of the rest)
    v_h = N_h² (1 − n_h/N_h) s²_h / n_h,   s²_h = Σ (stored − r_h·raw)² / (n_h − 1)
    T ± t(0.975, ν) · √Σ v_h,              ν = (Σ v_h)² / Σ v_h²/(n_h − 1)
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from simio.profiling.chunking import ChunkRef
from simio.records.model import Model

#: Fewest chunks drawn from a stratum that has as many: a spread needs some.
MIN_PER_STRATUM = 4

#: The interval is never narrower than this share of the stored size: no sample sees a handful of odd chunks. Chosen on
#: the file above, where the equations alone cover the truth in 85 to 89 % of draws (``lz4:9``: 11 %, with errors below
#: 0.12 %) and with this floor in all of them. It has not been tried on an LLM.
MIN_HALF_WIDTH = 0.001

_ENTROPY_BIN_BITS = 0.1

Strata = dict[Hashable, list[int]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Extrapolated sizes: ``stored_bytes`` per chunk, and the half width of the 95 % interval of their sum."""

    stored_bytes: list[int]
    half_width_bytes: float


def stratify(model: Model, chunks: Sequence[ChunkRef], entropies: Sequence[float]) -> Strata:
    """All chunks, grouped by tensor role, stream type and entropy [bits/byte]."""
    strata: Strata = defaultdict(list)
    for index, (chunk, entropy) in enumerate(zip(chunks, entropies, strict=True)):
        role = model.tensors[chunk.tensor].role
        strata[role, chunk.stream.dtype, int(entropy / _ENTROPY_BIN_BITS)].append(index)
    return strata


def draw(strata: Strata, fraction: float, seed: int, at_least: int = MIN_PER_STRATUM) -> list[int]:
    """Indices of a seeded sample with ``fraction`` of each stratum, sorted; a small stratum is taken whole."""
    rng = random.Random(seed)
    drawn: list[int] = []
    for members in strata.values():
        n_drawn = min(len(members), max(at_least, math.ceil(fraction * len(members))))
        drawn += rng.sample(members, n_drawn)
    return sorted(drawn)


def extrapolate(strata: Strata, raw_bytes: Sequence[int], stored: dict[int, int]) -> Estimate:
    """Stored bytes of every chunk from those in ``stored`` (index → bytes); see the module's equations."""
    estimate = [0] * len(raw_bytes)
    variances: list[tuple[float, int]] = []
    for members in strata.values():
        sample = [index for index in members if index in stored]
        ratio = sum(stored[i] for i in sample) / max(1, sum(raw_bytes[i] for i in sample))
        for index in members:
            estimate[index] = stored[index] if index in stored else max(1, round(ratio * raw_bytes[index]))
        if 1 < len(sample) < len(members):
            squares = sum((stored[i] - ratio * raw_bytes[i]) ** 2 for i in sample)
            unseen = 1 - len(sample) / len(members)
            spread = squares / (len(sample) - 1)
            variances.append((len(members) ** 2 * unseen * spread / len(sample), len(sample) - 1))
    floor = MIN_HALF_WIDTH * sum(estimate) if len(stored) < len(raw_bytes) else 0.0
    return Estimate(estimate, max(floor, _half_width(variances)))


def _half_width(variances: Sequence[tuple[float, int]]) -> float:
    total = sum(variance for variance, _ in variances)
    if not total:
        return 0.0
    freedom = total**2 / sum(variance**2 / n for variance, n in variances)
    return t_quantile(0.975, freedom) * math.sqrt(total)


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t for ``freedom`` ≥ 3, to 0.2 % (Abramowitz and Stegun 26.7.5).

    >>> round(t_quantile(0.975, 10), 3)
    2.228
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
