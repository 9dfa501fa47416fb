"""A validation as Markdown: reports/accuracy.md, with what its runs can and cannot show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from simio.records.validation import Group, Summary, Validation

TITLES = {
    "in_ram": "Models that fit in RAM",
    "flash_bound": "Models larger than the RAM they got",
    "load_time": "Runs published for their load time",
    "": "Runs",
}
_RELATION = [
    "How far a run is from being held out: **fitted** – its device file has numbers fitted to published runs, maybe to",
    "this very one; **cited** – the device file takes numbers from the page or repository where the run was published;",
    "**apart** – neither, the closest there is to held out. Kernel rates and bandwidths of most devices were inferred",
    "from published runs that fit in RAM, and the routing of experts has the locality of two traces of a OnePlus 15R:",
    "**no published run is strictly held out**.",
]


def render(validation: Validation, parts: Mapping[str, Validation], command: str) -> str:
    """The page. ``parts``: the same by kind of run; ``command`` regenerates it."""
    lines = [
        "# Accuracy",
        "",
        "Decode latency (ms per token) predicted from a run's inputs alone, beside what its source measured. Error is",
        "predicted ÷ measured − 1; *leans* is its signed median. Covered: measured inside the 80 % interval. Noise",
        "floor: median difference of two runs with equal inputs. Baseline: median error of `C + bytes/bandwidth`, each",
        "run from a line through the others of its kind.",
        "",
        *_RELATION,
    ]
    for kind, part in parts.items():
        lines += ["", f"## {TITLES.get(kind, kind)}", "", *_kind(part)]
    lines += ["", "## Left out", "", *_skipped(validation), "", f"Regenerate: `{command}`", ""]
    return "\n".join(lines)


def _kind(part: Validation) -> list[str]:
    s = part.summary
    text = (
        f"{s.n} runs: median error {share(s.median_abs_error)}, mean {share(s.mean_abs_error)}, 90th percentile "
        f"{share(s.p90_abs_error)}, worst {share(s.max_abs_error)}; the interval covers {share(s.coverage)}. "
        f"Noise floor {share(s.noise_floor)}, baseline {share(s.baseline_median_abs_error)}."
    )
    tables = [_table("relation", part.by_relation), _table("device", part.by_device)]
    return [text, *(line for rows in tables for line in ("", *rows))]


def _table(what: str, groups: Sequence[Group]) -> list[str]:
    head = f"| {what} | runs | leans | median | worst | covered | noise floor | baseline |"
    if what == "relation":
        return [head, "|---" * 8 + "|", *(f"| {g.name} | {_cells(g.summary)} |" for g in groups)]
    rows = [f"| {g.name} | {_cells(g.summary)} | {g.relation} |" for g in groups]
    return [head + " relation |", "|---" * 9 + "|", *rows]


def _cells(s: Summary) -> str:
    leans = "–" if s.median_error is None else f"{s.median_error:+.0%}"
    shares = (s.median_abs_error, s.max_abs_error, s.coverage, s.noise_floor, s.baseline_median_abs_error)
    return " | ".join([str(s.n), leans, *map(share, shares)])


def _skipped(validation: Validation) -> list[str]:
    if not validation.skipped:
        return ["Nothing."]
    reasons = Counter(skipped.reason for skipped in validation.skipped)
    return ["| runs | why |", "|---|---|", *(f"| {n} | {reason} |" for reason, n in reasons.most_common())]


def share(value: float | None) -> str:
    """``0.0712`` → ``7.1 %``; from 1000 % on a factor, because the digits say nothing more."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if value < 10 else f"{value + 1:.0f}×"
