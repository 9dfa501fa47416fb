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
from phone_effects import EFFECTS, QWEN
from repeats import floors, repeated, spread, tail_floor

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
    yield tail_floor([run for run in runs if run.kind == "expert_stream"], 0.2)
    yield Line("shipped device file, all runs: median, 90th percentile, covered", "–", _of_rows(result.rows), True)
    yield from floors(runs)
    fitter = Fitter(runs, DEVICE)
    equal = {run.run_id for group in repeated(runs) for run in group}
    for by, most in (("session", 0.08), ("model", 0.15)):
        found = fitter.cross_validate(by)
        yield from _held_out(found, most)
        errors = [abs(row.predicted_ms / row.measured_ms - 1) for row in found.rows if row.run_id in equal]
        yield Line(
            f"… of the {len(errors)} runs with equal settings: median, 90th percentile", "–", spread(errors), True
        )


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
    for effect in EFFECTS:
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
What misses or nearly does, and what was tried.

- *How sure the medians are.* While this was settled some ten settings of equal standing (four optima of the drawing of
  routing, 1.6 to 2 µs a page, waking serially or not) gave 7.4 to 8.3 % with a session left out, 7.7 to 9.6 % with a
  model, and covered 68 to 86 % of models left out. What is shipped was chosen without the medians: the drawing of
  routing by the routing traces (their 95th percentiles instead of their spread, once that of tokens had come out at
  20.1 %), the page by the engine's clocks against lanes played read by read. That it lies below 8 % and not
  just above is no evidence. The interval of a fit got its rank from split conformal prediction after a fit to the 14
  runs of Gemma alone had covered 68 %.
- *The floor.* Runs with equal settings differ by 22 % in the median: no predictor of settings gets closer to those 13
  than the first of the three lines, and knowing the median of equal runs, the one asked about included, gives the
  second. Temperature and free RAM at the start, which are inputs, too, do not tell slow repeats from fast ones.
- *The 95th percentile, run by run*: out of reach for all of them, since equal settings do not give it to 20 % (line
  above) and a mean that is off by 25 %, as a tenth may be, takes it along; but 33 of 36 are not ruled out. It is off
  where threads starve (below: layer-LFU −51 and −31 %, overlapped runs of 2026-07-12 −46 and −41 %, qwen_auto_ov −32 %,
  qwen_k8 −21 %), where the mean is off (guessing runs −22 to −25 and +40 %), and where memory is short: gemma_auto_ov
  −60 %, gemma_kdef −34, qwen_k6 −23, sidecar a1, a2, b1 +38 to +62 (predicted 582 faults a token, counted 6 to 241).
- *The worst rows* (each left out with its session): gemma_sg_ov +54 % (equal settings made 624 ms in an earlier
  build, which read 611 MiB a token and not 366: here the guess read nothing); sidecar a1 +56 %, a2 +21 %, b2 −6 %
  (equal settings, 171 to 284 ms, 35 to 604 page faults a token; b is a contiguous layout that has no column; this text
  misses 18 % where 21 % are drawn); gemma_sg −24 %; gemma_auto_ov −18 % (two first tokens of 18.6 s together);
  qwen_auto_ov and qwen_k6 −21 %; overlapped runs of Qwen of 2026-07-12 −20 %, serial ones of that day with a cache
  −6 to −17 %. Clean runs with overlap are within 6 %.
- *Memory pressure, kept.* A system swaps before RAM is full: `memory.swap_onset` and `memory.swap_share`. Their form is
  from counted page faults; of three settings that give about as many, the one with least error here was taken (1400 MiB
  and 0.17, 1100 and 0.3 gave 8.2 and 10.8 % with a session left out, 32 and 24 % at the 90th percentile), so the lines
  above are no test of it. gemma_kdef went from −40 to +6 %, qwen_k6 from −27 to −17 %.
- *No read hides page faults, kept.* Tokens with many have 0.8 to 1.5 times the usual stalls. 17.2 → 16.9 % at the 95th
  percentile, the means as before.
- *Page faults in bursts, not kept.* The five runs with 100 or more faults a token after the first 16 have half of them
  in 2 % of the tokens (qwen_k6: 270,000 within 12 tokens, 14 s). Dealt out so (a stretched exponential fitted to those
  counters, one burst for every 120 tokens, at most what a token hits), the 95th percentile erred by 14.9 % in the
  median and 21 of 36 runs were within 20 % (now 20): gemma_auto_ov −60 → −23 %, gemma_kdef −34 → +1, b2 → +3, but those
  with less pressure than predicted +62, +38 and +40 → +100, +70 and +74. Variants gave 13.0 to 14.9 %, 21 to 23 runs.
  Alike for all tokens it was 14.9 % and 21 runs, too. With bursts the median token does not feel an over-committed
  cache, so `simio optimize` for the median chose 5.7 GB of cache in 6 GB of RAM, at two fifths of the tokens/s.
- *Sessions, kept.* A fit gives each session an error of its own. With all else as it was when tried, sessions left out
  had 8.8 % with it and 9.3 % without. (Figures of trials, here and below, are against the state they were tried on.)
- *Thread starvation.* In overlapped runs compute of a token now and then takes three times as long (Qwen +195, Gemma
  +275 ms) with three of four threads spinning: in 26 % of the tokens of 2026-07-12 (1.5 times a token without a cache),
  in none of the next two sessions, in 4 to 14 % later. No input tells; `cpu.handover` is its average, too little for
  the one and too much for the other.
- *The build of the engine* is not an input. Compute is 102 to 120 ms a token for Qwen and 165 for Gemma on 2026-07-12,
  85 to 107 and 131 to 139 from the next session on, whatever the cache. All serial runs are of that day, so what waking
  threads once a layer costs is not told apart from it. Only the layout of the token files tells them
  apart.
- *Layer-LFU, kept.* 93 and 99 % of its page faults are in the first 16 tokens: the prompt overflows the layers' shares
  (`simio/plan/expert_store.py`). Before, idle pages were swapped for ever: 421 ms predicted, 249 and 280 measured.
- *Waiting as the engine's source has it, kept*: what the lanes hold together arrives together, threads wait expert by
  expert, lanes copy into pages that are touched for the first time, guesses are read from the last router on. Waits
  (`PATIENCE`) are counted so that compute with and without a cache asks for the same, which was tried after other ways.
- *Bursts, kept.* A missing expert is two or three reads at once: each burst had been charged what a lone read waits,
  48 times a token for Qwen. Taking that away alone leaves 8.9 and 10.7 %: the fit moves other numbers.
  Two lanes that fill pages are then too fast unless their time is counted (R7). In ms, with x MiB read for a token,
  stalls are 8 + 0.29 x for Qwen (measured 15 + 0.22 x) and 19 + 0.32 x for Gemma (28 + 0.29 x).
- *Routing, kept.* Prompts are drawn more varied than answers and every 32 tokens swing alike. Without drift medians
  were 7.9 and 8.3 %, but LFU hit 5.3 points more than LRU (the phone 2.0), so LFU became part of what is fitted.
- *Earlier, not kept*: free RAM at the start alone as the cause of pressure, a soft-L1 loss, two ways to count waits,
  three of drawing routing.
- *What would move it*: page faults or pressure stall figures as an input, and the engine's version.
- *Overlap without a cache* has the sign and not the size.
- *A mapped mixture, kept.* A mapped Gemma ran at 0.36 tokens/s, a mapped Qwen of 18.5 GB at 2, both with tokens of 0.2
  and of 6 s. No share of the page cache gives both: 0.41 of what is available is nearest, 0.49 and 1.58 (half gave 1.6
  and 1.75, all of it about 4 for both). Chosen on these two runs, so no evidence for them."""
_REGENERATE = "Regenerate: `python benchmarks/phone_question.py ../shared --markdown reports/accuracy.md`"

if __name__ == "__main__":
    main()
