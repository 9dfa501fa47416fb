"""Every cache policy against the contract in ``simio.cache.base``, and the bounds against each other."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simio import registry
from simio.cache import stack_distance
from simio.cache.base import Prepared
from simio.cache.belady import Belady
from simio.cache.lru import Lru
from simio.cache.per_layer import LayerLru
from simio.cache.stack_distance import NEVER, distances, lru_curve

NAMES = registry.names("cache_policies")
#: What is told what comes need not settle on a scan it was not told of.
SEES_AHEAD = ("belady", "pinned")

references = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=120)


def replay(name: str, capacity: int, keys: list[tuple[int, int]], n_bytes: int = 1) -> list[bool]:
    policy = registry.get("cache_policies", name)(capacity)
    if isinstance(policy, Prepared):
        policy.prepare((key, n_bytes) for key in keys)
    return [policy.access(key, n_bytes) for key in keys]


@pytest.mark.parametrize("name", NAMES)
@given(keys=references, capacity=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_a_policy_holds_no_more_than_it_may_and_hits_what_it_holds(name, keys, capacity):
    policy = registry.get("cache_policies", name)(capacity)
    if isinstance(policy, Prepared):
        policy.prepare((key, 1) for key in keys)
    for key in keys:
        held = key in policy
        assert policy.access(key, 1) is held
        assert sum(k in policy for k in set(keys)) <= capacity


@pytest.mark.parametrize("name", [n for n in NAMES if n != "none"])
def test_what_is_larger_than_the_cache_is_never_kept(name):
    assert replay(name, 10, [(0, 0), (0, 0), (0, 0)], n_bytes=11) == [False] * 3


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SEES_AHEAD])
def test_cyclic_scans_settle(name):
    scan = [(layer, expert) for layer in range(4) for expert in range(3)]
    hits = replay(name, 7, scan * 12)
    last = [hits[i : i + len(scan)] for i in range(0, len(hits), len(scan))][-3:]
    assert last[0] == last[1] == last[2]


@given(keys=references, capacity=st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_nobody_beats_belady(keys, capacity):
    best = sum(replay("belady", capacity, keys))
    assert all(sum(replay(name, capacity, keys)) <= best for name in NAMES)


@given(keys=st.lists(st.integers(0, 9), max_size=200), budget=st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_the_curve_is_lru_at_every_budget(keys, budget):
    hits = sum(replay("lru", budget, [(0, k) for k in keys]))
    assert lru_curve(keys, 1).hit_ratio(budget) * len(keys) == pytest.approx(hits)


def test_distances_by_hand():
    assert distances(list("abcba"), [1, 2, 4, 2, 1]).tolist() == [NEVER, NEVER, NEVER, 6, 7]


def test_integers_and_other_keys_give_one_curve():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 40, 3000)
    budgets = np.arange(50)
    ours = lru_curve(keys, 1).hit_ratio(budgets)
    assert np.array_equal(ours, lru_curve([f"expert {k}" for k in keys], 1).hit_ratio(budgets))


@given(
    keys=st.lists(st.integers(0, 7), max_size=120),
    sizes=st.lists(st.integers(1, 6), min_size=8, max_size=8),
    budget=st.integers(0, 24),
)
@settings(max_examples=300, deadline=None)
def test_sizes_that_differ_leave_the_curve_exact_once_every_item_fits(keys, sizes, budget):
    numbers = np.array(keys, np.int64)
    cache = Lru(budget)
    hits = sum(cache.access(key, sizes[key]) for key in keys)
    curve = lru_curve(numbers, np.array(sizes)[numbers])
    ours = round(curve.hit_ratio(budget) * len(keys))
    assert ours == hits if all(sizes[key] <= budget for key in keys) else ours <= hits


def test_frequent_keys_stay_under_lfu_and_layers_do_not_push_each_other_out():
    assert replay("lfu", 2, [(0, 1), (0, 1), (0, 2), (0, 3), (0, 1)])[-1]
    flood = [(0, 0), *((1, expert) for expert in range(20)), (0, 0)]
    assert not replay("lru", 4, flood)[-1]
    assert replay("layer_lru", 4, flood)[-1]


def test_belady_evicts_all_that_has_to_leave_or_nothing():
    cache = Belady(4)
    coming = [("late", 2), ("soon", 2), ("large", 4), ("soon", 2), ("large", 4), ("late", 2)]
    cache.prepare(coming)
    assert [cache.access(key, n_bytes) for key, n_bytes in coming] == [False, False, False, True, False, True]


@pytest.mark.parametrize("name", NAMES)
@given(
    keys=references,
    sizes=st.lists(st.integers(1, 5), min_size=6, max_size=6),
    capacity=st.integers(0, 16),
    is_told=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_policy_holds_more_bytes_than_it_may_whatever_the_sizes(name, keys, sizes, capacity, is_told):
    policy = registry.get("cache_policies", name)(capacity)
    if is_told and isinstance(policy, Prepared):
        policy.prepare((key, sizes[key[1]]) for key in keys)
    for key in keys:
        held = key in policy
        assert policy.access(key, sizes[key[1]]) is held
        assert sum(sizes[k[1]] for k in set(keys) if k in policy) <= capacity


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SEES_AHEAD])
@given(
    history=st.lists(st.integers(0, 5), max_size=40),
    sizes=st.lists(st.integers(1, 4), min_size=6, max_size=6),
    capacity=st.integers(0, 14),
    is_told=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_two_scans_that_hit_alike_are_followed_by_a_third_whatever_came_before(name, history, sizes, capacity, is_told):
    policy = registry.get("cache_policies", name)(capacity)
    scan = [((key % 2, key), size) for key, size in enumerate(sizes)]
    if is_told and isinstance(policy, Prepared):
        policy.prepare(scan)
    for number in history:
        policy.access(*scan[number])
    scans = [[policy.access(*reference) for reference in scan] for _ in range(80)]
    first = next(i for i in range(len(scans)) if scans[i] == scans[i + 1])
    assert all(later == scans[first] for later in scans[first:])


def test_layers_that_were_not_announced_share_the_budget():
    cache = LayerLru(4)
    keys = [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert [cache.access(key, 1) for key in keys * 2] == [False] * 4 + [True] * 4


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    stack_distance._compiled.cache_clear()
    yield
    stack_distance._compiled.cache_clear()


@pytest.mark.parametrize("n", [0, 1, 2, 17, 128, 129, 150, 257, 1000, 5000])
@pytest.mark.parametrize("most_bytes", [1, 7, 2**33])
@pytest.mark.parametrize("short", [2, 5, stack_distance.SHORT])
def test_numpy_counts_what_the_tree_counts(n, most_bytes, short, without_numba, monkeypatch):
    monkeypatch.setattr(stack_distance, "SHORT", short)
    rng = np.random.default_rng(n)
    keys = rng.integers(0, max(1, n // 8), n)
    sizes = rng.integers(1, most_bytes, max(1, n // 8), endpoint=True)[keys]
    by_tree = np.empty(n, np.int64)
    stack_distance._walk(stack_distance._previous(keys), sizes, np.zeros(n + 1, np.int64), by_tree)
    assert stack_distance._compiled() is None
    assert np.array_equal(distances(keys, sizes), by_tree)
