"""The LRU hit curve for all budgets at once, against a plain replay of one budget: a ratio in one run."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict

import numpy as np

from simio.cache.stack_distance import lru_curve
from simio.plan.routing import draw_routing

EXPERT_BYTES = 3_059_712  # of Qwen3-30B-A3B Q4_K_M


def test_the_curve_against_one_replay(capsys):
    routing = draw_routing(48, 128, 6, 156, 0)
    keys = [(layer, e) for token in routing for layer, chosen in enumerate(token) for e in chosen]
    numbers = np.array([128 * layer + e for layer, e in keys])
    budget = 3000 * 1024**2

    def replay() -> int:
        held: OrderedDict[tuple[int, int], None] = OrderedDict()
        most, hits = budget // EXPERT_BYTES, 0
        for key in keys:
            if key in held:
                held.move_to_end(key)
                hits += 1
            else:
                held[key] = None
                if len(held) > most:
                    held.popitem(last=False)
        return hits

    curve = lru_curve(numbers, EXPERT_BYTES)  # compiles
    assert curve.hit_ratio(budget) * len(keys) == replay()
    ratios = []
    for _ in range(25):
        start = time.perf_counter()
        lru_curve(numbers, EXPERT_BYTES)
        middle = time.perf_counter()
        replay()
        ratios.append((middle - start) / (time.perf_counter() - middle))
    with capsys.disabled():
        print(f"\nLRU curve of {len(keys)} references, all budgets / replay of one budget: "
              f"{statistics.median(ratios):.2f}  (target below 1)")  # fmt: skip
