"""``simio sweep``: many scenarios in, one table out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_output, print_json, progress
from simio.errors import UsageError
from simio.paths import write_whole
from simio.units import format_bytes, format_s

if TYPE_CHECKING:
    from simio.sweep.run import Summary
    from simio.sweep.study import Study

_Text = str | None
_Count = int | None


def sweep(
    study_file: Annotated[_Text, typer.Argument(metavar="[STUDY.toml]", help="A study; see docs/sweep.md.")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUES: a list a,b,c, points low:high:step, or low:high to sample. Repeatable."),
    ] = None,
    fix: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for all scenarios, e.g. tokens=32. Repeatable.")
    ] = None,
    device: Annotated[_Text, typer.Option(help="Catalogue id, or path of a device file.")] = None,
    model: Annotated[_Text, typer.Option(help="Preset name:quant, model file or directory, or stored profile.")] = None,
    samples: Annotated[_Count, typer.Option(help="Latin hypercube of this many scenarios instead of a grid.")] = None,
    subset: Annotated[_Count, typer.Option(help="Only this many of the scenarios, at random.")] = None,
    engine: Annotated[_Text, typer.Option(help="recurrence [default], or sim: SimPy plays every scenario.")] = None,
    draws: Annotated[_Count, typer.Option(help="Monte Carlo draws behind intervals [0: none]; slow.")] = None,
    check: Annotated[_Count, typer.Option(help="Scenarios that SimPy checks [8].")] = None,
    seed: Annotated[_Count, typer.Option(help="Seed of samples and subsets [0].")] = None,
    output: Annotated[
        _Text, typer.Option("-o", "--output", help="Directory, or file.parquet, for the rows; file.html: only --chart.")
    ] = None,
    chart: Annotated[_Text, typer.Option(help="Write a page: tokens/s against RAM, the Pareto front marked.")] = None,
    jobs: Annotated[_Count, typer.Option("-j", "--jobs", help="Processes [one for each CPU].")] = None,
    scheduler: Annotated[_Text, typer.Option(help="Dask: local, or tcp://host:port of a cluster.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate every combination, or a sample, of scenario fields and device numbers. Run again to go on.

    Example: simio sweep --device pixel8 --model llama-3.2-3b:q4_k_m --vary ram=1GB:4GB:0.25GB
    --vary prefetch=0,1,2,4 -o sweep.parquet
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs is {jobs}", "give at least 1")
    output, chart = _places(output, chart)
    from simio.sweep.study import load, study_of

    table = {} if study_file is None else load(Path(study_file))
    scenario = dict(table.get("scenario", {})) | _named(fix or [], "--set")
    scenario |= {k: v for k, v in (("device", device), ("model", model), ("draws", draws)) if v is not None}
    settings = {"samples": samples, "subset": subset, "engine": engine, "seed": seed, "check": check}
    table = table | {k: v for k, v in settings.items() if v is not None}
    study = study_of(
        table | {"scenario": scenario, "vary": {**table.get("vary", {}), **_named(vary or [], "--vary")}},
        study_file or "options",
    )
    summary = _run(study, output, chart, jobs, scheduler)
    if as_json:
        print_json(summary.to_json())
    else:
        print(describe(summary))
        if chart is not None:
            print(f"{'' if summary.output else chr(10)}chart: {chart}")


def _places(output: str | None, chart: str | None) -> tuple[str | None, str | None]:
    """Where rows and the page go. A page alone may be named by -o."""
    if output is not None and output.endswith((".html", ".htm")):
        if chart is not None:
            raise UsageError(f"-o {output} and --chart {chart} are both pages", "name a page once")
        output, chart = None, output
    check_output(chart, needs="plotly")
    return output, chart


def _run(study: Study, output: str | None, chart: str | None, jobs: int | None, scheduler: str | None) -> Summary:
    """Sweep, and write what was asked for."""
    from simio.sweep import rows
    from simio.sweep.run import sweep as run

    if chart is not None:
        rows.pyarrow()
    place, blocks = None if output is None else Path(output), list[Any]()
    keep = blocks.append if chart is not None and place is None else None
    with progress("sweeping", in_bytes=False) as reporter:
        summary = run(study, place, jobs=jobs, scheduler=scheduler, progress=reporter, keep=keep)
    if chart is not None:
        from simio.report.trade_off_page import render
        from simio.sweep.trade_off import trade_off

        table = rows.joined(study, blocks) if place is None else rows.stored(study, place)
        write_whole(Path(chart), render(trade_off(study, table)))
    return summary


def _named(texts: list[str], option: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value.strip():
            raise UsageError(f"{option} '{text}' has no value", "write for example ram=1GB:8GB:0.5GB")
        if name in found:
            raise UsageError(f"{option} {name} is given twice", "put the values into one list")
        found[name] = value
    return found


def describe(summary: Summary) -> str:
    """The summary as text."""
    table: dict[str, Any] = summary.to_json()
    rate = f"{table['evaluations_per_s']:,.0f} scenarios/s"
    lines = [f"{summary.evaluated:,} of {summary.n:,} scenarios in {format_s(summary.seconds)} ({rate})"]
    if summary.skipped:
        lines.append(f"  {summary.skipped:,} were there already")
    if summary.infeasible:
        lines.append(f"  {summary.infeasible:,} cannot run (column `reason`)")
    if summary.checked:
        lines.append(f"  {summary.checked} played by SimPy, too: largest difference {summary.largest_difference:.1e}")
    if summary.best:
        best = summary.best
        lines += ["", f"fastest: {best['tokens_per_s']:.3g} tokens/s   first token {format_s(best['ttft_s'])}   "
                  f"{format_bytes(best['peak_ram_bytes'])} of RAM"]  # fmt: skip
        skip = {"digest", "tokens_per_s", "ttft_s", "peak_ram_bytes"}
        scenario = list(best)[: list(best).index("chosen_runtime") + 1]
        lines += [f"  {name} = {best[name]}" for name in scenario if name not in skip]
    else:
        lines.append("none of them can run")
    if summary.output:
        lines += ["", f"rows: {summary.output}"]
    return "\n".join(lines)
