"""The worker threads: every item once, prompt stop on the first error."""

import threading

import pytest

from simio.profiling.workers import for_each


@pytest.mark.parametrize("n_workers", [1, 3, 8])
def test_every_item_is_done_once(n_workers):
    done, ticks = [], []
    for_each(range(1000), lambda i: done.append(i) or 2, n_workers, ticks.append)
    assert sorted(done) == list(range(1000))
    assert ticks[-1] == 2000


def test_no_items_is_no_work():
    for_each([], lambda i: 1, 4)


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
