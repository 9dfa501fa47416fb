"""Builders for devices, models and profiles with round numbers."""

from __future__ import annotations

from simio.predict.point import Point, evaluate
from simio.predict.resolve import complete
from simio.records.codec_profile import CodecProfile, TensorCompression
from simio.records.device import Cluster, Cpu, Device, Memory, Quantity, ReadPoint, Source, Storage
from simio.records.model import Architecture, KvLayer, Model, Tensor
from simio.records.scenario import Scenario

MB = 10**6


def number(value: float, unit: str, spread: float = 1.0) -> Quantity:
    """A number with bounds ``value / spread`` and ``value · spread``."""
    return Quantity(value, value / spread, value * spread, unit, "by hand", "measured")


def device(
    *, bandwidth: float = 2e9, latency_s: float = 1e-4, gemv: float = 1e10, memory: float = 1e10, usable: float = 1e9,
    read_ahead: float = 1 * MB, fault_s: float = 0.0, overhead_s: float = 0.0, decompress: float = 1e9,
    n_cores: int = 4, spread: float = 1.0,
) -> Device:  # fmt: skip
    """4 equal cores; a disk of ``bandwidth`` behind ``latency_s``: the curve holds the law's own points."""
    points = []
    for depth in (1, 8):
        for size in (4096, 1 * MB, 64 * MB):
            law = min(bandwidth, depth * size / (latency_s + size / bandwidth))
            points.append(ReadPoint("random", size, depth, number(law, "bytes_per_s", spread)))
    clusters = (Cluster("core", n_cores, number(2e9, "hz"), number(1.0, "1")),)
    cpu = Cpu(
        clusters=clusters,
        default_threads=1,
        gemv={kernel: number(gemv, "bytes_per_s", spread) for kernel in ("int8", "f16")},
        prefill={"default": number(1e12, "flop_per_s", spread)},
        decompress={"zstd": number(decompress, "bytes_per_s", spread)},
        layer_overhead=number(overhead_s, "s"),
    )
    ram = Memory(number(2 * usable, "bytes"), number(usable, "bytes"), number(memory, "bytes_per_s", spread))
    storage = Storage("disk", tuple(points), number(read_ahead, "bytes"), number(fault_s, "s"), 8)
    return Device("tiny", "Tiny", "none", storage, cpu, ram, (Source("by hand", "measured", "tests", ""),))


def model(n_layers: int = 3, layer_bytes: int = MB, kv_values: int = 0, n_experts: int = 0, top_k: int = 0) -> Model:
    """``n_layers`` matrices of int8, one per layer, no embedding and no head; or a router and experts per layer."""
    tensors = []
    for layer in range(n_layers):
        name = f"blk.{layer}.attn_q.weight"
        tensors.append(
            Tensor(name, (1000, layer_bytes // 1000), "I8", "attention", layer, None, 1, layer_bytes, layer_bytes)
        )
        if n_experts:
            size = n_experts * layer_bytes
            shape = (n_experts, 1000, layer_bytes // 1000)
            name = f"blk.{layer}.ffn_up_exps.weight"
            tensors.append(Tensor(name, shape, "I8", "expert", layer, None, n_experts, size, size))
    facts = Architecture(
        "tiny", n_layers, 0, 1, 1, 0, 0, 0, n_experts, top_k, kv_layers=(KvLayer(kv_values),) * n_layers
    )
    total = sum(t.n_bytes for t in tensors)
    return Model("tiny", "file", "gguf", "0", total, facts, tuple(tensors))


def embedding(rows: int, row_bytes: int) -> Tensor:
    """A table of which one row is read per token."""
    n = rows * row_bytes
    return Tensor("token_embd.weight", (rows, row_bytes), "I8", "embedding", None, None, 1, n, n)


def head(n_bytes: int) -> Tensor:
    """An output head."""
    return Tensor("output.weight", (1000, n_bytes // 1000), "I8", "head", None, None, 1, n_bytes, n_bytes)


def profile(of: Model, codec: str = "raw", stored: float = 1.0, chunk: int = MB) -> CodecProfile:
    """Chunks of ``chunk`` bytes, each stored in ``stored`` of its size."""
    rows = []
    for tensor in of.tensors:
        raw = [chunk] * (tensor.n_bytes // chunk) + [tensor.n_bytes % chunk] * bool(tensor.n_bytes % chunk)
        rows.append(TensorCompression(tensor.name, tuple(raw), tuple(round(r * stored) for r in raw), 8.0, "measured"))
    return CodecProfile(of, codec, chunk, "measured", tuple(rows), None, None)


def scenario(**choices: object) -> Scenario:
    """A short run: one prompt token, five generated, no interval."""
    defaults: dict[str, object] = {"device": "tiny", "model": "tiny", "prompt_tokens": 1, "n_tokens": 5, "draws": 0}
    return Scenario(**(defaults | choices))  # type: ignore[arg-type]


def run(of: CodecProfile, on: Device, **choices: object) -> Point:
    """Evaluate a scenario without the catalogue."""
    return evaluate(complete(scenario(codec=of.codec, **choices), on, of))
