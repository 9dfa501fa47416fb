"""One prediction as a page: the answer, where the time goes, what would help, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from simio.errors import MissingPackageError
from simio.records.device import Device, Quantity
from simio.records.prediction import Prediction
from simio.records.scenario import Scenario
from simio.report.charts import as_html, script
from simio.report.page import figures, page, section, table
from simio.units import format_bytes, format_s

_COLOURS = ["#2f6f9f", "#8fb8d8", "#c98a2b", "#5a9a6e", "#8a6fb0", "#b58a8a", "#b5483f"]


def render(p: Prediction, device: Device | None = None, device_rows: Sequence[tuple[str, Quantity]] = ()) -> str:
    """The page as HTML. ``device_rows``: the device's numbers, to be listed with their sources.

    Raises ``MissingPackageError`` when plotly is not installed.
    """
    charts = _charts(p)
    body = [
        figures(_headline(p)),
        section("Where the time of a token goes", charts[0], f"<p>{escape(_limit(p))}</p>"),
        section("Latency of every token", charts[1]),
        section("RAM at its peak", charts[2]),
        section("What would help", _suggestions(p)),
        section("What it rests on", f"<p>{escape(p.confidence.basis)}</p>", _notes(p)),
        section("Laws checked on this run", _checks(p)),
        section("Scenario", _scenario(p)),
    ]
    if device is not None:
        body.append(section(f"Numbers of {device.name}", _device(device, device_rows)))
    title = f"{p.model['name']} on {device.name if device else p.resolved.device}"
    return page(title, f"runtime {p.resolved.runtime}, codec {p.resolved.codec} · simio {p.versions['simio']}", body)


def _headline(p: Prediction) -> list[tuple[str, str]]:
    low, high = p.interval.low, p.interval.high
    return [
        (f"{p.tokens_per_s:.3g} tokens/s", f"{100 * p.interval.level:.0f} % interval {low:.3g} – {high:.3g}"),
        (format_s(p.ttft_s), f"to the first token of {p.resolved.prompt_tokens} prompt tokens"),
        (format_s(p.cold_start_s), "to the first token, cold"),
        (format_bytes(p.bytes_per_token), f"read per token, {100 * p.hit_ratio:.0f} % from RAM"),
        (p.confidence.label, "confidence"),
    ]


def _limit(p: Prediction) -> str:
    b = p.bottleneck
    return (
        f"Limited by {b.limit}; the next limit is {b.next}. Overlap efficiency {100 * b.overlap_efficiency:.0f} %: "
        "the busiest resource's demand over the time taken."
    )


def _charts(p: Prediction) -> list[str]:
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    share = {name: 100 * value for name, value in p.bottleneck.share.items()}
    time = go.Figure(go.Bar(x=list(share.values()), y=list(share), orientation="h", marker_color=_COLOURS))
    time.update_xaxes(title="busy, % of a token's time", range=[0, 105])
    time.update_yaxes(autorange="reversed")
    latencies = [1e3 * s for s in p.token_latencies_s]
    tokens = go.Figure(go.Scatter(x=list(range(2, len(latencies) + 2)), y=latencies, mode="lines", line_shape="hv"))
    tokens.update_traces(line_color=_COLOURS[0])
    tokens.update_xaxes(title="token")
    tokens.update_yaxes(title="ms", rangemode="tozero")
    parts = {"weights": p.ram.weights, "staging": p.ram.staging, "KV cache": p.ram.kv_cache, "buffers": p.ram.buffers}
    ram = go.Figure()
    for (name, n_bytes), colour in zip(parts.items(), _COLOURS, strict=False):
        ram.add_bar(x=[n_bytes / 1e9], y=["RAM"], name=name, orientation="h", marker_color=colour)
    ram.add_vline(x=p.ram.budget / 1e9, line_dash="dot", annotation_text="what the app gets")
    ram.update_layout(barmode="stack")
    ram.update_xaxes(title="GB")
    return [script() + as_html(time, 230), as_html(tokens, 260), as_html(ram, 200)]


def _suggestions(p: Prediction) -> str:
    if not p.suggestions:
        return "<p>Nothing simio can change here helps by 2 % or more: do not bother.</p>"
    rows = [
        (f"{s.gain:.2f}×", f"{s.tokens_per_s:.3g}", escape(s.change), f"<code>{escape(s.command)}</code>")
        for s in p.suggestions
    ]
    return table(("gain", "tokens/s", "change", "command"), rows)


def _notes(p: Prediction) -> str:
    c = p.compression
    notes = list(p.notes)
    if c["codec"] != "raw":
        bound = f", order-0 bound {c['bound_ratio']:.3f}×" if c["bound_ratio"] else ""
        notes.insert(0, f"compression {c['ratio']:.3f}×{bound}, basis: {c['basis']}")
    return "<ul>" + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>" if notes else ""


def _checks(p: Prediction) -> str:
    rows = [(escape(c.law), escape(c.statement), f"{c.left:.9g}", f"{c.right:.9g}") for c in p.checks]
    return table(("law", "statement", "left", "right"), rows)


def _scenario(p: Prediction) -> str:
    default = Scenario(device="", model="").to_json()
    asked = {name for name, value in p.scenario.to_json().items() if value != default.get(name)}
    rows = [
        (escape(name), escape(str(value)), "asked" if name in asked else "default or chosen")
        for name, value in p.resolved.to_json().items()
    ]
    return table(("choice", "value", ""), rows)


def _device(device: Device, rows: Sequence[tuple[str, Quantity]]) -> str:
    urls = {s.id: s.url for s in device.sources}
    cells = []
    for name, q in rows:
        source = escape(q.source)
        if url := urls.get(q.source, ""):
            source = f'<a href="{escape(url)}">{source}</a>' if url.startswith("http") else f"{source} ({escape(url)})"
        cells.append((escape(name), f"{q.value:.4g}", f"{q.low:.4g} – {q.high:.4g}", escape(q.unit), q.kind, source))
    marks = ["assumed" if q.kind == "assumed" else "" for _, q in rows]
    return table(("number", "value", "low – high", "SI", "kind", "source"), cells, marks)
