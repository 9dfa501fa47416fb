"""``simio optimize``: the best way to run a model on a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_output, print_json, progress
from simio.cli.scenario_options import naming_options, takes_scenario
from simio.errors import UsageError, WriteError
from simio.paths import write_whole
from simio.units import format_bytes, format_s, parse

if TYPE_CHECKING:
    from simio.records.optimum import Configuration, Goal, Optimum
    from simio.study.choices import ChoiceTable

_Text = str | None


@takes_scenario(but=("codec", "draws"))
def optimize(
    fields: dict[str, Any],
    minimize: Annotated[str, typer.Option(help="p50, p95 (token latency), ram or energy.")] = "p50",
    codec: Annotated[
        list[str] | None, typer.Option(help="Codecs to choose from; repeat, or put commas [those the device can].")
    ] = None,
    study: Annotated[
        _Text, typer.Option(help="Choose quantizers, too: JSON or Parquet of `simio study compressibility`.")
    ] = None,
    quality: Annotated[
        _Text, typer.Option(help="With --study: a number in --measure, or a quantizer to be as good as.")
    ] = None,
    measure: Annotated[str, typer.Option(help="With --study: weight_error, output_error or kl.")] = "weight_error",
    min_speed: Annotated[float, typer.Option(help="Tokens/s at least.")] = 0.0,
    max_p95: Annotated[_Text, typer.Option(help="95th percentile of token latency at most, e.g. 500ms.")] = None,
    max_energy: Annotated[float | None, typer.Option(help="Joules per token at most.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds for exchanges after the programs, and for those.")] = 20.0,
    draws: Annotated[int, typer.Option(help="Monte Carlo draws behind the interval.", min=0)] = 200,
    check: Annotated[str, typer.Option(help="prefix: SimPy checks the start of the best run; full: all of it.")] = (
        "prefix"
    ),
    output: Annotated[
        _Text,
        typer.Option("-o", "--output", help="Directory for scenario.toml and, where tensors are placed, plan.json."),
    ] = None,
    report: Annotated[_Text, typer.Option(help="Write a self-contained HTML page with the Pareto chart.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the best way to run a model: codec and place of every tensor, cache, prefetch, threads, quantizer.

    What an option of `simio predict` says is kept, the rest is chosen.

    Example: simio optimize --device pixel8 --model llama-2-7b:int8 --ram 3GB -o best
    """
    from simio.optimize import optimize as run
    from simio.records.scenario import Scenario

    for name, example in (("device", "pixel8"), ("model", "llama-2-7b:int8")):
        if name not in fields:
            raise UsageError(f"no --{name}", f"for example --{name} {example}")
    if check not in ("prefix", "full"):
        raise UsageError(f"--check {check}", "use prefix or full")
    if not time_limit > 0:
        raise UsageError(f"--time-limit {time_limit:g}", "give seconds above 0")
    goal = _goal(minimize, min_speed, max_p95, max_energy)
    folder = None if output is None else _folder(output)
    check_output(report, needs="plotly")
    with naming_options(), progress("searching", in_bytes=False, after_s=0.5) as reporter:
        scenario = Scenario.from_json(fields | {"draws": draws}, "options")
        choices, budget = _choices(scenario, study, quality, measure)
        found = run(
            scenario, goal=goal, codec_names=_names(codec), choices=choices, cost_budget=budget,
            time_limit_s=time_limit, full_check=check == "full", progress=reporter,
        )  # fmt: skip
    command = _write(found.best, folder, draws) if folder else None
    if report:
        from simio.report.optimum_page import render

        write_whole(Path(report), render(found))
    if as_json:
        print_json(found.to_json())
        return
    print(describe(found))
    print("".join(f"\n{what}" for what in (command, report and f"report: {report}") if what))


def _goal(minimize: str, min_speed: float, max_p95: str | None, max_energy: float | None) -> Goal:
    from simio.records.optimum import GOALS, Goal

    if minimize not in GOALS:
        raise UsageError(f"--minimize {minimize}", f"use one of {', '.join(GOALS)}")
    for option, value in (("--min-speed", min_speed), ("--max-energy", max_energy)):
        if value is not None and not 0 <= value < float("inf"):
            raise UsageError(f"{option} is {value}", "give a number of at least 0")
    p95 = float("inf") if max_p95 is None else parse(max_p95, "s", "--max-p95")
    return Goal(minimize, min_speed, p95, float("inf") if max_energy is None else max_energy)


def _names(codec: list[str] | None) -> list[str]:
    """Repeated, or with commas between; those inside brackets belong to a codec."""
    import re

    return [name.strip() for text in codec or () for name in re.split(r",(?![^(]*\))", text)]


def _choices(scenario: Any, study: str | None, quality: str | None, measure: str) -> tuple[ChoiceTable | None, float]:
    if study is None:
        if quality is not None:
            raise UsageError("--quality without --study", "name the table: simio study compressibility MODEL --json")
        return None, float("inf")
    from simio.cli.joint import budget_of
    from simio.predict.resolve import load_model
    from simio.study.choice_table import table
    from simio.study.study_file import read_study

    choices = table(load_model(scenario.model), read_study(Path(study)), measure)
    return choices, budget_of(quality, choices)


def _folder(text: str) -> Path:
    folder = Path(text)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{text} is a file", "name a directory for scenario.toml and plan.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{text}: cannot be made: {error.strerror}", "choose another place") from error
    return folder


def _write(best: Configuration, folder: Path, draws: int) -> str:
    """Write what ``predict``, ``pack`` and ``run`` take; returns how to use it."""
    from simio.cli.predict import save
    from simio.profiling.profile_file import save as save_plan

    scenario, lines = replace(best.scenario, draws=draws), []
    if best.plan is None:
        (folder / "plan.json").unlink(missing_ok=True)  # of another run
    if best.plan is not None:
        save_plan(best.plan, folder / "plan.json")
        scenario = replace(scenario, model=str(folder / "plan.json"), chunk_bytes=None)
        lines.append(f"plan: {folder}/plan.json   (simio pack MODEL --plan {folder}/plan.json -o model.simio)")
    save(scenario, folder / "scenario.toml")
    lines.append(f"scenario: {folder}/scenario.toml   (simio predict {folder}/scenario.toml)")
    return "\n".join(lines)


def describe(found: Optimum) -> str:
    """What was found, against what, the front, and the nearest flags of llama.cpp."""
    best, level, low, high = found.best, round(100 * found.interval.level), found.interval.low, found.interval.high
    gap = "searched, not solved" if found.gap is None else f"no placement takes {100 * found.gap:.1f} % less time"
    lines = [
        f"{found.model} on {found.device}, least {found.goal.minimise}: {best.label}",
        "",
        f"  {best.tokens_per_s:.3g} tokens/s   ({level} % interval {low:.3g} – {high:.3g})   {gap}",
        f"  token latency  p50 {format_s(best.p50_s)}   p95 {format_s(best.p95_s)}",
        f"  RAM            {format_bytes(best.ram_bytes)}",
        f"  storage        {format_bytes(best.flash_bytes_per_token)} of {format_bytes(best.stored_bytes)} per token",
        *([f"  energy         {best.energy_j_per_token:.3g} J per token"] if best.energy_j_per_token else []),
        f"  settings       {_settings(best)}",
        f"  checked        by SimPy: largest difference {found.sim_difference:.1e}; {found.n_evaluated} evaluated",
    ]
    if found.baseline and found.factor:
        lines.append(f"  {found.factor:.3f}× the best with one codec and nothing pinned ({found.baseline.label})")
    if found.usual:
        times = best.tokens_per_s / found.usual.tokens_per_s
        lines.append(f"  {times:.3f}× what simio predict gives when nothing is chosen ({found.usual.label})")
    if best.plan is not None:
        lines += ["", *_placement(found)]
    lines += ["", "Nothing beats these in speed, RAM, bytes read, quality and energy:", *_front(found)]
    lines += ["", "Nearest for llama.cpp:", *(f"  {line}" for line in found.runtime_flags)]
    return "\n".join(lines + [f"note: {note}" for note in found.notes])


def _settings(best: Configuration) -> str:
    from simio.predict.command import OPTIONS

    shown = ("n_threads", "n_workers", "prefetch_depth", "queue_depth", "read_bytes", "cache_policy", "cache_bytes",
             "cache_form", "pinned_bytes", "expert_overlap", "expert_prefetch", "dense_weights")  # fmt: skip
    words = []
    for name in shown:
        value = getattr(best.scenario, name)
        if value is not None:
            text = format_bytes(value) if name.endswith("_bytes") else str(value).lower()
            words.append(f"{OPTIONS[name].removeprefix('--')} {text}")
    return ", ".join(words) or "all as by default"


def _placement(found: Optimum) -> list[str]:
    """A line for each choice: how many tensors, how large."""
    plan = found.best.plan
    if plan is None:
        return []
    size_of = {t.tensor: (sum(t.raw_bytes), sum(t.stored_bytes)) for t in plan.tensors}
    groups: dict[tuple[str, str, str], list[str]] = {}
    for one in plan.plan:
        groups.setdefault((one.quant, one.codec, one.residency), []).append(one.tensor)
    lines = [f"  {'tensors':>7}  {'quantizer':<16}{'codec':<20}{'lies in':<16}{'raw':>9}{'stored':>9}"]
    for (quant, codec, place), names in sorted(groups.items(), key=lambda g: -sum(size_of[n][0] for n in g[1])):
        raw, stored = (format_bytes(sum(size_of[n][i] for n in names)) for i in (0, 1))
        lines.append(f"  {len(names):>7}  {quant:<16}{codec:<20}{place:<16}{raw:>9}{stored:>9}")
    return lines


def _front(found: Optimum) -> list[str]:
    lines = [f"  {'tokens/s':>9}{'RAM':>10}{'read/token':>12}{'on flash':>10}"]
    lines += [
        f"  {one.tokens_per_s:>9.3g}{format_bytes(one.ram_bytes):>10}{format_bytes(one.flash_bytes_per_token):>12}"
        f"{format_bytes(one.stored_bytes):>10}  {one.label}"
        for one in found.front
    ]
    return lines
