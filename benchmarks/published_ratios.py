"""Every published compression ratio beside simio's: from the layout and a Gaussian, and from real weights.

    python benchmarks/published_ratios.py ../shared [--markdown reports/compressibility.md]

Each row of ``facts/published_ratios.csv`` is met by a rule that says how the same thing is measured here, or why it is
not. ``Gauss`` quantizes a million independent normal weights, without a look at any model; ``real`` quantizes the
matrices of ``examples/real_weights.py``. A row counts where the layout is a group format and the measured thing the
same (codes, streams or a whole file of that layout).
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from simio import codecs, quant
from simio.codecs.chunk import compress_chunk
from simio.codecs.entropy import symbol_entropy
from simio.paths import write_whole
from simio.quant.contract import Quantizer
from simio.report.validation_markdown import section
from simio.units import MIB

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from real_weights import Weights, all_weights

#: Counted: formats whose scales are shared by a group of weights of one row.
GROUP_FORMATS = re.compile(r"^(q\d|nvfp4|mxfp4|nf4|int\d:group)")

#: What Q4_K_M files are made of, by weights: Q6_K for half of the value and down projections and the head (llama.cpp,
#: ``llama_tensor_get_type``), 4.85 bits a weight on a Llama.
Q4_K_M = (("q4_k", 0.83), ("q6_k", 0.17))

EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows that hold all of ``words`` are ``layout`` measured as ``how``; ``why`` it may differ, or is not measured.

    ``how``: ``codes`` (bits stored ÷ entropy of the codes), ``streams`` (the same over all streams), ``exponent``
    (entropy of the exponents, the rest as it is), or a codec, ``!`` behind it for all streams interleaved as in the
    file.
    """

    words: tuple[str, ...]
    layout: str = ""
    how: str = ""
    why: str = ""


def no(*words: str, why: str) -> Rule:
    """A rule for rows that are not measured here."""
    return Rule(words, why=why)


SPLIT = "byteplane(zstd:1)"
RULES = (
    no("activations", why="activations, not weights"),
    no("gradients", why="training state"),
    no("optimizer state", why="training state"),
    no("z4ai", why="synthetic deltas"),
    no("Mao et al. 2024", why="second-hand, granularity and codec unknown"),
    no("DC-W8A8", why="ratio of a pruned model; only an abstract"),
    no("NeuZip (lossy)", why="lossy"),
    no("(clean)", why="FP32 rounded by its publisher: a property of the file"),
    no("XLM-R", why="FP32 rounded by its publisher: a property of the file"),
    no("CLIP", why="FP32 rounded by its publisher: a property of the file"),
    no("README image table", "T5", why="FP32 rounded by its publisher: a property of the file"),
    no("GPT-2", "FP32", why="the file holds attention masks of zeros and ones beside its weights"),
    no("Tulu", why="FP16 made from BF16: five mantissa bits are zero"),
    no("Bitcomp", why="no such codec on a CPU"),
    no("HANS", why="no such codec on a CPU"),
    no("ENEC (Ascend NPU),(arXiv id not confirmed),Table II", ",ENEC,", why="fixed-length code of a NPU"),
    no("TCA-TBE", why="fixed-length code of a GPU kernel"),
    no("LLM Weight Codec", why="granularity unknown"),
    no("Approaching Shannon", why="a span over formats"),
    no("UCCL-Zip", why="tensors in flight, not said which"),
    no("FP8 models", why="models trained in FP8 with block scales; ours is one scale a tensor"),
    no("ECF8", why="a span over models"),
    no("Google Play", why="an app with its code and assets"),
    no("flash-moe", why="LZ4 finds matches: the file holds more than codes"),
    no("synthetic Laplace", why="its tensors' sizes are not stated: the crest factor depends on them"),
    no("whole checkpoint", why="16-bit tensors of unknown share inside"),
    no("ENEC", "ZipNN", "FP16", why="Mistral in FP16 from BF16: see the row of native FP16"),
    no("Mistral FP16", why="Mistral in FP16 from BF16, in part"),
    no("stable-video", why="native FP16 of a diffusion model; nearest of ours is Tiny-LLM's one layer"),
    Rule(("INT4 symmetric", "per-channel"), "int4:channel", "codes", "rows of 4096 and more weights"),
    Rule(("ecq", "INT4 absmax"), "int4:tensor", "codes", "one scale a tensor: rests on its few largest weights"),
    Rule(("EntroLLM",), "int8:tensor", "codes", "one scale a tensor: rests on its few largest weights"),
    Rule(("GPTQ INT4 (qweight only)",), "int4:group128", "codes", "rounded to nearest, not by GPTQ"),
    Rule(("Q4_0 (qs only)",), "q4_0", "codes"),
    Rule(("Q4_K (qs only)",), "q4_k", "codes"),
    Rule(("Q4_K tensors", "ceiling"), "q4_k", "streams"),
    Rule(("Q4_K tensors", "best tensor"), "q4_k", "fields(zstd:19)"),
    Rule(("Q4_K_M GGUF", "zstd-3 whole"), "q4_k_m", "zstd:3!"),
    Rule(("Q4_K_M GGUF", "zstd-19 whole"), "q4_k_m", "zstd:19!"),
    Rule(("Q4_K_M GGUF", "zstd-3 per stream"), "q4_k_m", "fields(zstd:3)"),
    Rule(("Q4_K_M GGUF", "zstd-19 per stream"), "q4_k_m", "fields(zstd:19)"),
    Rule(("Q4_K_M GGUF", "byte-grouped"), "q4_k_m", "fields(zstd:19)"),
    Rule(("same", "Q6_K"), "q6_k", "zstd:3!"),
    Rule(("zip test", "Q8_0"), "q8_0", "deflate!"),
    Rule(("zip test", "Q4_K_M"), "q4_k_m", "deflate!"),
    Rule(("NVFP4",), "nvfp4", "streams", "about 5 %, second-hand"),
    Rule(("full-value ANS (oracle)", "BF16"), "bf16", "codes"),
    Rule(("ceiling from plane", "BF16"), "bf16", "planes"),
    Rule(("theoretical", "BF16"), "bf16", "exponent"),
    Rule(("OpenZL", "BF16"), "bf16", "codes"),
    Rule(("BF16", "bf16_split"), "bf16", "exponent"),
    Rule(("BF16", "exponent extraction + zstd"), "bf16", "exponent zstd"),
    Rule(("BF16", "byte grouping"), "bf16", SPLIT),
    Rule(("FP32", "byte grouping"), "f32", SPLIT),
    Rule(("BF16", "GDeflate"), "bf16", "deflate!"),
    Rule(("FP32", "GDeflate"), "f32", "deflate!"),
    Rule(("BF16", "nvCOMP zstd"), "bf16", "zstd:3!"),
    Rule(("FP32", "nvCOMP zstd"), "f32", "zstd:3!"),
    Rule(("BF16", ",16,zstd,"), "bf16", "zstd:3!"),
    Rule(("FP32", ",32,zstd,"), "f32", "zstd:3!"),
    Rule(("BF16", "on exponent"), "bf16", "exponent", "theirs holds tables, gaps between blocks and unsplit tensors"),
    Rule(("BF16", "sub-fields"), "bf16", "exponent", "an upper figure (\"up to\")"),
    Rule(("BF16", "DietGPU float"), "bf16", "exponent"),
    Rule(("FP32", "DietGPU float"), "f32", "exponent"),
    Rule(("BF16", "ZipNN"), "bf16", "exponent"),
    Rule(("FP32", "ZipNN"), "f32", "exponent"),
    Rule(("BF16", "ANS"), "bf16", "bytes", "order-0 bound of the bytes; a GPU's small blocks lose some"),
    Rule(("FP32", "ANS"), "f32", "bytes", "order-0 bound of the bytes; a GPU's small blocks lose some"),
)  # fmt: skip


def rule_of(row: dict[str, str]) -> Rule:
    """The first rule whose words are all in ``row``."""
    text = ",".join(row.values())
    return next(rule for rule in RULES if all(word in text for word in rule.words))


# --- measuring ----------------------------------------------------------------------------------------------------


@cache
def gaussian(n_out: int = 1024, n_in: int = 4096) -> np.ndarray:
    """Independent normal weights, σ = 0.02."""
    return (0.02 * np.random.default_rng(0).standard_normal((n_out, n_in))).astype(np.float32)


def ratio(layout: str, how: str, matrices: Callable[[str], list[np.ndarray]]) -> float | None:
    """Bits stored ÷ bits left, pooled over matrices (of a file: over its types); None without matrices."""
    total = left = 0.0
    for name, share in Q4_K_M if layout == "q4_k_m" else ((layout, 1.0),):
        quantizer = quant.parse(name)
        found = [bits(quantizer, how, w) for w in matrices(name)]
        if not found:
            return None
        n = sum(w.size for w in matrices(name))
        total += share * sum(f[0] for f in found) / n
        left += share * sum(f[1] for f in found) / n
    return total / left


def bits(quantizer: Quantizer, how: str, w: np.ndarray) -> tuple[float, float]:
    """Bits of ``w`` as stored, and as left over by ``how``."""
    streams = quantizer.quantize(w)
    raw = 8.0 * sum(stream.nbytes for stream in streams.values())
    if how in ("codes", "streams"):
        symbols = quantizer.symbols(streams, w.shape)
        wanted = {"codes": symbols["codes"]} if how == "codes" else symbols
        left = sum(symbol_entropy(s) * s.size for s in wanted.values())
        width = raw if how == "streams" else w.size * float(round(np.log2(int(symbols["codes"].max()) + 1) + EPS))
        return width, left
    if how in ("exponent", "exponent zstd", "planes"):
        return raw, exponent_bits(w, quantizer.name, how)
    left = 0.0
    for stream in streams.values():
        data = stream.tobytes()
        left += 8.0 * stored_bytes(how, data, quantizer.name)
    return raw, left


def exponent_bits(w: np.ndarray, layout: str, how: str) -> float:
    """Bits of exponents as their entropy (or under zstd), signs and mantissas as they are (``planes``: entropy too)."""
    words, mantissa = (w.view(np.uint32) >> 16, 7) if layout == "bf16" else (w.view(np.uint32), 23)
    exponents = ((words >> mantissa) & 255).astype(np.uint8)
    rest = (words >> (mantissa + 1) & ~np.uint32((1 << mantissa) - 1)) | (words & np.uint32((1 << mantissa) - 1))
    if how == "exponent zstd":
        return 8.0 * stored_bytes("zstd:3", exponents.tobytes(), "u8") + (mantissa + 1) * w.size
    of_rest = symbol_entropy(rest.astype(np.uint32)) if how == "planes" else mantissa + 1
    return (symbol_entropy(exponents) + of_rest) * w.size


def stored_bytes(how: str, data: bytes, layout: str) -> int:
    """``data`` in chunks of a MiB under ``how``: deflate, bytes (order-0 entropy) or a codec of simio."""
    chunks = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    name = how.rstrip("!")
    if name == "deflate":
        return sum(min(len(c), len(zlib.compress(c, 6))) for c in chunks)
    if name == "bytes":
        return sum(round(symbol_entropy(np.frombuffer(c, np.uint8)) * len(c) / 8) for c in chunks)
    codec = codecs.parse(name).for_layout(layout.upper())
    return sum(len(compress_chunk(codec, c)) for c in chunks)


def real(items: list[Weights]) -> Callable[[str], list[np.ndarray]]:
    """The real matrices for a layout: those whose stored precision it is, rows in whole super-blocks."""
    exact = {"bf16": ("BF16",), "f32": ("F32",)}

    def of(layout: str) -> list[np.ndarray]:
        kept = [i for i in items if i.role in ("attention", "mlp") and i.exact != "TQ"]
        kept = [i for i in kept if i.exact in exact.get(layout, ("F32", "BF16", "F16"))]
        return [whole_rows(i.w) if layout.endswith("_k") else i.w for i in kept if fits(layout, i.w)]

    return of


def whole_rows(w: np.ndarray) -> np.ndarray:
    """Rows joined and cut anew in super-blocks where they are not whole ones (384, 192)."""
    flat = np.ascontiguousarray(w).reshape(-1)
    return w if w.shape[1] % 256 == 0 else flat[: flat.size // 256 * 256].reshape(-1, 256)


def fits(layout: str, w: np.ndarray) -> bool:
    """Whether rows divide into groups; one layer of 192 wide rows stands for no model of INT4 per tensor."""
    group = re.search(r"group(\d+)", layout)
    return w.shape[1] % (int(group[1]) if group else 32) == 0


# --- the table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A published row beside ours."""

    row: dict[str, str]
    rule: Rule
    low: float
    high: float
    gauss: float | None
    real: float | None

    @property
    def counts(self) -> bool:
        """A single published number of a group format."""
        name = "q4_k" if self.rule.layout == "q4_k_m" else self.rule.layout
        return self.low == self.high and bool(GROUP_FORMATS.match(name))


def error(ours: float | None, line: Line) -> float | None:
    """Ours ÷ published − 1; 0 inside a published span."""
    if ours is None or not line.low:
        return None
    return ours / line.high - 1 if ours > line.high else min(0.0, ours / line.low - 1)


def lines(shared: Path) -> Iterator[Line]:
    """Every published row, measured."""
    items = list(all_weights([shared / "models"]))
    matrices = real(items)

    def of_gauss(layout: str) -> list[np.ndarray]:
        return [gaussian()]

    measured: dict[tuple[str, str], tuple[float | None, float | None]] = {}
    with (shared / "facts" / "published_ratios.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rule = rule_of(row)
            span = [float(x) for x in re.findall(r"\d+\.?\d*", row["ratio_original_over_compressed"])]
            key = (rule.layout, rule.how)
            if rule.layout and key not in measured:
                measured[key] = ratio(*key, of_gauss), ratio(*key, matrices)
            gauss, on_real = measured.get(key, (None, None))
            yield Line(row, rule, min(span), max(span), gauss, on_real)


def table(found: list[Line]) -> str:
    """Markdown: what counts, what is measured and does not count, what is not measured and why."""
    out = ["## Published ratios beside ours", ""]
    for name, pick in (("Gaussian rule", lambda line: line.gauss), ("real weights", lambda line: line.real)):
        errors = [abs(e) for line in found if line.counts and (e := error(pick(line), line)) is not None]
        if errors:
            median, worst = statistics.median(errors), max(errors)
            out.append(f"- Group formats, {name}: {len(errors)} rows, median error {median:.1%}, worst {worst:.1%}")
    out += [
        "",
        "| source | what | codec | published | as | Gauss | real | differs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in found:
        row, rule = line.row, line.rule
        what = f"{row['model']}, {row['quantizer']}"
        head = f"| {row['source']} | {what} | {row['codec']} | {row['ratio_original_over_compressed']} "
        if not rule.layout:
            out.append(head + f"| – | – | – | {rule.why} |")
            continue
        best = error(line.real if line.real is not None else line.gauss, line)
        numbers = " | ".join("–" if x is None else f"{x:.3f}" for x in (line.gauss, line.real))
        mark = "**" if line.counts else ""
        why = f"; {rule.why}" if rule.why and best is not None and abs(best) > 0.02 else ""
        differs = "–" if best is None else f"{best:+.1%}{why}"
        out.append(head + f"| {mark}{rule.layout} {rule.how}{mark} | {numbers} | {differs} |")
    return "\n".join(out) + "\n"


def main() -> None:
    """Measure and print, or write the section of a page."""
    parser = argparse.ArgumentParser(description="Published compression ratios beside simio's.")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    text = table(list(lines(arguments.shared)))
    print(text)
    if arguments.markdown:
        page = arguments.markdown.read_text(encoding="utf-8") if arguments.markdown.is_file() else ""
        write_whole(arguments.markdown, section(page, "published ratios", text, "# Compressibility"))


if __name__ == "__main__":
    main()
