"""``simio validate``: predictions beside measurements."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simio.cli.output import check_output, print_json, progress
from simio.errors import UsageError
from simio.paths import data_dir, write_whole

if TYPE_CHECKING:
    from simio.records.measurement import Measurement
    from simio.records.validation import Group, Summary, Validation
    from simio.report.validation_markdown import About

RELATION = (
    "fitted – the device has numbers fitted to published runs, maybe to this one; cited – its file takes numbers from "
    "where this run was published; apart – neither"
)
#: Exit code of ``--fail-above``: the command worked and the errors are too large.
TOO_FAR_OFF = 1


def validate(
    runs: Annotated[
        list[Path] | None, typer.Option(help="Measured runs: published table, llama-bench, CSV, trace.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device file or id for every run.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="NAME=MODEL", help="What a model's name means.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only runs of this kind: in_ram, flash_bound …")] = None,
    host: Annotated[Path | None, typer.Option(help="Device file of this machine: measure it against a --grid.")] = None,
    grid: Annotated[
        str | None, typer.Option(help="Runs to make with --host: standard (about 120) or quick [standard].")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where a grid keeps its models [the cache].")] = None,
    save_runs: Annotated[
        Path | None, typer.Option(help="Write the runs for --runs: FILE.csv the simple CSV, else JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables as Markdown.")] = None,
    fail_above: Annotated[
        float | None, typer.Option(help="Exit 1 if the median absolute error is above this share, e.g. 0.15.")
    ] = None,
) -> None:
    """Predict measured runs from their inputs alone, and compare.

    Without --runs and --host, the measured runs that simio comes with are taken. --runs, --model and --kind may be
    given several times. With --host, a grid of real runs is predicted and then made.

    Example: simio validate --runs runs.csv --report out.html
    """
    if runs and host:
        raise UsageError("both --runs and --host", "give one of them")
    _refuse_idle(
        {"--device": device, "--model": model, "--kind": kind} if host else {"--grid": grid, "--folder": folder},
        "--host" if host else "--runs",
    )
    if fail_above is not None and not fail_above >= 0:
        raise UsageError(f"--fail-above {fail_above}", "write a share, for example 0.15")
    check_output(None if report is None else str(report), needs="plotly")
    check_output(None if markdown is None else str(markdown))
    check_output(None if save_runs is None else str(save_runs))
    if host is not None:
        result, about = _on_host(host, grid or "standard", folder, save_runs, markdown)
    else:
        result, about = _of_files(runs or [], device, model, kind, save_runs, markdown)
    _write_pages(result, report, markdown, about)
    if as_json:
        print_json(result.to_json())
    else:
        print(describe(result))
    _judge(result.summary, fail_above)


def _refuse_idle(options: dict[str, object], beside: str) -> None:
    """Refuse what would be ignored in silence."""
    for option, value in options.items():
        if value:
            raise UsageError(f"{option} means nothing beside {beside}", "leave it out")


def _renaming(text: str) -> tuple[str, str]:
    name, equals, meant = text.rpartition("=")
    if not (name and equals and meant):
        raise UsageError(f"--model '{text}'", "write for example --model s300:Q8_0=path/to/model.gguf")
    return name, meant


def of_kind(runs: list[Measurement], kinds: list[str] | None) -> list[Measurement]:
    """The runs of these kinds, all where none is named. Raises ``UsageError`` for a kind that no run has."""
    present = sorted({run.kind for run in runs if run.kind})
    for kind in kinds or []:
        if kind not in present:
            raise UsageError(f"--kind {kind}: no such runs", f"kinds here: {', '.join(present) or 'none'}")
    return [run for run in runs if not kinds or run.kind in kinds]


def _shipped() -> list[Path]:
    """The tables of measured runs that come with simio."""
    found = sorted(data_dir("traces").rglob("runs.csv"))
    if not found:
        raise UsageError("neither --runs nor --host, and no traces are installed", "for example --runs runs.csv")
    return found


def _of_files(
    given: list[Path],
    device: str | None,
    model: list[str] | None,
    kinds: list[str] | None,
    save_runs: Path | None,
    markdown: Path | None,
) -> tuple[Validation, About]:
    """Runs that were measured before."""
    from simio.importers import read_all
    from simio.report.validation_markdown import about_published
    from simio.validate import validate as run
    from simio.validate.compare import catalogued

    files = given or _shipped()
    renamed = dict(_renaming(text) for text in model or [])
    chosen = of_kind(read_all(files), kinds)
    with progress("predicting", in_bytes=False) as reporter:
        result = run(chosen, device, renamed, reporter)
    if save_runs is not None:
        write_whole(save_runs, _runs_text(save_runs, catalogued(chosen, device, renamed)))
    words = [*(f"--runs {path}" for path in given), *(f"--kind {kind}" for kind in kinds or [])]
    names = ["/".join(path.absolute().parts[-2:]) for path in files]
    return result, about_published(names, " ".join(["simio validate", *words, f"--markdown {markdown}"]))


def _runs_text(path: Path, runs: list[Measurement]) -> str:
    from simio.importers import simio_run, simple_csv

    return simple_csv.to_text(runs) if path.suffix == ".csv" else simio_run.to_text(runs)


def _on_host(
    host: Path, name: str, folder: Path | None, save_runs: Path | None, markdown: Path | None
) -> tuple[Validation, About]:
    """Runs that are predicted and then made here."""
    from simio import catalog
    from simio.paths import cache_dir
    from simio.profiling.host import cpu_name
    from simio.report.validation_markdown import about_grid
    from simio.validate import validate as run
    from simio.validate.compare import scenario_of
    from simio.validate.grid import answers, cases, containers, grid_named, measure

    chosen = grid_named(name)
    catalog.load(str(host))
    with progress("making models", in_bytes=False) as reporter:
        models = containers(chosen, folder or cache_dir() / "grid", reporter)
    with progress("predicting", in_bytes=False) as reporter:
        planned = cases(chosen, models, str(host), reporter)
    measured: list[Measurement] = []
    with progress("measuring", in_bytes=False) as reporter:
        for one in measure(planned, reporter):
            measured.append(one)
            if save_runs is not None:
                write_whole(save_runs, _runs_text(save_runs, measured))
    foretold = answers(planned)
    if any(scenario_of(one.known, str(host), one.model) not in foretold for one in measured):
        raise RuntimeError("a run asks another question than was answered before it")
    result = run(measured, answered=foretold)
    command = f"simio validate --host {host.name} --grid {name} --markdown {markdown}"
    is_enforced = all(one.counters.get("is_enforced") for one in measured)
    return result, about_grid(cpu_name(), host.name, name, [100 * s for s in chosen.ram_shares], is_enforced, command)


def _write_pages(result: Validation, report: Path | None, markdown: Path | None, about: About) -> None:
    if report is None and markdown is None:
        return
    from simio.report import validation_markdown, validation_page
    from simio.validate import parts

    if report is not None:
        write_whole(report, validation_page.render(result, parts(result), about.title))
    if markdown is not None:
        page = markdown.read_text(encoding="utf-8") if markdown.is_file() else ""
        text = validation_markdown.render(result, parts(result), about)
        write_whole(markdown, validation_markdown.section(page, about.title, text))


def _judge(summary: Summary, fail_above: float | None) -> None:
    """Exit with ``TOO_FAR_OFF`` where the errors are above the limit, or nothing could be compared."""
    if fail_above is None:
        return
    error = summary.median_abs_error
    if error is not None and error <= fail_above:
        return
    said = "no run could be compared" if error is None else f"the median absolute error is {error:.1%}"
    typer.echo(f"simio: {said}, --fail-above {fail_above}", err=True)
    raise typer.Exit(TOO_FAR_OFF)


def describe(result: Validation) -> str:
    """The summary, a line a device, and what was left out."""
    s = result.summary
    lines = [f"{s.n} runs compared, {len(result.skipped)} skipped"]
    if s.n:
        lines += ["", *_figures(s)]
        if (found := _bytes_line(result)) is not None:
            lines.append(found)
        for what in ("kind", "relation", "device"):
            lines += ["", *_by(what, getattr(result, f"by_{what}"))]
        lines += ["", f"relation: {RELATION}"]
    if result.skipped:
        reasons = Counter(skipped.reason for skipped in result.skipped)
        lines += ["", "skipped:", *(f"  {count:4}  {reason}" for reason, count in reasons.most_common())]
    return "\n".join(lines)


def _figures(s: Summary) -> list[str]:
    load_errors = f"median {_share(s.median_abs_load_error)}   worst {_share(s.max_abs_load_error)}"
    loading = [f"  error of load time  {load_errors}   {s.n_loads} runs"]
    return [
        f"  error of ms/token   median {_share(s.median_abs_error)}   mean {_share(s.mean_abs_error)}   "
        f"90th percentile {_share(s.p90_abs_error)}   worst {_share(s.max_abs_error)}",
        f"  80 % interval       covers {_share(s.coverage)} of the runs",
        f"  noise floor         {_share(s.noise_floor)}, the median difference of two runs that repeat each other",
        f"  baseline            {_share(s.baseline_median_abs_error)} median, C + bytes/bandwidth fitted on the others",
        f"  peers               {_share(s.peer_median_abs_error)} median, bytes of a token / bandwidth of the RAM",
        *(loading if s.n_loads else []),
        *_beside_the_mean(s),
    ]


def _beside_the_mean(s: Summary) -> list[str]:
    """The slow tokens and the cache, where runs measured them."""
    lines = []
    if s.n_p95:
        lines.append(
            f"  error of 95th perc. median {_share(s.median_abs_p95_error)} of token latencies   {s.n_p95} runs"
        )
    if s.max_abs_hit_error is not None:
        lines.append(f"  hit ratio           worst {100 * s.max_abs_hit_error:.1f} points   {s.n_hits} runs")
    return lines


def _bytes_line(result: Validation) -> str | None:
    """How far the bytes per token are off, where they were measured."""
    errors = [abs(row.bytes_error) for row in result.rows if row.bytes_error is not None]
    if not errors:
        return None
    exact, s = sum(error < 1e-9 for error in errors), result.summary
    far = f"median {_share(s.median_abs_bytes_error)}, worst {_share(s.max_abs_bytes_error)}"
    return f"  bytes per token     exact in {exact} of {len(errors)} runs, {far}"


def _by(what: str, groups: tuple[Group, ...]) -> list[str]:
    head = f"  {what:26} {'runs':>5} {'leans':>7} {'median':>7} {'worst':>7} {'covered':>8}  relation"
    rows = [
        f"  {g.name or '-':26} {g.summary.n:5} {_signed(g.summary.median_error):>7} "
        f"{_share(g.summary.median_abs_error):>7} {_share(g.summary.max_abs_error):>7} {_share(g.summary.coverage):>8}"
        f"  {g.relation}"
        for g in groups
    ]
    return [head, *rows]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0%}"
