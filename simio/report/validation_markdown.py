"""A validation as Markdown: reports/accuracy.md, with what its runs can and cannot show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simio.records.validation import Comparison, Group, Summary, Validation

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


#: What every page begins with.
HEAD = "# Accuracy"


def section(page: str, name: str, text: str, head: str = HEAD) -> str:
    """``page`` (``head`` where there is none) with the section ``name`` replaced by ``text``, or with it at the end.

    Sections lie between comments, so that each command renews its own and leaves the others.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = (page or head + "\n").partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    return before.rstrip() + f"\n\n{begin}\n\n{text.strip()}\n\n{end}" + after


@dataclass(frozen=True, slots=True)
class About:
    """What a section says of its runs. ``command`` regenerates it; ``lists_runs``: every run gets a line."""

    title: str
    text: tuple[str, ...]
    command: str
    lists_runs: bool = False


def about_published(names: Sequence[str], command: str) -> About:
    """A section on runs that others have published."""
    return About(f"Runs of {', '.join(names)}", tuple(_RELATION), command)


def about_grid(
    cpu: str, device_file: str, grid: str, ram_percent: Sequence[float], is_enforced: bool, command: str
) -> About:
    """A section on runs that were predicted and then made on one machine."""
    shares = ", ".join(f"{percent:g}" for percent in ram_percent)
    held = "held by a memory cgroup" if is_enforced else "accounted, not enforced"
    text = (
        f"Real runs of `simio run` on this machine ({cpu}), each in a process of its own, all predicted from the",
        f"device file {device_file} before the first was started. Generated weights: INT8 with one scale per tensor,",
        f"and BF16 (which LZ4 does not shrink: those runs repeat the raw ones); RAM {shares} % of the weights,",
        f"{held}. One compute thread, one decompression worker. A paced disk is easy to predict, a free one shows",
        "what is not known: read the parts, not the sum.",
    )
    return About(f"Real runs on one machine, grid {grid}", text, command, lists_runs=True)


def render(validation: Validation, parts: Mapping[str, Validation], about: About) -> str:
    """The section. ``parts``: the same by kind of run."""
    lines = [
        f"## {about.title}",
        "",
        "Decode latency (ms per token) predicted from a run's inputs alone, beside what its source measured. Error is",
        "predicted ÷ measured − 1; *leans* is its signed median. Covered: measured inside the 80 % interval. Noise",
        "floor: median difference of two runs with equal inputs. Baseline: median error of `C + bytes/bandwidth`, each",
        "run from a line through the others of its kind. Peers: median error of the bytes a token multiplies ÷ the",
        "bandwidth of the RAM, as calculators of fit and speed estimate, which know of no storage.",
        "",
        *about.text,
    ]
    if about.lists_runs:
        lines += ["", *_figures(validation.summary)]
    for kind, part in parts.items():
        lines += ["", f"### {TITLES.get(kind, kind)}", "", *_kind(part, about)]
        if about.lists_runs:
            lines += ["", *_runs(part)]
    if validation.skipped:
        lines += ["", "### Left out", "", *_skipped(validation)]
    return "\n".join([*lines, "", f"Regenerate: `{about.command}`"])


def _runs(part: Validation) -> list[str]:
    head = [
        "| run | measured ms | predicted ms | 80 % interval | error | bytes, predicted ÷ measured |",
        "|---" * 6 + "|",
    ]
    return head + [
        f"| {row.run_id} | {row.measured_ms:.4g} | {row.predicted_ms:.4g} | {row.low_ms:.4g} – {_upper(row)} | "
        f"{row.error:+.1%} | {_bytes_ratio(row)} |"
        for row in sorted(part.rows, key=lambda row: row.run_id)
    ]


def _upper(row: Comparison) -> str:
    return "∞" if row.high_ms is None else f"{row.high_ms:.4g}"


def _bytes_ratio(row: Comparison) -> str:
    measured = row.measured.get("bytes_per_token")
    return f"{row.predicted['bytes_per_token'] / measured:.4f}" if measured else "–"


def _kind(part: Validation, about: About) -> list[str]:
    tables = [_table("relation", part.by_relation), _table("device", part.by_device)]
    if about.lists_runs:
        tables = [_table("model", part.by_model)]
    return [*_figures(part.summary), *(line for rows in tables for line in ("", *rows))]


def _figures(s: Summary) -> list[str]:
    return [
        f"{s.n} runs: median error {share(s.median_abs_error)}, mean {share(s.mean_abs_error)}, 90th percentile "
        f"{share(s.p90_abs_error)}, worst {share(s.max_abs_error)}; the interval covers {share(s.coverage)}. "
        f"Noise floor {share(s.noise_floor)}, baseline {share(s.baseline_median_abs_error)}, "
        f"peers {share(s.peer_median_abs_error)}." + _loads(s)
    ]


def _loads(s: Summary) -> str:
    if not s.n_loads:
        return ""
    errors = f"median error {share(s.median_abs_load_error)}, worst {share(s.max_abs_load_error)}"
    return f" Time to load, {s.n_loads} runs: {errors}."


def _table(what: str, groups: Sequence[Group]) -> list[str]:
    head = f"| {what} | runs | leans | median | worst | covered | noise floor | baseline | peers |"
    if what == "relation":
        return [head, "|---" * 9 + "|", *(f"| {g.name} | {_cells(g.summary)} |" for g in groups)]
    rows = [f"| {g.name} | {_cells(g.summary)} | {g.relation} |" for g in groups]
    return [head + " relation |", "|---" * 10 + "|", *rows]


def _cells(s: Summary) -> str:
    leans = "–" if s.median_error is None else f"{s.median_error:+.0%}"
    errors = (s.median_abs_error, s.max_abs_error)
    shares = (*errors, s.coverage, s.noise_floor, s.baseline_median_abs_error, s.peer_median_abs_error)
    return " | ".join([str(s.n), leans, *map(share, shares)])


def _skipped(validation: Validation) -> list[str]:
    reasons = Counter(skipped.reason for skipped in validation.skipped)
    return ["| runs | why |", "|---|---|", *(f"| {n} | {reason} |" for reason, n in reasons.most_common())]


def share(value: float | None) -> str:
    """``0.0712`` → ``7.1 %``; from 1000 % on a factor, because the digits say nothing more."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if value < 10 else f"{value + 1:.0f}×"
