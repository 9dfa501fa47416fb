"""``simio compare``: devices, models, codecs or saved scenarios side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_output, give, progress
from simio.cli.scenario_options import naming_options, takes_scenario
from simio.errors import UsageError
from simio.units import format_bytes, format_s, parse_bytes

if TYPE_CHECKING:
    from simio.records.comparison import Comparison, Contender, Odds

_Several = list[str] | None
_HEAD = ("", "tokens/s", "80 % interval", "first token", "p50", "p95", "read/token", "limited by")


@takes_scenario(but=("device", "model", "codec", "runtime", "ram"))
def compare(
    fields: dict[str, Any],
    things: Annotated[
        _Several, typer.Argument(metavar="[A B …]", help="Devices, models, codecs, runtimes or scenario files.")
    ] = None,
    device: Annotated[_Several, typer.Option(help="Catalogue id or file; several are compared.")] = None,
    model: Annotated[_Several, typer.Option(help="Preset or file; several are compared.")] = None,
    codec: Annotated[_Several, typer.Option(help="raw, lz4:1, zstd:1 …; several are compared.")] = None,
    runtime: Annotated[_Several, typer.Option(help="auto, resident, mmap or stream; several are compared.")] = None,
    ram: Annotated[_Several, typer.Option(help="RAM the app may use; several are compared.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[str | None, typer.Option(help="Write a self-contained HTML page.")] = None,
) -> None:
    """Compare two or more devices, models, codecs, runtimes or saved scenarios.

    Words are what differs, options hold for all. Without words, every combination of the options given several times
    is compared. Draws are paired where two share a device, independent otherwise.

    Example: simio compare pixel8 galaxy-s24 --model llama-3.1-8b:q4_k_m
    """
    lists = {"device": device, "model": model, "codec": codec, "runtime": runtime}
    options: dict[str, Sequence[Any]] = {name: values for name, values in lists.items() if values}
    if ram:
        options["ram_bytes"] = [parse_bytes(text, "--ram") for text in ram]
    compared, common = _spread(things or [], options)
    check_output(report, needs="plotly")
    from simio.whatif.comparison import compare as run

    with naming_options(), progress("comparing", in_bytes=False, after_s=0.5) as reporter:
        found = run(*compared, progress=reporter, **common, **fields)
    give(found, describe, as_json, report, "comparison_page")


def _spread(words: Sequence[str], options: dict[str, Sequence[Any]]) -> tuple[list[Any], dict[str, Any]]:
    """What is compared, and what holds for all of it."""
    common = {name: values[0] for name, values in options.items() if len(values) == 1}
    varied = {name: values for name, values in options.items() if len(values) > 1}
    if not words:
        if not varied:
            raise UsageError("nothing to compare", "simio compare pixel8 galaxy-s24 --model llama-3.1-8b:q4_k_m")
        return [dict(zip(varied, values, strict=True)) for values in product(*varied.values())], common
    if varied:
        name = next(iter(varied)).removesuffix("_bytes")
        raise UsageError(f"--{name} is given several times beside words", "name what differs one way, not both")
    return list(words), common


def describe(found: Comparison) -> str:
    """A table with a line each, then who beats whom."""
    rows = [_HEAD, *(_row(c) for c in found.contenders)]
    whole = [row for row in rows if len(row) == len(_HEAD)]
    widths = [max(len(row[0]) for row in rows), *(max(len(row[i]) for row in whole) for i in range(1, len(_HEAD)))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]
    lines += ["", *(odds_text(o, found) for o in shown_odds(found))]
    notes = dict.fromkeys(n for c in found.contenders if c.prediction for n in c.prediction.notes)
    return "\n".join([*lines, *([""] if notes else []), *(f"note  {note}" for note in notes)])


def _row(c: Contender) -> tuple[str, ...]:
    p = c.prediction
    if p is None:
        return c.label, "0", f"cannot run: {c.problem}"
    chosen = f"{p.bottleneck.limit} ({p.resolved.runtime}, {p.resolved.codec})"
    return (
        c.label,
        f"{p.tokens_per_s:.3g}",
        f"{p.interval.low:.3g} – {p.interval.high:.3g}",
        format_s(p.ttft_s),
        format_s(p.token_latency_s.p50),
        format_s(p.token_latency_s.p95),
        format_bytes(p.bytes_per_token),
        chosen,
    )


def shown_odds(found: Comparison) -> list[Odds]:
    """All pairs of up to four; of more, the fastest against every other."""
    if len(found.contenders) <= 4:
        return list(found.odds)
    best = max(found.contenders, key=lambda c: c.tokens_per_s).label
    return [o for o in found.odds if best in (o.first, o.second)]


def odds_text(o: Odds, found: Comparison) -> str:
    """``A is faster than B in 93 % of 200 draws``, the more likely one first."""
    first, second, share = (o.first, o.second, o.share) if o.share >= 0.5 else (o.second, o.first, 1 - o.share)
    stuck = [c.label for c in found.contenders if c.prediction is None and c.label in (first, second)]
    if stuck:
        return f"{' and '.join(stuck)} cannot run" + (f", {first} can" if len(stuck) == 1 else "")
    if o.n_draws == 0:
        how = "as fast as" if share == 0.5 else "faster than"
        return f"{first} is {how} {second} at the values of the device files; nothing was drawn"
    drawn = "same draws of their device" if o.same_draws else "independent draws: the devices differ"
    low, value, high = (o.low, o.ratio, o.high) if o.share >= 0.5 else tuple(map(_inverse, (o.high, o.ratio, o.low)))
    span = f"{_times(value)}, 80 % of draws {_times(low)} – {_times(high)}"
    return f"{first} is faster than {second} in {100 * share:.0f} % of {o.n_draws} draws ({span}; {drawn})"


def _inverse(ratio: float | None) -> float | None:
    """None stands for infinity."""
    return 0.0 if ratio is None else 1 / ratio if ratio else None


def _times(ratio: float | None) -> str:
    return "∞" if ratio is None else f"{ratio:.3g}×"
