"""Small models in a file, made of weights with a known distribution."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from simio.codecs import parse
from simio.codecs.base import Codec
from simio.records.model import Architecture, Model, Stream, Tensor

ARCHITECTURE = Architecture("llama", 2, 64, 4, 4, 16, 256, 1000)


def build_model(path: Path, parts: list[tuple[str, str, str, bytes]]) -> Model:
    """A model of tensors (name, role, dtype, bytes), one after the other in ``path``."""
    path.write_bytes(b"".join(data for *_, data in parts))
    tensors, offset = [], 0
    for name, role, dtype, data in parts:
        stream = Stream("data", dtype, (len(data),), 0, offset, len(data))
        tensors.append(Tensor(name, (len(data),), dtype, role, 0, None, 1, len(data), len(data), (stream,)))
        offset += len(data)
    return Model(path.stem, "file", "test", "d" * 32, offset, ARCHITECTURE, tuple(tensors), (str(path),))


def gaussian_f32(n_weights: int, seed: int = 0) -> bytes:
    return (np.random.default_rng(seed).standard_normal(n_weights) * 0.02).astype("<f4").tobytes()


def gaussian_bf16(n_weights: int, seed: int = 0) -> bytes:
    return (np.frombuffer(gaussian_f32(n_weights, seed), "<u4") >> 16).astype("<u2").tobytes()


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """1.7 MB in 30 chunks of 64 KiB: weights that compress, constants, noise, one tiny tensor."""
    return build_model(
        tmp_path / "weights.bin",
        [
            ("embedding", "embedding", "BF16", gaussian_bf16(300_000)),
            ("attention", "attention", "F32", gaussian_f32(200_001, 1)),
            ("zeros", "mlp", "F32", bytes(100_000)),
            ("noise", "mlp", "U8", np.random.default_rng(2).bytes(200_000)),
            ("norm", "norm", "F32", b"\x00\x00\x80\x3f" * 64),
        ],
    )


@dataclass(frozen=True)
class Counting(Codec):
    """Passes everything to ``inner`` and counts; ``before`` may raise."""

    inner: Codec
    calls: list[int]
    before: Callable[[int], None] = lambda n_calls: None

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def library_version(self) -> str:
        return self.inner.library_version

    def compress(self, raw):
        self.before(len(self.calls))
        self.calls.append(len(raw))
        return self.inner.compress(raw)

    def decompress(self, stored, raw_bytes):
        return self.inner.decompress(stored, raw_bytes)


@pytest.fixture
def counting() -> Counting:
    return Counting(parse("zstd:1"), [])


@pytest.fixture(autouse=True)
def _small_working_set(monkeypatch):
    """Measure rates briefly, on one chunk per type: these tests are about sizes."""
    monkeypatch.setattr("simio.profiling.profiler.WORKING_SET_BYTES", 1)
    monkeypatch.setattr("simio.profiling.measure._MIN_ROUND_S", 0.0005)
    monkeypatch.setattr("simio.profiling.measure._MAX_ROUNDS", 7)
