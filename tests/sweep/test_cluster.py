"""Dask: the rows of the pool, whatever happens to workers."""

import threading
import time

import pytest

from simio.cluster import _in_order, workers
from simio.errors import UsageError
from simio.sweep.run import sweep
from simio.sweep.study import study_of

distributed = pytest.importorskip("distributed")
pq = pytest.importorskip("pyarrow.parquet")


def rows(path):
    return [row for part in sorted(path.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_a_killed_worker_changes_nothing(tmp_path):
    vary = {"ram": "0.1GB:0.5GB:0.0004GB", "prefetch": "0:9:1"}
    plan = study_of({"scenario": {"device": "pixel8", "model": "smollm2-360m:q8_0"}, "vary": vary, "check": 1}, "test")
    assert plan.n >= 10_000
    sweep(plan, tmp_path / "pool", jobs=2)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        killed = threading.Event()

        def kill_one(done, total):
            if done >= total // 4 and not killed.is_set():
                killed.set()
                next(iter(cluster.workers.values())).process.process.kill()

        sweep(plan, tmp_path / "dask", scheduler=cluster.scheduler_address, progress=kill_one)
        assert killed.is_set()
    assert rows(tmp_path / "dask") == rows(tmp_path / "pool")


def test_a_wrong_address_is_one_clear_error_within_ten_seconds():
    begun = time.monotonic()
    with pytest.raises(UsageError, match="no Dask scheduler answers at"), workers("tcp://127.0.0.1:1", 1, int):
        pass
    assert time.monotonic() - begun < 60  # far more than it may take: only that it ends


def test_items_are_taken_as_results_go():
    class Now:
        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

        def cancel(self):
            return True

    taken = []

    def items():
        for k in range(10):
            taken.append(k)
            yield k

    results = _in_order(Now, items(), 3)
    assert next(results) == 0
    assert len(taken) == 3
    assert list(results) == list(range(1, 10))
