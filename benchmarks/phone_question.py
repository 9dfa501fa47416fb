"""How far off simio is on models larger than a phone's RAM: every line with its target, from one command.

``python benchmarks/phone_question.py ../shared [--markdown reports/accuracy.md]`` takes about ten minutes. Measured
columns are only ever compared with; what a prediction may see is what the importers put into ``known``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from acceptance import HEAD, Line
from phone_effects import EFFECTS, MISSED, QWEN

from simio.calibrate.fit_results import CrossValidation, Figures
from simio.calibrate.fitting import Fitter
from simio.importers import read, route_trace
from simio.paths import write_whole
from simio.predict.point import evaluate
from simio.predict.resolve import resolve
from simio.records.validation import Comparison
from simio.report.validation_markdown import section
from simio.units import MIB
from simio.validate import validate

TITLE = "Models larger than a phone's RAM"
#: Of the phone, in the README of its traces: LRU hit ratio at cache sizes in MiB, Qwen3-30B-A3B top-6. [%]
CURVE = {500: 0.0, 750: 0.0, 1000: 37.7, 2000: 56.4, 3000: 70.6, 4000: 80.3, 6000: 92.1}
DEVICE = "oneplus15r"


def hits(traces: Path) -> Iterator[Line]:
    """Replayed hit ratios, and the bytes that follow from known routing."""
    replayed = replace(QWEN, top_k=None, routing=str(traces / "qwen.route.csv"), prompt_tokens=28)
    ratios = {mib: 100 * _hit_ratio(replace(replayed, cache_bytes=mib * MIB)) for mib in CURVE}
    worst = max(abs(ratios[mib] - CURVE[mib]) for mib in CURVE)
    said = ", ".join(f"{mib}: {ratio:.2f}" for mib, ratio in ratios.items())
    yield Line(
        "LRU curve of the routing trace [% at MiB]", "README ± 0.1 point", f"{said}; worst {worst:.2f}", worst <= 0.1
    )
    for run in read(traces / "runs.csv"):
        known = run.known
        if "qwen" in run.model.lower() and known.get("top_k") == 6 and known.get("cache_policy") == "lru":
            ours = 100 * _hit_ratio(replace(replayed, cache_bytes=known["cache_bytes"]))
            phone = 100 * run.counters["hit_ratio"]
            what = f"hit ratio of {run.run_id}, replayed [points]"
            yield Line(what, "± 0.5", f"{ours:.2f} against {phone:.2f}", abs(ours - phone) <= 0.5)
    for name, model in (("qwen", QWEN.model), ("gemma", "gemma-4-26b-a4b:q4_k_m")):
        path = traces / f"{name}.route.csv"
        trace = route_trace.read(path)
        recorded = _recorded_bytes(path) / len(trace.decoded)
        at_4000 = replace(replayed, model=model, routing=str(path), prompt_tokens=len(trace.prompt), n_tokens=300)
        plan = evaluate(resolve(at_4000)).plan
        decode = plan.order[plan.n_setup :]
        read_bytes = sum(f.raw_bytes for p in decode for s in plan.passes[p].steps for f in s.fetches) / len(decode)
        error = read_bytes / recorded - 1
        yield Line(f"bytes per token, recorded routing of {name}", "± 2 %", f"{error:+.2%}", abs(error) <= 0.02)


def _hit_ratio(scenario) -> float:  # type: ignore[no-untyped-def]
    return evaluate(resolve(scenario)).plan.cache_hit_ratio or 0.0


def _recorded_bytes(path: Path) -> float:
    """Bytes that decoded tokens of a trace really read (residency 0)."""
    rows = (line.split(",") for line in path.open() if line[0].isdigit())
    return sum(float(row[8]) for row in rows if row[1] == "1" and row[7] == "0")


def phone(traces: Path) -> Iterator[Line]:
    """Every run of the phone, and what a fit says of those left out."""
    runs = read(traces / "runs.csv")
    result = validate(runs, DEVICE)
    streamed = [row for row in result.rows if row.kind == "expert_stream"]
    known = [row for row in streamed if (row.measured.get("hit_ratio") is None)]
    errors = [abs(row.bytes_error) for row in known if row.bytes_error is not None]
    yield Line(
        "bytes per token without a cache (any routing)", "± 2 %", f"worst {max(errors):.2%}", max(errors) <= 0.02
    )
    tails = [abs(row.p95_error) for row in streamed if row.p95_error is not None]
    yield Line(
        "95th percentile of tokens, streamed runs, median error", "≤ 20 %", f"{median(tails):.1%}", median(tails) <= 0.2
    )
    within = fmean(t <= 0.2 for t in tails)
    yield Line("… runs within 20 %", "all", f"{within:.0%}", within == 1.0)
    yield Line("shipped device file, all runs: median, 90th percentile, covered", "–", _of_rows(result.rows), True)
    fitter = Fitter(runs, DEVICE)
    for by, most in (("session", 0.08), ("model", 0.15)):
        yield from _held_out(fitter.cross_validate(by), most)


def _held_out(found: CrossValidation, most: float) -> Iterator[Line]:
    fitted, line = found.fitted, found.baseline
    what = f"ms per token, each {found.by} left out"
    yield Line(f"{what}: median error", f"≤ {most:.0%}", f"{fitted.median:.1%}", fitted.median <= most)
    yield Line(f"{what}: 90th percentile", "≤ 25 %", f"{fitted.p90:.1%}", fitted.p90 <= 0.25)
    covered = fitted.coverage or 0.0
    yield Line(f"{what}: inside the 80 % interval", "70–90 %", f"{covered:.0%}", 0.7 <= covered <= 0.9)
    gain = 1 - fitted.median / line.median
    reached = f"{fitted.median:.1%} against {_figures(line)}: {gain:.0%} better"
    yield Line(f"{what}: median against C + bytes/bandwidth", "a third better", reached, gain >= 1 / 3)


def _figures(f: Figures) -> str:
    return f"{f.median:.1%} (90th percentile {f.p90:.1%})"


def published(table: Path) -> Iterator[Line]:
    """Runs others published."""
    rows = validate(read(table)).rows
    ours = {"in_ram": (0.15, "in RAM"), "flash_bound": (0.25, "past RAM")}
    for kind, (most, name) in ours.items():
        errors = [abs(row.error) for row in rows if row.kind == kind]
        yield Line(
            f"published runs {name}, {len(errors)}: median error",
            f"≤ {most:.0%}",
            f"{median(errors):.1%}",
            median(errors) <= most,
        )
    apart = [abs(row.error) for row in rows if row.kind == "in_ram" and row.relation == "apart"]
    what = f"published runs in RAM on devices whose file takes nothing from them, {len(apart)}: median error"
    yield Line(what, "≤ 30 %", f"{median(apart):.1%}", median(apart) <= 0.3)


def effects() -> Iterator[Line]:
    """Documented effects, right in sign and size or not."""
    for effect in (*EFFECTS, *MISSED):
        ratio, points = effect.predicted()
        reached = f"{ratio:.2f}×" + (
            "" if effect.hits is None else f", hits {points:+.1f} points (phone {effect.hits:+.1f})"
        )
        target = f"{effect.measured:.2f}× ({effect.low}–{effect.high})"
        yield Line(effect.name, target, reached, effect.low <= ratio <= effect.high)


def _of_rows(rows: Sequence[Comparison]) -> str:
    errors = [abs(row.error) for row in rows]
    return f"{median(errors):.1%}, {np.quantile(errors, 0.9):.1%}, {fmean(row.is_covered for row in rows):.0%}"


def main() -> None:
    """Print, and write where asked."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("shared", type=Path)
    arguments.add_argument("--markdown", type=Path)
    options = arguments.parse_args()
    traces = options.shared / "traces" / "oneplus15r"
    print(*HEAD, sep="\n")
    lines: list[Line] = []
    for part in (hits(traces), phone(traces), published(options.shared / "measured" / "runs.csv"), effects()):
        for line in part:
            print(line, flush=True)
            lines.append(line)
    if options.markdown:
        page = options.markdown.read_text(encoding="utf-8") if options.markdown.is_file() else ""
        text = "\n".join(
            [f"## {TITLE}", "", _INTRODUCTION, "", *HEAD, *map(str, lines), "", _MISSED, "", _REGENERATE, ""]
        )
        write_whole(options.markdown, section(page, TITLE, text))


_INTRODUCTION = """\
Runs of BigMoeOnEdge on a OnePlus 15R (37 per-token runs, two routing traces; commit 2d4f2b1) and published runs. Left
out in turn: a session, or a model, with the fit of the device file repeated without it; the shape of the model was
found looking at these runs, so only the numbers are held out, not the equations."""
_MISSED = """\
What is missed, and what was tried. Runs with equal inputs differ by 22 % in the median here. *Sessions left
out, 90th percentiles*: the worst tenth are runs whose inputs do not tell them from fast ones: memory pressure
that comes and goes (gemma_auto_ov, gemma_kdef, qwen_k6: page faults in bursts of some 50 tokens), another build
of the engine (2026-07-12 against later: 251 and 196 ms at equal settings and bytes), a contiguous layout that
has no column (sidecar b), a mapped Gemma. Tried: free RAM at the start as the cause (it does not tell them
apart), swap from a second LRU (it explains LFU and caches past RAM, not the bursts), soft-L1 and Cauchy losses,
two ways to count waits, three of drawing routing. What would move it: page faults or pressure stall figures as
an input, and the engine's version. *Overlap without a cache* has the sign and not the size. *A mapped Gemma*
ran at 0.36 tokens/s as if the page cache held next to nothing, a mapped Qwen of 18.5 GB at 2. An LRU of half of
what is available gives 1.6 and 1.75 (all of it gave both about 4); Gemma's cliff, 0.49, lies at 0.41 of it."""
_REGENERATE = "Regenerate: `python benchmarks/phone_question.py ../shared --markdown reports/accuracy.md`"

if __name__ == "__main__":
    main()
