"""How far quantized weights compress: every line with its target, from one command.

``python benchmarks/compressibility_question.py ../shared [--markdown reports/compressibility.md]``, about five minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from acceptance import HEAD, Line
from published_ratios import error, lines

from simio import quant
from simio.codecs.entropy import symbol_entropy
from simio.paths import write_whole
from simio.report.validation_markdown import section

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from real_weights import Weights, all_weights

TITLE = "What was wanted and what was reached"

#: facts/compression.md §5.2: entropy of the codes of 4096 × 4096 samples [bits]: normal, Laplace, Student t5, t3.
SYNTHETIC = {
    "int8:tensor": (6.62, 5.37, 3.92, 0.70), "int8:channel": (7.12, 6.30, 6.01, 5.00),
    "int8:group128": (7.53, 7.01, 7.07, 6.65), "int8:group32": (7.69, 7.33, 7.44, 7.22),
    "int4:tensor": (2.47, 1.34, 0.21, 0.00), "int4:channel": (2.96, 2.18, 1.91, 1.03),
    "int4:group128": (3.38, 2.88, 2.94, 2.54), "int4:group32": (3.62, 3.28, 3.39, 3.17),
    "int4:group128:affine": (3.63, 3.40, 3.51, 3.57), "int4:group64:affine": (3.75, 3.59, 3.67, 3.71),
    "int4:group32:affine": (3.87, 3.77, 3.82, 3.84), "q4_0": (3.77, 3.43, 3.54, 3.32),
    "nf4": (3.88, 3.59, 3.67, 3.42), "fp4:group16": (3.90, 3.82, 3.87, 3.81),
    "int3:group128:affine": (2.56, 2.35, 2.45, 2.50), "int2:group128:affine": (1.48, 1.35, 1.38, 1.41),
    "int2:group64:affine": (1.60, 1.49, 1.53, 1.54), "int2:group32:affine": (1.73, 1.65, 1.69, 1.70),
    "ternary:absmean": (1.583, 1.574, 1.585, 1.578), "bf16": (10.46, 10.78, 10.61, 10.71),
}  # fmt: skip


def samples() -> Iterator[np.ndarray]:
    """The samples behind the table: one generator, seed 0, one distribution after the other; σ made 0.02."""
    rng, shape = np.random.default_rng(0), (4096, 4096)
    for draw in (
        lambda: rng.standard_normal(shape),
        lambda: rng.laplace(size=shape),
        lambda: rng.standard_t(5, shape),
        lambda: rng.standard_t(3, shape),
    ):
        x = draw()
        yield (x * (0.02 / x.std())).astype(np.float32)


def synthetic() -> Iterator[Line]:
    """Entropies of codes of independent weights."""
    worst, where = 0.0, ""
    for name, w in zip(("normal", "Laplace", "t5", "t3"), samples(), strict=True):
        for layout, row in SYNTHETIC.items():
            wanted = row[("normal", "Laplace", "t5", "t3").index(name)]
            off = abs(code_entropy(layout, w) - wanted)
            if off > worst:
                worst, where = off, f"{layout}, {name}"
    what = f"entropy of {4 * len(SYNTHETIC)} layouts × distributions, largest difference [bits]"
    yield Line(what, "0.03", f"{worst:.3f} ({where})", worst <= 0.03)


def code_entropy(layout: str, w: np.ndarray) -> float:
    """Order-0 entropy of the codes of ``w``. [bits a weight]"""
    quantizer = quant.parse(layout)
    return symbol_entropy(quantizer.symbols(quantizer.quantize(w), w.shape)["codes"])


def published(shared: Path) -> Iterator[Line]:
    """Published ratios of group formats."""
    found = [line for line in lines(shared) if line.counts]
    for name, ours in (("the layout and a Gaussian", "gauss"), ("real weights", "real")):
        off = [abs(e) for line in found if (e := error(getattr(line, ours), line)) is not None]
        median = statistics.median(off)
        said = f"{median:.1%} ({len(off)} rows, worst {max(off):.1%})"
        yield Line(f"published ratios of group formats, from {name}", "median 2 %", said, median <= 0.02)


def real(shared: Path) -> Iterator[Line]:
    """Real trained matrices: scales, crest factors and what a Gaussian stand-in makes of them."""
    by_model: dict[str, list[Weights]] = defaultdict(list)
    for item in all_weights([shared / "models"]):
        if item.role in ("attention", "mlp", "embedding") and item.exact != "TQ" and item.w.shape[1] % 32 == 0:
            by_model[item.source.split(",")[0].split(" (")[0]].append(item)
    grains = ("int8:tensor", "int8:channel", "int8:group32")
    entropies = {m: {g: [code_entropy(g, i.w) for i in items] for g in grains} for m, items in by_model.items()}
    for model in (m for m in by_model if "GPT" in m):
        ratio = 8 / statistics.fmean(entropies[model]["int8:tensor"])
        yield Line(f"{model}: INT8 with one scale a tensor compresses", "1.35", f"{ratio:.3f}", ratio >= 1.35)
    most, model = max((8 / min(of["int8:group32"]), m) for m, of in entropies.items())
    yield Line("INT8 in groups of 32, best compressed matrix", "at most 1.06", f"{most:.3f} ({model})", most <= 1.06)
    unordered = [m for m, of in entropies.items() if not _rises([statistics.fmean(of[g]) for g in grains])]
    said = f"{len(entropies) - len(unordered)} of {len(entropies)} models"
    yield Line("ratio of tensor > channel > group", "every model", said, not unordered)
    yield from crest(by_model, entropies)
    yield from stand_in(by_model, entropies)


def crest(by_model: dict[str, list[Weights]], entropies: dict[str, dict[str, list[float]]]) -> Iterator[Line]:
    """``2.047 + log2(127 σ / max|w|)`` against the entropy of INT8 with one scale a tensor."""
    off = [
        (abs(2.047 + np.log2(127 * i.w.std() / np.abs(i.w).max()) - h), m)
        for m, items in by_model.items()
        for i, h in zip(items, entropies[m]["int8:tensor"], strict=True)
    ]
    mean, outliers = statistics.fmean(o for o, _ in off), sorted((o for o in off if o[0] > 0.3), reverse=True)
    said = f"mean {mean:.3f}, {len(outliers)} of {len(off)} matrices above 0.3"
    said += f": {', '.join(f'{m} {o:.2f}' for o, m in outliers[:6])}" if outliers else ""
    yield Line(
        "entropy of INT8 per tensor from the crest factor [bits]", "mean 0.1, outliers listed", said, mean <= 0.1
    )


def stand_in(by_model: dict[str, list[Weights]], entropies: dict[str, dict[str, list[float]]]) -> Iterator[Line]:
    """Independent normal weights of the same shape in place of each matrix."""
    rng = np.random.default_rng(0)
    for grain, wanted in (
        ("int8:tensor", "5–47 %"),
        ("int8:channel", "within 3.5 %"),
        ("int8:group32", "within 3.5 %"),
    ):
        off = []
        for model, items in by_model.items():
            real_bits = statistics.fmean(entropies[model][grain])
            drawn = statistics.fmean(
                code_entropy(grain, rng.standard_normal(i.w.shape).astype(np.float32)) for i in items
            )
            off.append((drawn / real_bits - 1, model))
        said = ", ".join(f"{model} {o:+.1%}" for o, model in off)
        is_met = all((0.05 <= o <= 0.47) if grain == "int8:tensor" else abs(o) <= 0.035 for o, _ in off)
        yield Line(f"entropy of a Gaussian stand-in, {grain}", wanted, said, is_met)


def _rises(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def main() -> None:
    """Print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    print(*HEAD, sep="\n")
    found: list[Line] = []
    for part in (real(options.shared), published(options.shared), synthetic()):
        for line in part:
            print(line, flush=True)
            found.append(line)
    if options.markdown:
        page = options.markdown.read_text(encoding="utf-8") if options.markdown.is_file() else ""
        text = "\n".join([f"## {TITLE}", "", *HEAD, *map(str, found), ""])
        write_whole(options.markdown, section(page, TITLE, text, "# Compressibility"))


if __name__ == "__main__":
    main()
