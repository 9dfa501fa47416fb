"""The two lists, rule by rule, with results worked out by hand."""

from __future__ import annotations

import random

from simio.cache.two_list import TwoList


def filled(capacity: int, *units: int, **options: float) -> TwoList:
    cache = TwoList(capacity, 4096, **options)
    for unit in units:
        cache.insert(unit)
    return cache


def test_a_page_never_used_goes_before_one_that_was():
    cache = filled(2, 1, 2)
    cache.touch(1)
    cache.insert(3)
    assert 1 in cache
    assert 2 not in cache


def test_a_page_used_once_gets_one_more_round_and_then_goes():
    cache = filled(2, 1, 2)
    cache.touch(1)
    cache.insert(3)
    cache.insert(4)
    assert 1 not in cache


def test_a_page_used_again_in_its_second_round_is_activated():
    cache = filled(2, 1, 2)
    cache.touch(1)
    cache.insert(3)
    cache.touch(1)
    cache.insert(4)
    assert list(cache.active) == [1]


def test_a_page_being_read_is_not_evicted():
    cache = filled(2, 1, 2)
    cache.locked.add(1)
    cache.insert(3)
    assert 1 in cache
    assert 2 not in cache


def test_a_refault_within_the_active_list_is_activated_and_one_beyond_is_not():
    cache = filled(4, 1, 2, 3, 4)
    cache.activate(1)
    cache.activate(2)
    cache.insert(5)  # evicts 3
    cache.insert(3)  # distance 1: no more than the two active pages
    assert 3 in cache.active
    far = filled(4, 1, 2, 3, 4, 5, 6, 7)  # nothing active: every distance is too long
    far.insert(1)
    assert 1 in far.inactive


def test_active_pages_fall_back_when_the_inactive_list_is_low():
    cache = filled(4, 1, 2, 3, 4)
    for unit in (1, 2, 3):
        cache.activate(unit)
    cache.insert(5)
    assert len(cache.active) < 3


def test_stale_statistics_keep_the_active_list_as_long_as_nobody_looks():
    cache = filled(4, 1, 2, 3, 4, flush_every=1e9, flush_in=1e9)
    for unit in (1, 2, 3):
        cache.activate(unit)
    cache.insert(5)
    assert list(cache.active) == [1, 2, 3]


def test_pages_marked_accessed_twice_are_active():
    cache = filled(4, 1, 2)
    cache.mark_accessed(1)
    assert 1 in cache.inactive
    cache.mark_accessed(1)
    assert 1 in cache.active


def test_the_capacity_holds_whatever_happens():
    rng = random.Random(1)
    cache = TwoList(50, 4096, flush_every=30, flush_in=7)
    for _ in range(20_000):
        unit = rng.randrange(120) if rng.random() < 0.5 else int(rng.paretovariate(1)) % 120
        if unit not in cache:
            cache.insert(unit)
        cache.touch(unit)
        assert len(cache.inactive) + len(cache.active) <= 50
        assert not cache.inactive.keys() & cache.active.keys()
