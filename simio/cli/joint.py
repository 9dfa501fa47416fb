"""``simio study joint``: quantizer, codec and place of every tensor, chosen together for a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simio.cli.output import check_output, print_json, progress
from simio.cli.scenario_options import fields_of, naming_options
from simio.errors import UsageError
from simio.units import format_bytes, format_s

if TYPE_CHECKING:
    from simio.records.joint import JointPlan, JointRow, Outcome, SingleChoice
    from simio.study.choices import ChoiceTable

_Text = str | None
_Count = int | None

#: Single choices shown.
_SHOWN = 5


def joint(
    model: Annotated[str, typer.Argument(help="Model file or directory, or preset name:quant (for its shapes).")],
    study: Annotated[Path, typer.Option(help="JSON or Parquet of `simio study compressibility`.")],
    device: Annotated[str, typer.Option(help="Catalogue id, or path of a device file.")],
    quality: Annotated[
        _Text, typer.Option(help="Budget: a number in --measure, or a quantizer of the study to be as good as.")
    ] = None,
    ram: Annotated[_Text, typer.Option(help="RAM the app may use, e.g. 2GB. Default: the device's.")] = None,
    measure: Annotated[str, typer.Option(help="What quality is counted in: weight_error, output_error or kl.")] = (
        "weight_error"
    ),
    per: Annotated[str, typer.Option(help="Choose by tensor or by layer.")] = "tensor",
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Tensors may stay as stored where there is a choice.")
    ] = True,
    prompt: Annotated[_Count, typer.Option(help="Prompt tokens [128].")] = None,
    tokens: Annotated[_Count, typer.Option(help="Generated tokens [64].")] = None,
    context: Annotated[_Count, typer.Option(help="KV cells allocated [prompt + tokens].")] = None,
    threads: Annotated[_Count, typer.Option(help="Compute threads.")] = None,
    workers: Annotated[_Count, typer.Option(help="Decompression workers.")] = None,
    prefetch: Annotated[_Count, typer.Option(help="Steps read ahead of compute [1].")] = None,
    read_limit: Annotated[_Text, typer.Option(help="Throttle the storage, e.g. 200MB/s.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds for each program of the solver.")] = 30.0,
    gap: Annotated[float, typer.Option(help="Relative gap at which the solver stops.")] = 1e-3,
    check: Annotated[str, typer.Option(help="prefix: SimPy checks the start of the run; full: all of it.")] = "prefix",
    output: Annotated[
        _Text, typer.Option("-o", "--output", help="Write the plan, which `simio predict --model` reads.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Choose quantizer, codec and place of every tensor together: the fastest token within a quality and a RAM budget.

    Example: simio study joint llama-3.2-3b:bf16 --study study.json --device pixel8 --ram 2GB --quality int8:channel
    """
    from simio import catalog
    from simio.predict.resolve import load_model
    from simio.records.scenario import Scenario
    from simio.study.candidates import Setting
    from simio.study.choice_table import table
    from simio.study.joint import joint as choose
    from simio.study.study_file import read_study

    if check not in ("prefix", "full"):
        raise UsageError(f"--check {check}", "use prefix or full")
    if not time_limit > 0 or not 0 <= gap < 1:
        raise UsageError(f"--time-limit {time_limit:g}, --gap {gap:g}", "give seconds above 0 and a gap from 0 to 1")
    check_output(output)
    plain = {
        "prompt_tokens": prompt, "n_tokens": tokens, "context_tokens": context, "n_threads": threads,
        "n_workers": workers, "prefetch_depth": prefetch, "draws": 0,
    }  # fmt: skip
    options = fields_of(plain, {"ram_bytes": ("--ram", ram)}, read_limit, None)
    choices = table(load_model(model), read_study(study), measure)
    with naming_options(), progress("solving", in_bytes=False, after_s=1.0) as reporter:
        scenario = Scenario.from_json({"device": device, "model": model} | options, "options")
        setting = Setting(catalog.load(device), scenario, budget_of(quality, choices), per, keep)
        plan = choose(choices, setting, time_limit_s=time_limit, gap=gap, full_check=check == "full", progress=reporter)
    if output:
        from simio.profiling.profile_file import save

        save(plan.outcome.profile, Path(output))
    if as_json:
        print_json(plan.to_json())
    else:
        print(describe(plan))
        if output:
            print(f"\nplan: {output}   (simio predict --device {device} --model {output})")


def budget_of(text: str | None, choices: ChoiceTable) -> float:
    """A number, or what a quantizer costs when it is used everywhere."""
    if text is None:
        raise UsageError("no --quality", "give a number, or a quantizer of the study to be as good as: int8:channel")
    try:
        return float(text)
    except ValueError:
        return choices.cost_of(text)


def describe(plan: JointPlan) -> str:
    """The plan as text: a line a layer and choice, then the best single choices."""
    outcome = plan.outcome
    lines = [
        f"{plan.model} on {plan.device}: {1 / outcome.predicted_s:.3g} tokens/s predicted "
        f"({format_s(outcome.predicted_s)} a token)",
        f"  linear model  {format_s(outcome.model_s)}, proven optimal to {100 * outcome.gap:.2g} %{_apart(outcome)}",
        f"  quality       {outcome.cost:.4g} of {plan.cost_budget:.4g} ({plan.measure})",
        f"  RAM           {format_bytes(outcome.ram_bytes)} of {format_bytes(plan.ram_budget)}",
        "",
        f"  {'layer':<7}{'tensors':<26}{'quantizer':<20}{'codec':<20}{'lies in':<16}{'raw':>9}{'stored':>9}"
        f"{'cost':>11}",
    ]
    lines += [_line(layer, rows) for layer, rows in _by_choice(outcome.rows)]
    lines += ["", "  the same for all tensors, each where it is best:" if plan.singles else "  no single choice fits"]
    lines += [_single(single) for single in plan.singles[:_SHOWN]]
    if plan.factor is not None:
        lines += ["", f"  {plan.factor:.3f}× the best single choice"]
    return "\n".join(lines + [f"  note: {note}" for note in plan.notes])


def _apart(outcome: Outcome) -> str:
    """A warning where the program and the prediction are further apart than what the program leaves out explains."""
    is_near = 0.8 < outcome.model_s / outcome.predicted_s < 1.25
    return "" if is_near else " – far from the prediction, so not proven for it"


def _by_choice(rows: tuple[JointRow, ...]) -> list[tuple[int | None, list[JointRow]]]:
    groups: dict[tuple[int | None, str, str, str], list[JointRow]] = {}
    for row in rows:
        groups.setdefault((row.layer, row.quant, row.codec, row.residency), []).append(row)
    return [(key[0], group) for key, group in groups.items()]


def _line(layer: int | None, rows: list[JointRow]) -> str:
    one = rows[0]
    names = " ".join(_short(row.tensor) for row in rows)
    shown = names if len(names) < 25 else f"{len(rows)} matrices"
    raw, stored = (format_bytes(sum(getattr(row, size) for row in rows)) for size in ("raw_bytes", "stored_bytes"))
    number = "head" if layer is None else str(layer)
    return (
        f"  {number:<7}{shown:<26}{one.quant:<20}{one.codec:<20}{one.residency:<16}{raw:>9}{stored:>9}"
        f"{sum(row.cost for row in rows):>11.3g}"
    )


def _short(tensor: str) -> str:
    """``blk.3.attn_q.weight`` → ``attn_q``."""
    parts = [part for part in tensor.removesuffix(".weight").split(".") if not part.isdigit()]
    return parts[-1]


def _single(single: SingleChoice) -> str:
    outcome = single.outcome
    spread = "does not fit" if single.spread_s is None else format_s(single.spread_s)
    return (
        f"    {single.quant:<20}{single.codec:<20}{format_s(outcome.predicted_s):>9} a token "
        f"({spread} with RAM shared out evenly)   quality {outcome.cost:.4g}"
    )
