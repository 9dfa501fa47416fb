"""Measure simio/models/statistics.json: how far each weight layout compresses, by role, on real trained weights.

    python examples/measure_statistics.py [FOLDER ...] [--out FILE]

Reads the weights that ``real_weights.py`` knows, in every FOLDER. Every matrix is quantized to every layout and
compressed in chunks with every codec; a chunk that does not shrink counts as raw. Takes two minutes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from real_weights import Weights, all_weights

from simio import codecs, quant
from simio.codecs.chunk import compress_chunk
from simio.codecs.entropy import streams_entropy
from simio.profiling.host import cpu_name
from simio.records.weight_types import weight_type
from simio.units import MIB

#: dtype → quantizer. GPTQ checkpoints are mostly symmetric, AWQ ones have zero points.
LAYOUTS = {
    "F32": "f32", "F16": "f16", "BF16": "bf16", "F8_E4M3": "f8_e4m3", "F8_E5M2": "f8_e5m2",
    "Q8_0": "q8_0", "Q6_K": "q6_k", "Q5_K": "q5_k", "Q4_K": "q4_k", "Q3_K": "q3_k", "Q2_K": "q2_k",
    "Q5_1": "q5_1", "Q5_0": "q5_0", "Q4_1": "q4_1", "Q4_0": "q4_0", "IQ4_NL": "iq4_nl", "IQ4_XS": "iq4_xs",
    "MXFP4": "mxfp4", "TQ1_0": "tq1_0", "TQ2_0": "tq2_0",
    "INT8": "int8:channel", "GPTQ8": "int8:group128:zero", "GPTQ4": "int4:group128",
    "AWQ4": "int4:group128:zero",
}  # fmt: skip

CODECS = ("lz4:1", "zstd:1", "zstd:3", "brotli:5")
FILTERS = ("byteplane", "fields")
FILTERED = ("lz4:1", "zstd:1")

CHUNK_BYTES = MIB
ROW_WEIGHTS = 256
#: Layouts whose groups are longer than 32 weights: rows that are not whole groups are joined and cut anew.
LONG_GROUPS = ("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_XS", "TQ1_0", "TQ2_0", "GPTQ8", "GPTQ4", "AWQ4")

#: Read, not measured: layouts that simio does not quantize to.
CODEBOOKS = {
    "ratio": 1.008,
    "entropy": 7.936,
    "source": "IQ2_XXS codes 99.2 % (survey figure, primary source not found)",
}
PUBLISHED = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), CODEBOOKS),
    "NVFP4": {
        "ratio": 1.053,
        "entropy": 7.6,
        "source": "DeepSeek-R1, about 5 % overall (second-hand, after arXiv:2508.19263)",
    },
}


@dataclass(slots=True)
class Row:
    """What accumulates for one layout, role and codec."""

    raw_bytes: int = 0
    stored_bytes: int = 0
    ratios: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Cell:
    """What accumulates for one layout and role."""

    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    entropy_bytes: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    raw_bytes: int = 0
    n_units: int = 0
    sources: set[str] = field(default_factory=set)


# --- quantize and compress ------------------------------------------------------------------------------------------


def applies(dtype: str, item: Weights) -> bool:
    """Whether values of ``item`` as ``dtype`` are what a model of that type holds (padded FP16 is not FP32)."""
    if "TQ" in (dtype[:2], item.exact):
        return dtype.startswith(item.exact)
    if item.role == "norm":
        return dtype == "F32" and item.exact == "F32"
    return not (dtype in ("F32", "F16", "BF16") and item.exact not in ("F32", dtype))


def codec_names(dtype: str) -> dict[str, str]:
    """The codecs measured on ``dtype`` → the name of the filter at work (``""`` for none)."""
    found = dict.fromkeys(CODECS, "")
    for name in FILTERS:
        for inner in FILTERED:
            if codecs.parse(f"{name}({inner})").for_layout(dtype).name.startswith(name):
                found[f"{name}({inner})"] = name
    return found


def chunks_of(item: Weights, dtype: str) -> list[memoryview]:
    """``item`` as bytes of ``dtype``, stream by stream, cut into chunks of whole quant blocks."""
    block = weight_type(dtype).block_bytes
    quantizer = quant.parse(LAYOUTS[dtype])
    chunks = []
    for stream in quantizer.quantize(whole_rows(item.w, dtype)).values():
        data, step = memoryview(stream.view(np.uint8).data).cast("B"), CHUNK_BYTES // block * block
        chunks += [data[start : start + step] for start in range(0, len(data), step)]
    return chunks


def whole_rows(w: np.ndarray, dtype: str) -> np.ndarray:
    """``w``, or its rows joined in fewer, longer ones where they are not whole super-blocks (384 → 768)."""
    if dtype not in LONG_GROUPS or w.shape[1] % ROW_WEIGHTS == 0:
        return w
    flat = w.reshape(-1)
    return flat[: flat.size // ROW_WEIGHTS * ROW_WEIGHTS].reshape(-1, ROW_WEIGHTS)


def measure(item: Weights, dtype: str, cell: Cell) -> None:
    """Add ``item`` as ``dtype`` to ``cell``."""
    chunks = chunks_of(item, dtype)
    raw = sum(len(chunk) for chunk in chunks)
    cell.raw_bytes, cell.n_units = cell.raw_bytes + raw, cell.n_units + 1
    cell.sources.add(item.source)
    for name in dict.fromkeys(["", *codec_names(dtype).values()]):
        codec = codecs.parse(f"{name}(zstd:1)" if name else "zstd:1").for_layout(dtype)
        cell.entropy_bytes[name] += sum(streams_entropy(codec.streams(chunk)) * len(chunk) for chunk in chunks)
    for name in codec_names(dtype):
        codec = codecs.parse(name).for_layout(dtype)
        stored, row = sum(len(compress_chunk(codec, chunk)) for chunk in chunks), cell.rows[name]
        row.raw_bytes, row.stored_bytes = row.raw_bytes + raw, row.stored_bytes + stored
        row.ratios.append(raw / stored)


def decompress_rates(items: list[Weights], dtype: str) -> dict[str, float]:
    """Bytes of output per second and thread of each codec: median of five warm passes over about 8 MiB."""
    chunks: list[memoryview] = []
    for item in items:
        chunks += chunks_of(item, dtype)
        if sum(map(len, chunks)) > 8 * MIB:
            break
    return {name: decompress_rate(name, dtype, chunks) for name in codec_names(dtype)}


def decompress_rate(name: str, dtype: str, chunks: list[memoryview]) -> float:
    """See :func:`decompress_rates`; chunks that would be stored raw are left out, 0 when that is all of them."""
    codec = codecs.parse(name).for_layout(dtype)
    pairs = [(codec.compress(chunk), len(chunk)) for chunk in chunks]
    pairs = [(stored, n) for stored, n in pairs if len(stored) < n]
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        for stored, n in pairs:
            codec.decompress(stored, n)
        seconds.append(time.perf_counter() - start)
    return sum(n for _, n in pairs) / float(np.median(seconds[1:])) if pairs else 0.0


# --- the file ---------------------------------------------------------------------------------------------------------


def cell_json(cell: Cell, sources: list[str]) -> dict[str, object]:
    """``codecs`` maps a codec to [ratio, 10th percentile, 90th percentile], ``entropy`` a filter to bits per byte."""
    table = {}
    for name, row in cell.rows.items():
        pooled = row.raw_bytes / row.stored_bytes
        low, high = np.percentile([*row.ratios, pooled], [10, 90])
        table[name] = [round(float(r), 4) for r in (pooled, min(low, pooled), max(high, pooled))]
    return {
        "n": cell.n_units,
        "bytes": cell.raw_bytes,
        "weights": sorted(sources.index(source) for source in cell.sources),
        "entropy": {name: round(bits / cell.raw_bytes, 4) for name, bits in cell.entropy_bytes.items()},
        "codecs": table,
    }


def measured(items: list[Weights]) -> tuple[dict[str, dict[str, object]], list[str]]:
    """The table of every layout, and the names of the weights it points to."""
    sources = sorted({item.source for item in items})
    table: dict[str, dict[str, object]] = {}
    for dtype, quantizer in LAYOUTS.items():
        start, fitting = time.perf_counter(), [item for item in items if applies(dtype, item)]
        cells: dict[str, Cell] = defaultdict(Cell)
        for item in fitting:
            measure(item, dtype, cells[item.role])
            if item.role != "norm":
                measure(item, dtype, cells["any"])
        matrices = [item for item in fitting if item.role == "mlp"]
        table[dtype] = {
            "quantizer": quantizer,
            "roles": {role: cell_json(cell, sources) for role, cell in sorted(cells.items())},
            "decompress_bytes_per_s": {
                name: round(rate, -6) for name, rate in decompress_rates(matrices, dtype).items()
            },
        }
        row = cells["any"].rows["zstd:1"]
        print(
            f"{dtype:8} {row.raw_bytes / row.stored_bytes:6.3f} (zstd:1)  {time.perf_counter() - start:5.1f} s",
            flush=True,
        )
    return table, sources


def main() -> None:
    """Read, measure, write."""
    parser = argparse.ArgumentParser(description="Measure simio/models/statistics.json on real weights.")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "simio" / "models" / "statistics.json")
    arguments = parser.parse_args()
    items = list(all_weights(arguments.folders))
    if not items:
        raise SystemExit("no weights found: nothing was written")
    print(f"{len(items)} tensors, {sum(item.w.size for item in items) / 1e6:.1f} M weights")
    table, sources = measured(items)
    document = {
        "version": 1,
        "date": datetime.date.today().isoformat(),
        "host": cpu_name(),
        "libraries": sorted({codecs.parse(name).library_version for name in CODECS}),
        "chunk_bytes": CHUNK_BYTES,
        "weights": sources,
        "layouts": table,
        "published": PUBLISHED,
    }
    arguments.out.write_text(compact_json(document))
    print(f"wrote {arguments.out} ({arguments.out.stat().st_size} bytes)")


def compact_json(document: dict[str, object]) -> str:
    """JSON with one line for each role of a layout, so that a change reads well."""
    text = json.dumps(document, indent=1)
    # Below the depth of "layouts" → dtype → "roles" → role, join the lines that json.dumps broke.
    return re.sub(r"\n {5,}| \n {4}(?=[}\]])", " ", text) + "\n"


if __name__ == "__main__":
    main()
