"""A codec's break-even as a page: gain over the storage rate and over the decompression rate, both ways."""

from __future__ import annotations

from simio.errors import MissingPackageError
from simio.records.break_even import BreakEvenStudy, Curve
from simio.report.charts import as_html, script
from simio.report.page import figures, page, section
from simio.units import format_bytes


def render(s: BreakEvenStudy) -> str:
    """The page as HTML. Raises ``MissingPackageError`` when plotly is not installed."""
    facts = figures(
        [
            (f"{s.simulated_gain:.2f}×", "simulated gain on this device"),
            (f"{s.gain:.2f}×", "closed form: min(r, D/(f·B))"),
            (f"{s.ratio:.3f}×", f"raw ÷ stored of what is read; {100 * s.share:.0f} % decompressed"),
            (format_bytes(s.storage) + "/s", "storage"),
            (format_bytes(s.decompress) + "/s", "decompression, all workers"),
        ]
    )
    body = [
        facts,
        section("Gain over the storage rate", script(), _chart(s.over_storage, s.storage, "storage, bytes/s")),
        section("Gain over the decompression rate", _chart(s.over_decompress, s.decompress, "decompression, bytes/s")),
    ]
    return page(f"When {s.scenario.codec} pays", f"{s.scenario.model} on {s.scenario.device}", body)


def _chart(curve: Curve, own: float, axis: str) -> str:
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    rates = [p.bytes_per_s for p in curve.points]
    figure = go.Figure()
    figure.add_scatter(x=rates, y=[p.gain for p in curve.points], name="simulated", line_color="#2f6f9f")
    formula = [p.closed_form_gain for p in curve.points]
    figure.add_scatter(x=rates, y=formula, name="closed form, pipelined", line={"dash": "dash", "color": "#c98a2b"})
    figure.add_hline(y=1, line_dash="dot")
    figure.add_vline(x=own, line_dash="dot", annotation_text="this device")
    figure.update_xaxes(title=axis, type="log")
    figure.update_yaxes(title="compressed ÷ raw, tokens/s", rangemode="tozero")
    return as_html(figure, 360)
