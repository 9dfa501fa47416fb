"""A validation as a page: predicted against measured, and the errors by kind, device and model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from simio.errors import MissingPackageError
from simio.records.validation import Comparison, Group, Summary, Validation
from simio.report.page import figures, page, section, table
from simio.report.validation_markdown import TITLES, share

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_COLOURS = {"fitted": "#9aa7b3", "cited": "#2f6f9f", "apart": "#c98a2b"}
_HEAD = ("runs", "leans", "median error", "90th percentile", "worst", "covered", "noise floor", "baseline")


def render(validation: Validation, parts: Mapping[str, Validation], runs: str) -> str:
    """The page as HTML. ``parts``: the same by kind of run; ``runs`` names the files.

    Raises ``MissingPackageError`` when plotly is not installed.
    """
    body = [figures(_headline(validation.summary))]
    if validation.rows:
        body += [section("Predicted against measured", _chart(validation.rows), _legend())]
        body += [section("By kind of run", _kinds(parts))]
        body += [section("By relation", _groups("relation", validation.by_relation))]
        body += [section("By device", _groups("device", validation.by_device))]
        body += [section("By model", _groups("model", validation.by_model))]
        body += [section("Every run", _rows(validation.rows))]
    body += [section("Left out", _skipped(validation))]
    return page("Predictions beside measurements", runs, body)


def _headline(s: Summary) -> list[tuple[str, str]]:
    return [
        (share(s.median_abs_error), f"median error of ms per token, {s.n} runs"),
        (share(s.p90_abs_error), f"90th percentile; worst {share(s.max_abs_error)}"),
        (share(s.coverage), "of the runs inside the 80 % interval"),
        (share(s.noise_floor), "noise floor: two runs with equal inputs"),
        (share(s.baseline_median_abs_error), "baseline: C + bytes/bandwidth"),
    ]


def _legend() -> str:
    return (
        "<p>A point a run, with its 80 % interval; the line is equality, the band ±10 %. <b>Fitted</b>: the device has "
        "numbers fitted to published runs, maybe to this one. <b>Cited</b>: the device file takes numbers from where "
        "this run was published. <b>Apart</b>: neither, the closest there is to held out.</p>"
    )


def _chart(rows: Sequence[Comparison]) -> str:
    try:
        import plotly.graph_objects as go
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    figure = go.Figure()
    times = [ms for row in rows for ms in (row.measured_ms, row.predicted_ms)]
    ends = [min(times) / 1.5, max(times) * 1.5]
    band = [1.1 * ends[0], 1.1 * ends[1], 0.9 * ends[1], 0.9 * ends[0]]
    figure.add_scatter(x=[*ends, *ends[::-1]], y=band, fill="toself", mode="none", fillcolor="#e4edf4", name="±10 %")
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": "#5b6b7b", "width": 1}, name="equal")
    for relation, colour in _COLOURS.items():
        if chosen := [row for row in rows if row.relation == relation]:
            _points(figure, chosen, relation, colour, ends[1])
    figure.update_xaxes(title="measured, ms per token", type="log", dtick=1)
    figure.update_yaxes(title="predicted, ms per token", type="log", dtick=1, automargin=True)
    figure.update_layout(template="simple_white", height=560, margin={"l": 10, "r": 10, "t": 20, "b": 10})
    figure.update_layout(legend={"x": 0.02, "y": 0.98, "bgcolor": "rgba(255,255,255,0.7)"}, hovermode="closest")
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return f"<script>{get_plotlyjs()}</script>{html}"


def _points(figure: Figure, rows: Sequence[Comparison], relation: str, colour: str, top_ms: float) -> None:
    up = [(row.high_ms if row.high_ms is not None else top_ms) - row.predicted_ms for row in rows]
    figure.add_scatter(
        x=[row.measured_ms for row in rows],
        y=[row.predicted_ms for row in rows],
        mode="markers",
        name=f"{relation} ({len(rows)})",
        marker={"color": colour, "size": 7, "line": {"color": "white", "width": 0.7}},
        error_y={
            "type": "data", "symmetric": False, "array": up, "width": 0, "thickness": 1,
            "arrayminus": [row.predicted_ms - row.low_ms for row in rows],
        },
        text=[f"{row.run_id}<br>{row.model} on {row.device}<br>error {row.error:+.1%}" for row in rows],
        hovertemplate="%{text}<br>measured %{x:.4g} ms, predicted %{y:.4g} ms<extra></extra>",
    )  # fmt: skip


def _kinds(parts: Mapping[str, Validation]) -> str:
    rows = [(escape(TITLES.get(kind, kind)), *_cells(part.summary)) for kind, part in parts.items()]
    return table(("kind", *_HEAD), rows) + "<p class='note'>Here the baseline is fitted for each kind by itself.</p>"


def _groups(what: str, groups: Sequence[Group]) -> str:
    if what == "relation":
        return table((what, *_HEAD), [(escape(group.name), *_cells(group.summary)) for group in groups])
    rows = [(escape(group.name), *_cells(group.summary), group.relation) for group in groups]
    return table((what, *_HEAD, "relation"), rows)


def _cells(s: Summary) -> tuple[str, ...]:
    leans = "–" if s.median_error is None else f"{s.median_error:+.0%}"
    errors = (s.median_abs_error, s.p90_abs_error, s.max_abs_error)
    shares = (*errors, s.coverage, s.noise_floor, s.baseline_median_abs_error)
    return (str(s.n), leans, *(share(value).replace(" ", "&nbsp;") for value in shares))


def _rows(rows: Sequence[Comparison]) -> str:
    cells = [
        (
            escape(row.run_id), escape(row.device), escape(row.model), f"{row.measured_ms:.4g}",
            f"{row.predicted_ms:.4g}", f"{row.low_ms:.3g} – " + (f"{row.high_ms:.3g}" if row.high_ms else "∞"),
            f"{row.error:+.1%}", row.relation,
        )
        for row in sorted(rows, key=lambda row: -abs(row.error))
    ]  # fmt: skip
    marks = ["" if row.is_covered else "assumed" for row in sorted(rows, key=lambda row: -abs(row.error))]
    head = ("run", "device", "model", "measured ms", "predicted ms", "80 % interval", "error", "relation")
    return "<p class='note'>Largest errors first; shaded: outside the interval.</p>" + table(head, cells, marks)


def _skipped(validation: Validation) -> str:
    reasons = Counter(skipped.reason for skipped in validation.skipped)
    return table(("runs", "why"), [(str(n), escape(reason)) for reason, n in reasons.most_common()])
