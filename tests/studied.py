"""A small decoder and the study that somebody might have made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tiny import MB, device

from simio.records.device import Device
from simio.records.model import Architecture, KvLayer, Model, Tensor
from simio.records.scenario import Scenario
from simio.study.candidates import Setting
from simio.study.choice_table import table
from simio.study.choices import ChoiceTable
from simio.study.study_file import StudyFile, records_of


@dataclass(frozen=True)
class Layout:
    """A quantizer as a study sees it: bits per weight, ratio under zstd, and its error in relation to the others."""

    name: str
    bits: float
    ratio: float
    error: float


LAYOUTS = (
    Layout("int8:tensor", 8.0, 1.5, 4e-4),
    Layout("int8:group32", 8.5, 1.02, 5e-5),
    Layout("int4:tensor", 4.0, 2.2, 0.2),
    Layout("int4:group32", 4.5, 1.05, 8e-3),
)


def decoder(n_layers: int = 3, scale: int = 1, head: int = 4) -> Model:
    """``n_layers`` of an attention matrix, a twice as large MLP and a norm, and a head; stored as F16."""
    tensors = []
    for layer in range(n_layers):
        tensors.append(_matrix(f"blk.{layer}.attn_q.weight", "attention", layer, 500 * scale))
        tensors.append(_matrix(f"blk.{layer}.ffn_up.weight", "mlp", layer, 1000 * scale))
        tensors.append(Tensor(f"blk.{layer}.attn_norm.weight", (1000,), "F32", "norm", layer, None, 1, 1000, 4000))
    if head:
        tensors.append(_matrix("output.weight", "head", None, 500 * head * scale))
    facts = Architecture("llama", n_layers, 1000, 1, 1, 1000, 1000, 1000, kv_layers=(KvLayer(2000),) * n_layers)
    return Model("made up", "file", "gguf", "0", sum(t.n_bytes for t in tensors), facts, tuple(tensors))


def _matrix(name: str, role: str, layer: int | None, n_rows: int) -> Tensor:
    n = 1000 * n_rows
    return Tensor(name, (n_rows, 1000), "F16", role, layer, None, 1, n, 2 * n)


def study(
    of: Model, codecs: tuple[str, ...] = ("raw", "zstd:1"), kl: bool = False, layouts: tuple[Layout, ...] = LAYOUTS
) -> dict[str, Any]:
    """The document of a compressibility study: the head is twice as sensitive as the rest, and compresses worse."""
    rows = []
    for layout in layouts:
        for codec in codecs:
            tensors = []
            for t in (t for t in of.tensors if len(t.shape) > 1):
                raw = round(layout.bits / 8 * t.n_weights)
                ratio = 1.0 if codec == "raw" else 1 + (layout.ratio - 1) * (0.5 if t.role == "head" else 1.0)
                tensors.append({
                    "tensor": t.name, "role": t.role, "layer": t.layer, "n_weights": t.n_weights, "raw_bytes": raw,
                    "stored_bytes": round(raw / ratio), "compressed_share": 0.0 if codec == "raw" else 1.0,
                    "weight_mse": layout.error * (2.0 if t.role == "head" else 1.0), "output_error": None,
                })  # fmt: skip
            rate = None if codec == "raw" else 1.3
            divergence = 10 * layout.error if kl and codec == "raw" else None
            rows.append({
                "quant": layout.name, "codec": codec, "relative_rate": rate, "kl": divergence, "tensors": tensors,
            })  # fmt: skip
    return {"model": of.name, "rows": rows}


def choices(of: Model, measure: str = "weight_error", **options: Any) -> ChoiceTable:
    """The choices that :func:`study` offers."""
    return table(of, read(study(of, kl=measure == "kl", **options)), measure)


def read(document: dict[str, Any]) -> StudyFile:
    """The study as if it had been read from a file."""
    return StudyFile(tuple(records_of(document)), document.get("model"), document.get("digest"))


def setting(ram: int, cost: float, on: Device | None = None, grain: str = "tensor", **options: Any) -> Setting:
    """A short run on a slow disk."""
    run = Scenario(device="tiny", model="made up", prompt_tokens=1, n_tokens=9, draws=0, ram_bytes=ram, **options)
    return Setting(on or slow_disk(), run, cost, grain)


def slow_disk(bandwidth: float = 2e8, decompress: float = 4e8) -> Device:
    """Reading is slower than everything else."""
    made = device(bandwidth=bandwidth, latency_s=1e-5, decompress=decompress, usable=64 * MB)
    gemv = {"int8": 1e10, "int4": 1e10, "f16": 1e10, "f32": 1e10}
    rates = {kernel: replace(made.cpu.gemv["int8"], value=rate) for kernel, rate in gemv.items()}
    return replace(made, cpu=replace(made.cpu, gemv=rates))
