"""The device numbers against published decode rates of models that fit in RAM, on CPUs (run with ``-s`` to see them).

t = Σ_layers max(bytes / bandwidth, Σ_type bytes / (rate · threads · slowest core used)) + layers · overhead: work
is split evenly and all threads wait for the slowest, so on an i9-13900K sixteen threads are slower than eight.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from simio import catalog
from simio.errors import UnknownNameError
from simio.models import preset, resolve_name
from simio.records.device import Device
from simio.records.model import Model, Tensor
from simio.records.weight_types import weight_type

RUNS = Path(__file__).parents[3] / "shared" / "measured" / "runs.csv"
QUANTS = {"W2 / Q2_K": "q2_k", "W4 / Q4_0": "q4_0", "q8": "int8", "INT4": "q4_0", "8bit": "int8", "4bit": "int4"}

pytestmark = pytest.mark.skipif(not RUNS.is_file(), reason="the published runs lie beside the project in ../shared")


def decode_s(device: Device, model: Model, n_threads: int) -> float:
    """Time of one token with all weights in RAM. [s]"""
    speeds = [cluster.relative_speed.value for cluster in device.cpu.clusters for _ in range(cluster.n_cores)]
    n_threads = min(n_threads, len(speeds))
    speed = n_threads * speeds[n_threads - 1]
    layers: dict[int | None, list[tuple[float, str]]] = defaultdict(list)
    for tensor in model.tensors:
        layers[tensor.layer].append((bytes_per_token(tensor, model), weight_type(tensor.dtype).gemv_class))
    time_s = model.architecture.n_layers * device.cpu.layer_overhead.value
    for parts in layers.values():
        traffic = sum(n_bytes for n_bytes, _ in parts) / device.memory.read_bandwidth.value
        time_s += max(traffic, sum(n_bytes / (device.cpu.gemv[kernel].value * speed) for n_bytes, kernel in parts))
    return time_s


def bytes_per_token(tensor: Tensor, model: Model) -> float:
    """Stored bytes one token reads: a row of an embedding unless it is the head too, only the routed experts."""
    facts = model.architecture
    if tensor.role == "embedding" and not (facts.tied_embeddings and tensor.name == "token_embd.weight"):
        return 0.0
    return tensor.n_bytes * (facts.n_experts_used / facts.n_experts if tensor.role == "expert" else 1.0)


def comparable_runs() -> list[tuple[str, float]]:
    """(device id, predicted / measured) of every CPU run whose device, model and quantization are known here."""
    found = []
    for row in csv.DictReader(RUNS.open(encoding="utf-8")):
        known = row["kind"] == "in_ram" and row["backend"].startswith("CPU") and row["backend"] != "CPU+NPU"
        if not (known and row["decode_tps"]) or row["engine"].startswith("T-MAC"):
            continue
        try:
            device = catalog.load(row["device"])
            model = preset(f"{resolve_name(row['model'])[0]}:{quant_of(row['quant'])}")
        except UnknownNameError:
            continue
        n_threads = int(row["threads"] or device.cpu.default_threads)
        found.append((device.id, decode_s(device, model, n_threads) * float(row["decode_tps"])))
    return found


def quant_of(text: str) -> str:
    if text in QUANTS:
        return QUANTS[text]
    if text.startswith("Q4 (ollama"):
        return "q4_k_m"
    return "int4" if "4-bit" in text else (text.split() or ["?"])[0].lower()


def test_published_decode_rates_are_met_by_the_device_files() -> None:
    by_device: dict[str, list[float]] = defaultdict(list)
    for device_id, ratio in comparable_runs():
        by_device[device_id].append(ratio)
    errors = [abs(ratio - 1) for ratios in by_device.values() for ratio in ratios]
    for device_id, ratios in sorted(by_device.items()):
        median = statistics.median(ratios)
        worst = max(abs(ratio - 1) for ratio in ratios)
        print(f"{device_id:26} n={len(ratios):3}  predicted/measured {median:5.2f}  worst error {worst:4.0%}")
    print(f"all {len(errors)} runs: median error {statistics.median(errors):.1%}")
    assert len(errors) > 100
    assert statistics.median(errors) < 0.35
