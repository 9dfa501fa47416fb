"""The LRU hit curve for all budgets at once, against a plain replay of one budget: a ratio in one run."""

from __future__ import annotations

import statistics
import sys
import time
from collections import OrderedDict

import numpy as np
import pytest

from simio.cache import stack_distance
from simio.cache.stack_distance import lru_curve
from simio.plan.routing import draw_routing

EXPERT_BYTES = 3_059_712  # of Qwen3-30B-A3B Q4_K_M


def test_the_curve_against_one_replay(capsys, monkeypatch):
    routing = draw_routing(48, 128, 6, 28, 128, 0)
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

    for how in ("numba", "numpy alone"):
        if how == "numpy alone":
            monkeypatch.setitem(sys.modules, "numba", None)
        stack_distance._compiled.cache_clear()
        start = time.perf_counter()
        curve = lru_curve(numbers, EXPERT_BYTES)  # numba compiles
        first_s = time.perf_counter() - start
        assert curve.hit_ratio(budget) * len(keys) == pytest.approx(replay())
        ratios, firsts = [], []
        for _ in range(25):
            start = time.perf_counter()
            lru_curve(numbers, EXPERT_BYTES)
            middle = time.perf_counter()
            replay()
            replay_s = time.perf_counter() - middle
            ratios.append((middle - start) / replay_s)
            firsts.append(first_s / replay_s)
        with capsys.disabled():
            print(f"\nLRU curve of {len(keys)} references, all budgets / replay of one budget, {how}: "
                  f"{statistics.median(ratios):.2f}  (target below 1; "
                  f"first call {statistics.median(firsts):.1f})")  # fmt: skip
    stack_distance._compiled.cache_clear()
