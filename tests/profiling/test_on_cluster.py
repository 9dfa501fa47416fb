"""Profiling on Dask: the sizes of the local profile, whatever happens to workers."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import simio as run

from simio.codecs import parse
from simio.errors import ModelFileError, UsageError
from simio.profiling import on_cluster, profiler
from simio.profiling.cache import ProfileCache
from simio.profiling.profiler import profile
from simio.units import KIB

distributed = pytest.importorskip("distributed")

CHUNK = 64 * KIB
CODEC = parse("byteplane(zstd:1)")


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(on_cluster, "BATCH_BYTES", CHUNK)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as found:
        yield found


def test_a_killed_worker_changes_nothing(model, cluster):
    killed = threading.Event()

    def kill_one(done, total):
        if done >= total // 4 and not killed.is_set():
            killed.set()
            next(iter(cluster.workers.values())).process.process.kill()

    address = cluster.scheduler_address
    far = profile(model, CODEC, chunk_bytes=CHUNK, scheduler=address, progress=kill_one)
    assert killed.is_set()
    here = profile(model, CODEC, chunk_bytes=CHUNK)
    assert far.tensors == here.tensors
    assert far.host == here.host
    assert far.decompress.n >= 7
    sampled = [profile(model, CODEC, chunk_bytes=CHUNK, sample=0.4, scheduler=s) for s in (address, None)]
    assert sampled[0].tensors == sampled[1].tensors
    assert sampled[0].ratio_interval == sampled[1].ratio_interval


def test_what_came_back_before_an_interrupt_is_not_compressed_again(model, cluster, tmp_path):
    def stop(done, total):
        if done >= total // 2:
            raise KeyboardInterrupt

    cache, address = ProfileCache(tmp_path / "kept"), cluster.scheduler_address
    with pytest.raises(KeyboardInterrupt):
        profile(model, CODEC, chunk_bytes=CHUNK, scheduler=address, cache=cache, progress=stop)
    kept = len(cache.journal(CODEC))
    assert kept > 0
    found = profile(model, CODEC, chunk_bytes=CHUNK, scheduler=address, cache=cache)
    assert found.tensors == profile(model, CODEC, chunk_bytes=CHUNK).tensors
    lines = [line for file in (tmp_path / "kept" / "chunks").iterdir() for line in file.read_text().split("\n") if line]
    assert len(lines) == len(cache.journal(CODEC)) > kept


def test_a_worker_that_cannot_open_the_model_says_so(model, cluster, monkeypatch):
    order = on_cluster.Order.of

    def elsewhere(model, work):
        Path(model.files[0]).unlink()
        return lost

    lost = order(model, profiler.Work(None, CODEC, (), ()))
    monkeypatch.setattr(on_cluster.Order, "of", elsewhere)
    with pytest.raises(ModelFileError, match=r"worker on .* cannot open .*weights.bin") as error:
        profile(model, CODEC, chunk_bytes=CHUNK, scheduler=cluster.scheduler_address)
    assert "same path" in error.value.hint


def test_a_worker_with_another_file_or_library_is_refused(model):
    order = on_cluster.Order.of(model, profiler.Work(None, CODEC, (), ()))
    with pytest.raises(ModelFileError, match="bytes for the worker"):
        on_cluster._keys(replace(order, file_bytes=(order.file_bytes[0] + 1,)), [])
    with pytest.raises(UsageError, match="this machine libzstd 0"):
        on_cluster._compress(replace(order, codec_library="libzstd 0"), [])


def test_an_address_where_nobody_answers_is_the_error_of_a_sweep(model):
    vary = ["--device", "pixel8", "--model", "smollm2-360m:q8_0", "--vary", "ram=0.3GB,0.4GB"]
    swept = run("sweep", *vary, "--scheduler", "tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match="no Dask scheduler answers at") as error:
        profile(model, CODEC, chunk_bytes=CHUNK, scheduler="tcp://127.0.0.1:1")
    assert error.value.message in swept.err
