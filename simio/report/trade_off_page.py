"""A sweep as a page: tokens per second against RAM, the Pareto front marked, and the front as a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from simio.errors import MissingPackageError
from simio.records.trade_off import Offer, TradeOff
from simio.report.charts import as_html, script
from simio.report.page import figures, page, section, table
from simio.units import format_bytes, format_s

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Told apart on a white page; the front is black.
_COLOURS = (
    "#2f6f9f",
    "#c98a2b",
    "#5a9a6e",
    "#8a6fb0",
    "#b5483f",
    "#4fb3bf",
    "#a3a03a",
    "#d07aa8",
    "#7a5c3e",
    "#8fb8d8",
)
#: A number with more values than this is a scale instead of a legend.
_MOST_NAMED = len(_COLOURS)
#: Lines of the table.
_MOST_ROWS = 40


def render(found: TradeOff) -> str:
    """The page as HTML. Raises ``MissingPackageError`` when plotly is not installed."""
    front = [o for o in found.offers if o.on_front]
    named = " · ".join(found.fixed[name] for name in ("model", "device") if name in found.fixed)
    subtitle = ", ".join(f"{k} {v}" for k, v in found.fixed.items() if k not in ("model", "device"))
    if not front:
        nothing = f"<p>None of the {found.n:,} scenarios can run.</p>"
        return page(named or "simio sweep", subtitle, [nothing])
    body = [
        figures(_headline(found, front)),
        section("Tokens per second against RAM", script(), _chart(found, front), f"<p>{escape(_caption(found))}</p>"),
        section("The front", _table(front)),
    ]
    return page(named or "simio sweep", subtitle or "simio sweep", body)


def _headline(found: TradeOff, front: Sequence[Offer]) -> list[tuple[str, str]]:
    least, fastest = front[0], front[-1]
    return [
        (f"{fastest.tokens_per_s:.3g} tokens/s", f"fastest, in {format_bytes(fastest.peak_ram_bytes)}"),
        (format_bytes(least.peak_ram_bytes), f"least RAM, {least.tokens_per_s:.3g} tokens/s"),
        (f"{len(front):,}", "scenarios on the front"),
        (f"{found.n:,}", f"evaluated, {found.n_stuck:,} cannot run"),
    ]


def _caption(found: TradeOff) -> str:
    drawn, runs = len(found.offers), found.n - found.n_stuck
    some = f" {drawn:,} of {runs:,} are drawn: all of the front, and others by chance." if drawn < runs else ""
    return f"On the front, no scenario takes as little RAM and is faster.{some}"


def _chart(found: TradeOff, front: Sequence[Offer]) -> str:
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    figure = go.Figure()
    front_line = {"mode": "lines", "line": {"color": "#1c2733", "width": 1.5, "shape": "hv"}}
    figure.add_scatter(**_places(front), name="front", hoverinfo="skip", **front_line)
    values = list(dict.fromkeys(o.colour for o in found.offers))
    if len(values) > _MOST_NAMED and not any(isinstance(v, str) for v in values):
        _add_scale(figure, found)
    else:
        for k, value in enumerate(sorted(values, key=lambda v: (isinstance(v, str), v))):
            members = [o for o in found.offers if o.colour == value]
            _add(figure, members, str(_named(members[0], found)), _COLOURS[k % len(_COLOURS)])
    title = {"text": found.coloured_by or ""}
    figure.update_layout(legend={"title": title, "itemsizing": "constant"}, hoverlabel={"align": "left"})
    figure.update_xaxes(title="RAM at its peak, GB", rangemode="tozero")
    figure.update_yaxes(title="tokens/s", rangemode="tozero")
    return as_html(figure, 480)


def _named(offer: Offer, found: TradeOff) -> str:
    return offer.varied[found.coloured_by] if found.coloured_by else "scenarios"


def _places(offers: Sequence[Offer]) -> dict[str, list[float]]:
    return {"x": [o.peak_ram_bytes / 1e9 for o in offers], "y": [o.tokens_per_s for o in offers]}


def _add(figure: Figure, offers: Sequence[Offer], name: str, colour: Any, **marker: Any) -> None:
    figure.add_scatter(
        **_places(offers),
        name=name,
        mode="markers",
        marker={
            "color": colour,
            "size": [9 if o.on_front else 5 for o in offers],
            "opacity": 0.7,
            "line": {"width": [1.2 if o.on_front else 0 for o in offers], "color": "#1c2733"},
            **marker,
        },
        text=[_hover(o) for o in offers],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_scale(figure: Figure, found: TradeOff) -> None:
    colours = [o.colour for o in found.offers]
    bar = {"title": {"text": found.coloured_by}, "thickness": 12, "len": 0.8}
    _add(figure, found.offers, "scenarios", colours, colorscale="Viridis", colorbar=bar)
    figure.update_layout(showlegend=False)


def _hover(o: Offer) -> str:
    facts = (
        f"<b>{o.tokens_per_s:.3g} tokens/s</b> in {format_bytes(o.peak_ram_bytes)}, first token {format_s(o.ttft_s)}"
    )
    return "<br>".join([facts, *(escape(f"{name} = {value}") for name, value in o.varied.items())])


def _table(front: Sequence[Offer]) -> str:
    step = (len(front) - 1) / (_MOST_ROWS - 1) if len(front) > _MOST_ROWS else 1
    shown = [front[round(k * step)] for k in range(min(len(front), _MOST_ROWS))]
    names = list(front[0].varied)
    rows = [
        (format_bytes(o.peak_ram_bytes), f"{o.tokens_per_s:.3g}", format_s(o.ttft_s), *map(escape, o.varied.values()))
        for o in shown
    ]
    left_out = f"<p class='note'>{len(shown)} of {len(front):,}, evenly spread.</p>" if len(shown) < len(front) else ""
    return left_out + table(("RAM", "tokens/s", "first token", *names), rows)
