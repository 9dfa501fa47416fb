"""Things side by side as a page: a bar with its interval each, the table, and who beats whom."""

from __future__ import annotations

from html import escape

from simio.errors import MissingPackageError
from simio.records.comparison import Comparison, Contender, Odds
from simio.report.charts import as_html, script
from simio.report.page import page, section, table
from simio.units import format_bytes, format_s


def render(found: Comparison) -> str:
    """The page as HTML. Raises ``MissingPackageError`` when plotly is not installed."""
    body = [
        section("Tokens per second, with the 80 % interval", script(), _chart(found)),
        section("Side by side", table(_HEAD, map(_row, found.contenders))),
        section("Who is faster", table(_ODDS, [_cells(o) for o in found.odds])),
    ]
    title = " · ".join(c.label for c in found.contenders)
    return page(title, "simio compare", body)


_HEAD = ("", "tokens/s", "80 % interval", "first token", "p50", "p95", "read/token", "limited by", "rests on")
_ODDS = ("", "is faster than", "in … of the draws", "ratio", "80 % of draws", "draws")


def _chart(found: Comparison) -> str:
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    runs = [c.prediction for c in found.contenders]
    speed = [p.tokens_per_s if p else 0.0 for p in runs]
    up = [p.interval.high - p.tokens_per_s if p else 0.0 for p in runs]
    down = [p.tokens_per_s - p.interval.low if p else 0.0 for p in runs]
    bars = go.Bar(
        x=speed, y=[c.label for c in found.contenders], orientation="h", marker_color="#2f6f9f",
        error_x={"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": "#1c2733"},
    )  # fmt: skip
    figure = go.Figure(bars)
    figure.update_xaxes(title="tokens/s", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category")
    return as_html(figure, 120 + 40 * len(runs))


def _row(c: Contender) -> tuple[str, ...]:
    p = c.prediction
    if p is None:
        return escape(c.label), "0", escape(f"cannot run: {c.problem}"), "", "", "", "", "", ""
    return (
        escape(c.label),
        f"{p.tokens_per_s:.3g}",
        f"{p.interval.low:.3g} – {p.interval.high:.3g}",
        format_s(p.ttft_s),
        format_s(p.token_latency_s.p50),
        format_s(p.token_latency_s.p95),
        format_bytes(p.bytes_per_token),
        escape(f"{p.bottleneck.limit} ({p.resolved.runtime}, {p.resolved.codec})"),
        escape(p.confidence.basis),
    )


def _cells(o: Odds) -> tuple[str, ...]:
    def times(ratio: float | None) -> str:
        return "–" if ratio is None else f"{ratio:.3g}×"

    drawn = f"{o.n_draws}, {'the same of their device' if o.same_draws else 'independent'}"
    interval = f"{times(o.low)} – {times(o.high)}"
    return escape(o.first), escape(o.second), f"{100 * o.share:.0f} %", times(o.ratio), interval, drawn
