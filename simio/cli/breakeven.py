"""``simio breakeven``: from which storage and decompression rates on a codec pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_output, give, progress
from simio.cli.predict import scenario_of
from simio.cli.scenario_options import naming_options, takes_scenario
from simio.units import format_bytes

if TYPE_CHECKING:
    from simio.records.break_even import BreakEvenStudy, Curve


@takes_scenario()
def breakeven(
    fields: dict[str, Any],
    scenario_file: Annotated[str | None, typer.Argument(metavar="[SCENARIO.toml]", help="A saved scenario.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[str | None, typer.Option(help="Write a self-contained HTML page with the curves.")] = None,
) -> None:
    """From which storage and decompression rates on --codec pays: closed form and simulated curve.

    Example: simio breakeven --device pixel8 --model llama-3.1-8b:bf16 --codec "byteplane(zstd:1)"
    """
    scenario = scenario_of(scenario_file, fields)
    check_output(report, needs="plotly")
    from simio.whatif.break_even import break_even as run

    with naming_options(), progress("profiling a sample") as reporter:
        found = run(scenario, progress=reporter)
    give(found, describe, as_json, report, "break_even_page")


def describe(s: BreakEvenStudy) -> str:
    """Both break-evens and the curve over storage rates."""
    lines = [
        f"{s.scenario.model} on {s.scenario.device}, codec {s.scenario.codec}",
        "",
        f"  what is read   shrinks {s.ratio:.3f}×, {100 * s.share:.0f} % of it is decompressed",
        f"  gain           {s.gain:.3f}× closed form, {s.simulated_gain:.3f}× simulated, at the device's own rates",
        "",
        f"  {'':15}{'of the device':>16}{'pays':>8}{'pipelined':>14}{'in series':>14}{'simulated':>14}",
        f"  {'storage':15}{_rate(s.storage):>16}{'below':>8}{_rate(s.storage_limit):>14}"
        f"{_rate(s.serial_storage_limit):>14}{_simulated(s.over_storage):>14}",
        f"  {'decompression':15}{_rate(s.decompress):>16}{'above':>8}{_rate(s.decompress_limit):>14}"
        f"{_rate(s.serial_decompress_limit):>14}{_simulated(s.over_decompress):>14}",
        "",
        f"  {'storage':>12}{'raw':>14}{'compressed':>14}{'gain':>10}{'closed form':>13}",
    ]
    for p in s.over_storage.points[::4]:
        lines.append(
            f"  {_rate(p.bytes_per_s):>12}{p.raw_tokens_per_s:>10.3g} tok/s{p.tokens_per_s:>8.3g} tok/s"
            f"{p.gain:>9.3f}×{p.closed_form_gain:>12.3f}×"
        )
    return "\n".join([*lines, *(f"\n  note  {note}" for note in s.notes)])


def _rate(bytes_per_s: float | None) -> str:
    return "any rate" if bytes_per_s is None else f"{format_bytes(bytes_per_s)}/s"


def _simulated(curve: Curve) -> str:
    if curve.break_even is not None:
        return _rate(curve.break_even)
    return "always" if curve.points[0].gain > 1 else "never"
