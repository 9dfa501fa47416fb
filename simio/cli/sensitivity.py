"""``simio sensitivity``: which numbers of a device move the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_output, give, progress
from simio.cli.predict import scenario_of
from simio.cli.scenario_options import naming_options, takes_scenario

if TYPE_CHECKING:
    from simio.records.sensitivity import Influence, Sensitivity

#: Lines printed; --json has all.
_SHOWN = 12
_BAR = 24


@takes_scenario()
def sensitivity(
    fields: dict[str, Any],
    scenario_file: Annotated[str | None, typer.Argument(metavar="[SCENARIO.toml]", help="A saved scenario.")] = None,
    samples: Annotated[
        int | None, typer.Option(help="Base samples of the Sobol indices, a power of two; 0: none [256 with SALib].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[str | None, typer.Option(help="Write a self-contained HTML page with the tornado.")] = None,
) -> None:
    """Which device numbers move tokens/s, and so which to measure next.

    Every number between its bounds by itself (tornado), and, where SALib is installed, the share of the variance of
    all together that it stands for (Sobol indices).

    Example: simio sensitivity --device pixel8 --model llama-3.1-8b:q4_k_m --runtime stream
    """
    scenario = scenario_of(scenario_file, fields)
    check_output(report, needs="plotly")
    from simio.whatif.sensitivity import sensitivity as run

    with naming_options(), progress("evaluating", in_bytes=False, after_s=0.5) as reporter:
        found = run(scenario, samples=samples, progress=reporter)
    give(found, describe, as_json, report, "sensitivity_page")


def describe(s: Sensitivity) -> str:
    """The tornado as text."""
    head = f"{s.scenario.model} on {s.scenario.device}: {s.tokens_per_s:.3g} tokens/s ({s.scenario.runtime})"
    if not s.influences:
        return f"{head}\n\nno number of the device has bounds that move it"
    shown = s.influences[:_SHOWN]
    width = max(len(i.name) for i in shown)
    sobol = f"{'of variance':>13}{'by itself':>12}" if s.n_samples else ""
    lines = [head, "", f"  {'':{width}}  {'bounds':^23}  {'tokens/s':^15}  {'':{_BAR}}{sobol}"]
    lines += [_line(i, shown, width) for i in shown]
    hidden = len(s.influences) - len(shown)
    idle = f"{s.n_idle} numbers with bounds are not met by this run"
    lines.append("  " + (f"{hidden} more move less (--json has them); {idle}" if hidden else idle))
    if not s.n_samples:
        lines.append(
            "  without Sobol indices: they need SALib (pip install 'simio[sensitivity]') and --samples above 0"
        )
    lines += ["", "Measure next:"]
    lines += [f"  {i.name} ({i.quantity.kind or 'of the profile'}): {i.how}" for i in s.measure_next]
    return "\n".join(lines)


def _line(i: Influence, shown: tuple[Influence, ...], width: int) -> str:
    from simio.cli.device_text import number_text

    q = i.quantity
    bounds = f"{number_text(q.low, q.unit)} – {number_text(q.high, q.unit)}"
    speeds = f"{i.at_low:.3g} – {i.at_high:.3g}"
    bar = "█" * max(1, round(_BAR * i.swing / max(1e-300, *(j.swing for j in shown)))) if i.swing else ""
    line = f"  {i.name:{width}}  {bounds:^23}  {speeds:^15}  {bar:{_BAR}}"
    if i.sobol:
        line += f"{100 * i.sobol.total:>11.0f} %{100 * max(0.0, i.sobol.first):>10.0f} %"
    return line.rstrip()
