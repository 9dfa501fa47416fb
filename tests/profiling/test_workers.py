"""The worker threads: every item once, prompt stop on the first error."""

import threading
from contextlib import closing

import pytest

from simio.profiling.workers import for_each, in_order


@pytest.mark.parametrize("n_workers", [1, 3, 8])
def test_every_item_is_done_once(n_workers):
    done, ticks = [], []
    for_each(range(1000), lambda i: done.append(i) or 2, n_workers, ticks.append)
    assert sorted(done) == list(range(1000))
    assert ticks[-1] == 2000


def test_no_items_is_no_work():
    done = []
    for_each([], lambda i: done.append(i) or 1, 4)
    assert done == []


def test_the_first_error_stops_the_others():
    done = []

    def job(i):
        if i == 10:
            raise ValueError("ten")
        threading.Event().wait(0.001)
        done.append(i)
        return 1

    with pytest.raises(ValueError, match="ten"):
        for_each(range(100_000), job, 3)
    assert len(done) < 1000


@pytest.mark.parametrize(("n_workers", "n_in_flight"), [(1, 1), (3, 4), (8, 2)])
def test_results_come_in_order_and_few_are_in_flight(n_workers, n_in_flight):
    begun, taken = [], []

    def job(i):
        begun.append(i)
        threading.Event().wait(0.002 * (i % 3))
        return i

    for result in in_order(range(60), job, n_workers, n_in_flight):
        taken.append(result)
        assert len(begun) <= len(taken) + n_in_flight
    assert taken == list(range(60))


def test_results_closed_early_begin_nothing_more():
    begun = []
    with closing(in_order(range(1000), lambda i: begun.append(i) or i, 2, 4)) as results:
        assert next(results) == 0
    assert len(begun) <= 5


def test_an_error_comes_in_its_turn():
    results = in_order(range(10), lambda i: 6 // (3 - i), 3, 5)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
