"""How fast uniform integers are made: FP16 weights in, streams out, one core, against two passes in the same run.

The baseline is what no quantizer can do without: FP16 to FP32, and the absmax of the tensor. Target: 150 MB/s. The
rounds of baseline and layouts alternate, so that both meet the same neighbours on the machine.

    pytest benchmarks/test_quantize_throughput.py -s      or      python benchmarks/test_quantize_throughput.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from simio import quant

TARGET_MB_PER_S = 150
LAYOUTS = (
    *(f"int{bits}:{grain}" for bits in (8, 4) for grain in ("tensor", "channel", "group128", "group32")),
    *("int4:group128:affine", "int4:group128:zero", "int8:input", "int3:group128"),
)


def seconds(work: Callable[[np.ndarray], object], w: np.ndarray) -> float:
    """Processor seconds of one run of ``work`` on ``w``: of one core, whoever else is there."""
    start = time.process_time()
    work(w)
    return time.process_time() - start


def rates(w: np.ndarray, rounds: int = 5) -> dict[str, tuple[float, float]]:
    """Of each layout: MB/s of FP16 input, and its time over the baseline's of the same round; medians."""
    found = {}
    for name in LAYOUTS:
        quantize = quant.parse(name).quantize
        quantize(w[:64])
        pairs = [(seconds(baseline, w), seconds(quantize, w)) for _ in range(rounds)]
        rate = w.nbytes / 1e6 / statistics.median(ours for _, ours in pairs)
        found[name] = rate, statistics.median(ours / base for base, ours in pairs)
    return found


def baseline(w: np.ndarray) -> np.float32:
    """FP16 to FP32, and the absmax."""
    return np.abs(w.astype(np.float32)).max()


def show(found: dict[str, tuple[float, float]]) -> None:
    """Print the table."""
    print(f"\nquantizing, one core: MB/s of FP16 input (target {TARGET_MB_PER_S}), time / (FP16 to FP32 and absmax)")
    for name, (rate, ratio) in found.items():
        print(f"  {name:24} {rate:6.0f}   {ratio:5.2f}")


def test_quantizing_uniform_integers(capsys):
    w = (0.02 * np.random.default_rng(0).standard_normal((2048, 4096))).astype(np.float16)
    found = rates(w)
    with capsys.disabled():
        show(found)
    for name in found:  # what was timed is the whole work: weights come back
        q = quant.parse(name)
        assert np.abs(q.dequantize(q.quantize(w[:128]), (128, 4096)) - w[:128]).max() < 0.05


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "--import-mode=importlib"]))
