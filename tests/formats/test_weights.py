"""Reading bytes of weights: any slice, from many threads, in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from simio.errors import UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.records.model import Model

Build = Callable[..., bytes]
N_BYTES = 100_000


@pytest.fixture
def weights_bytes() -> bytes:
    return os.urandom(N_BYTES)


@pytest.fixture
def model(tmp_path: Path, safetensors_bytes: Build, weights_bytes: bytes) -> Model:
    path = tmp_path / "m.safetensors"
    arrays = {"first": ("U8", [64]), "model.layers.0.mlp.up_proj.weight": ("U8", [N_BYTES], weights_bytes)}
    path.write_bytes(safetensors_bytes(arrays))
    return open_model(path)


def test_a_slice_of_a_stream_is_read_where_it_lies(model: Model, weights_bytes: bytes) -> None:
    stream = model.tensors[1].streams[0]
    with WeightsReader(model) as weights:
        assert weights.read(stream, 12_345, 678) == weights_bytes[12_345 : 12_345 + 678]


def test_reading_stops_where_the_stream_ends(model: Model, weights_bytes: bytes) -> None:
    stream = model.tensors[1].streams[0]
    with WeightsReader(model) as weights:
        assert weights.read(stream, N_BYTES - 10, 4096) == weights_bytes[-10:]
        assert weights.read(stream, N_BYTES, 4096) == b""
        assert weights.read(stream, N_BYTES + 5, 4096) == b""


def test_threads_share_one_reader(model: Model, weights_bytes: bytes) -> None:
    stream = model.tensors[1].streams[0]
    with WeightsReader(model) as weights, ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: weights.read(stream, start, 100), range(0, N_BYTES, 100)))
    assert b"".join(parts) == weights_bytes


def test_a_closed_reader_refuses(model: Model) -> None:
    weights = WeightsReader(model)
    weights.read(model.tensors[0].streams[0], 0, 1)
    weights.close()
    weights.close()
    with pytest.raises(UsageError, match="closed"):
        weights.read(model.tensors[0].streams[0], 0, 1)


_OPEN_AND_READ = """
import resource, sys
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = open_model(sys.argv[1])
stream = model.tensors[0].streams[0]
with WeightsReader(model) as weights:
    for start in range(0, stream.n_bytes, 2**26):
        weights.read(stream, start, 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_huge_file_costs_little_memory(tmp_path: Path) -> None:
    n_bytes = 5 * 10**9  # a sparse file: holes take no disk
    header = b'{"model.embed_tokens.weight":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (n_bytes, n_bytes)
    path = tmp_path / "huge.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + n_bytes)
    run = subprocess.run([sys.executable, "-c", _OPEN_AND_READ, path], capture_output=True, text=True, check=True)
    assert int(run.stdout) * 1024 < 60e6
