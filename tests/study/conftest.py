"""A small model in a file, and measurements that take no time."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import save_file
from small_weights import tensors


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file(tensors(), path)
    return path


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are measured briefly: these tests are about sizes."""
    monkeypatch.setattr("simio.study.rates.DURATION_S", 0.001)
    monkeypatch.setattr("simio.profiling.measure._MIN_ROUND_S", 0.0005)
