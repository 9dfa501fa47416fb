"""What a model of a OnePlus 15R must reproduce in sign and size: pairs of runs on the phone, as scenarios.

Source of the measured figures: github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1 (2026-08).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from simio.predict.point import Point, evaluate
from simio.predict.resolve import resolve
from simio.records.scenario import Scenario
from simio.units import MIB

QWEN = Scenario(
    device="oneplus15r", model="qwen3-30b-a3b:q4_k_m", runtime="stream", n_tokens=256, prompt_tokens=34, n_threads=4,
    queue_depth=4, draws=0, dense_weights="mmap", expert_overlap=True, cache_policy="lru", cache_bytes=4000 * MIB,
)  # fmt: skip
GEMMA = replace(QWEN, model="gemma-4-26b-a4b:q4_k_m", prompt_tokens=42, cache_bytes=2000 * MIB)
NO_CACHE = {"cache_policy": "none", "cache_bytes": None}
TOP_6 = replace(QWEN, top_k=6, prompt_tokens=38, cache_bytes=3000 * MIB, dense_weights="anon")


@dataclass(frozen=True, slots=True)
class Effect:
    """``after`` is ``measured`` times as fast as ``before``; a prediction between ``low`` and ``high`` counts as right.

    ``hits``: measured points of hit ratio gained, where the cache decides.
    """

    name: str
    before: Scenario
    after: Scenario
    measured: float
    low: float
    high: float
    hits: float | None = None

    def predicted(self) -> tuple[float, float]:
        """How many times as fast, and points of hit ratio gained."""
        before, after = evaluate(resolve(self.before)), evaluate(resolve(self.after))
        return after.tokens_per_s / before.tokens_per_s, 100 * (_hits(after) - _hits(before))


def _hits(point: Point) -> float:
    return point.plan.cache_hit_ratio or 0.0


EFFECTS = (
    Effect("overlap over a warm cache helps", replace(QWEN, expert_overlap=False), QWEN, 3.98 / 3.47, 1.05, 1.35),
    Effect("overlap without a cache hurts (Qwen)", replace(QWEN, **NO_CACHE, expert_overlap=False),
           replace(QWEN, **NO_CACHE), 1.27 / 1.71, 0.6, 0.99),
    Effect("per-layer LFU hits more and is slower", TOP_6, replace(TOP_6, cache_policy="layer_lfu"),
           188.3 / 280.3, 0.4, 0.95, 2.0),
    Effect("a guessed router hits more and is slower", QWEN, replace(QWEN, speculative_gate=True),
           196.4 / 376.9, 0.4, 0.85, 11.9),
    Effect("contiguous experts win when serial without a cache", replace(QWEN, **NO_CACHE, expert_overlap=False),
           replace(QWEN, **NO_CACHE, expert_overlap=False, contiguous_experts=True), 1.05, 1.005, 1.2),
    Effect("contiguous experts lose when overlapped", QWEN, replace(QWEN, contiguous_experts=True), 0.77, 0.7, 0.97),
    Effect("a cache near all free RAM hits more and is slower (Gemma)", GEMMA,
           replace(GEMMA, cache_bytes=4610 * MIB), 1.88 / 3.18, 0.4, 0.85, 27.2),
    Effect("mmap past RAM is many times slower (Gemma)", GEMMA,
           replace(GEMMA, runtime="mmap", queue_depth=None, dense_weights=None, expert_overlap=None,
                   cache_policy=None, cache_bytes=None),
           0.36 / 3.18, 0.05, 0.25),
)  # fmt: skip
