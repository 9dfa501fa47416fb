"""Which numbers matter as a page: the tornado, the shares of the variance, every number with its source."""

from __future__ import annotations

from html import escape

from simio.errors import MissingPackageError
from simio.records.sensitivity import Influence, Sensitivity
from simio.report.charts import as_html, script
from simio.report.page import page, section, table

#: Numbers drawn; the table has all.
_DRAWN = 15


def render(s: Sensitivity) -> str:
    """The page as HTML. Raises ``MissingPackageError`` when plotly is not installed."""
    shown = s.influences[:_DRAWN]
    body = [section("Tokens per second with one number at its low or high bound", script(), _tornado(s, shown))]
    if any(i.sobol for i in shown):
        text = f"<p>Sobol indices from {s.n_samples} base samples; the bars are 95 % intervals.</p>"
        body.append(section("Share of the variance when all are drawn", text, _shares(shown)))
    next_ = "".join(f"<li><b>{escape(i.name)}</b>: {escape(i.how)}</li>" for i in s.measure_next)
    body.append(section("Measure next", f"<ul>{next_}</ul>" if next_ else "<p>Nothing here moves it.</p>"))
    body.append(section("Every number this run meets", table(_HEAD, map(_row, s.influences))))
    title = f"What moves {s.scenario.model} on {s.scenario.device}"
    return page(title, f"{s.tokens_per_s:.3g} tokens/s, runtime {s.scenario.runtime}, codec {s.scenario.codec}", body)


_HEAD = ("number", "low", "value", "high", "SI", "tokens/s low", "tokens/s high", "total", "first", "kind", "source")


def _tornado(s: Sensitivity, shown: tuple[Influence, ...]) -> str:
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    names = [i.name for i in shown]
    figure = go.Figure()
    for side, colour in (("low", "#b5483f"), ("high", "#2f6f9f")):
        moved = [getattr(i, f"at_{side}") - s.tokens_per_s for i in shown]
        figure.add_bar(x=moved, y=names, base=s.tokens_per_s, orientation="h", name=f"at its {side} bound",
                       marker_color=colour)  # fmt: skip
    figure.add_vline(x=s.tokens_per_s, line_dash="dot")
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title="tokens/s")
    figure.update_yaxes(autorange="reversed", type="category")
    return as_html(figure, 140 + 26 * len(shown))


def _shares(shown: tuple[Influence, ...]) -> str:
    import plotly.graph_objects as go

    known = [(i.name, i.sobol) for i in shown if i.sobol]
    figure = go.Figure()
    for kind, colour in (("total", "#8fb8d8"), ("first", "#2f6f9f")):
        figure.add_bar(
            x=[100 * getattr(index, kind) for _, index in known], y=[name for name, _ in known], orientation="h",
            name={"total": "with all it acts with", "first": "by itself"}[kind], marker_color=colour,
            error_x={"type": "data", "array": [100 * getattr(index, f"{kind}_error") for _, index in known]},
        )  # fmt: skip
    figure.update_xaxes(title="% of the variance of tokens/s", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category")
    return as_html(figure, 140 + 34 * len(known))


def _row(i: Influence) -> tuple[str, ...]:
    q, index = i.quantity, i.sobol
    shares = (f"{100 * index.total:.1f} %", f"{100 * index.first:.1f} %") if index else ("", "")
    numbers = (f"{q.low:.4g}", f"{q.value:.4g}", f"{q.high:.4g}", escape(q.unit), f"{i.at_low:.4g}", f"{i.at_high:.4g}")
    return (escape(i.name), *numbers, *shares, escape(q.kind), escape(q.source))
