"""The compressibility study as a page: uniform information, ratio by layer and role, bounds, break-even."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from simio.records.compressibility import Compressibility, CompressibilityRow
from simio.report.charts import as_html, script
from simio.report.page import figures, page, section, table
from simio.units import format_bytes

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_COLOURS = ("#2f6f9f", "#c98a2b", "#5a9a6e", "#8a6fb0", "#b5483f", "#4aa3a2", "#b58a8a", "#6b7b8b")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
#: Layouts drawn layer by layer: more lines than this cannot be told apart.
_MOST_LINES = 12


def render(found: Compressibility) -> str:
    """The page as HTML. Raises ``MissingPackageError`` when plotly is not installed."""
    body = [figures(_headline(found))]
    best = best_rows(found.rows)
    if best:
        body += [
            section("Uniform information", script(), *_uniform(best)),
            section("Ratio by layer and role", *_by_layer(best), *_by_role(best)),
            section("Codec against bound", *_against_bound(found.rows)),
            section("What it is worth on a device", *_worth(found.rows)),
            section("Every layout and codec", _rows(found.rows)),
        ]
    body.append(section("Left as it is", _kept(found)))
    subtitle = f"chunks of {format_bytes(found.chunk_bytes)} · rates measured on {found.host.cpu}, {found.host.date}"
    return page(f"Compressibility of {found.model}", subtitle, body)


def best_rows(rows: Sequence[CompressibilityRow]) -> list[CompressibilityRow]:
    """Of each layout the row that stores least; the faster one of equals, then the first."""
    best: dict[str, CompressibilityRow] = {}
    for row in rows:
        if row.quant not in best or _rank(row) < _rank(best[row.quant]):
            best[row.quant] = row
    return list(best.values())


def _rank(row: CompressibilityRow) -> tuple[int, float]:
    return row.sizes.stored_bytes, -(row.decompression.rate.median_bytes_per_s if row.decompression else 0.0)


def _headline(found: Compressibility) -> list[tuple[str, str]]:
    quants = list(dict.fromkeys(row.quant for row in found.rows))
    items = [(str(len(quants)), "layouts"), (str(len(dict.fromkeys(r.codec for r in found.rows))), "codecs")]
    if found.rows:
        n_weights = max(row.sizes.n_weights for row in found.rows)
        top = max(found.rows, key=lambda row: row.sizes.ratio)
        items.append((f"{n_weights / 1e6:,.1f} M", "weights in matrices"))
        items.append((f"{top.sizes.ratio:.2f}×", f"largest ratio: {top.quant} with {top.codec}"))
    return items


def _uniform(best: Sequence[CompressibilityRow]) -> list[str]:
    """Bits against KL where quality was measured, otherwise the entropy of codes against the bits of the layout."""
    import plotly.graph_objects as go

    figure = go.Figure()
    judged = [row for row in best if row.kl is not None]
    if judged:
        for name, bits in (
            ("stored bits per weight", [row.sizes.stored_bits_per_weight for row in judged]),
            ("entropy of the codes", [row.sizes.entropy_bits for row in judged]),
        ):
            place = len(figure.data)
            _points(figure, judged, name, place, bits, [max(row.kl or 0.0, 1e-9) for row in judged])
        figure.update_yaxes(title="KL(full ‖ quantized), nats per token", type="log")
        figure.update_xaxes(title="bits per weight")
        text = (
            "A point a layout, twice: what is stored with its best codec, and the order-0 entropy of its codes. The "
            "better a layout keeps quality, the closer its codes are to uniform and the less is left to compress."
        )
    else:
        bits = [row.sizes.bits_per_weight for row in best]
        top = 1.05 * max(bits)
        figure.add_scatter(x=[0, top], y=[0, top], mode="lines", line={"color": "#9aa7b3"}, name="nothing to gain")
        _points(figure, best, "entropy of the codes", 0, bits, [row.sizes.entropy_bits for row in best])
        stored = [row.sizes.stored_bits_per_weight for row in best]
        _points(figure, best, "stored, best codec", 1, bits, stored)
        figure.update_xaxes(title="bits per weight of the layout", rangemode="tozero")
        figure.update_yaxes(title="bits per weight", rangemode="tozero")
        text = (
            "A point a layout. Below the line by as much as its scale is coarse: the finer the scale, the less is left "
            "to compress. Scales and zero points are stored beside the codes, so a layout's stored bits may lie above "
            "their entropy."
        )
    return [as_html(figure, 520), f"<p>{text}</p>"]


def _points(
    figure: Figure, rows: Sequence[CompressibilityRow], name: str, place: int, x: list[float], y: list[float]
) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers+text" if place == 0 else "markers",
        name=name,
        text=[row.quant for row in rows],
        textposition="top center",
        textfont={"size": 10},
        marker={"color": _COLOURS[place], "symbol": _SYMBOLS[place], "size": 8},
        customdata=[row.codec for row in rows],
        hovertemplate="%{text} with %{customdata}<br>%{x:.3f}, %{y:.4g}<extra></extra>",
    )


def _by_layer(best: Sequence[CompressibilityRow]) -> list[str]:
    import plotly.graph_objects as go

    layered = [row for row in best if len(row.by_layer()) > 1]
    if not layered:
        return []
    shown = sorted(layered, key=lambda row: -row.sizes.ratio)[:_MOST_LINES]
    figure = go.Figure()
    for place, row in enumerate(shown):
        layers = row.by_layer()
        figure.add_scatter(
            x=list(layers),
            y=[sizes.ratio for sizes in layers.values()],
            mode="lines+markers",
            name=row.quant,
            line={"color": _COLOURS[place % len(_COLOURS)], "dash": "solid" if place < len(_COLOURS) else "dot"},
        )
    figure.update_xaxes(title="layer")
    figure.update_yaxes(title="ratio, best codec")
    more = f" The {_MOST_LINES} layouts that compress best of {len(layered)}." if len(layered) > _MOST_LINES else ""
    return [as_html(figure, 380), f"<p class='note'>Raw ÷ stored bytes of each layer.{more}</p>"]


def _by_role(best: Sequence[CompressibilityRow]) -> list[str]:
    import plotly.graph_objects as go

    roles = list(dict.fromkeys(role for row in best for role in row.by_role()))
    by_row = [row.by_role() for row in best]
    ratios = [[sizes[role].ratio if role in sizes else None for role in roles] for sizes in by_row]
    figure = go.Figure(
        go.Heatmap(
            x=roles,
            y=[row.quant for row in best],
            z=ratios,
            text=[[f"{r:.3f}" if r is not None else "" for r in row] for row in ratios],
            texttemplate="%{text}",
            colorscale="Blues",
            colorbar={"title": "ratio"},
            hovertemplate="%{y}, %{x}: %{z:.4f}×<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    return [as_html(figure, 140 + 24 * len(best))]


def _against_bound(rows: Sequence[CompressibilityRow]) -> list[str]:
    import plotly.graph_objects as go

    figure = go.Figure()
    known = [(row, bound) for row in rows if (bound := row.sizes.bound_ratio) is not None and row.codec != "raw"]
    top = 1.05 * max((max(row.sizes.ratio, bound) for row, bound in known), default=2.0)
    figure.add_scatter(x=[1, top], y=[1, top], mode="lines", line={"color": "#9aa7b3"}, name="the bound")
    for place, codec in enumerate(dict.fromkeys(row.codec for row, _ in known)):
        mine = [(row, bound) for row, bound in known if row.codec == codec]
        figure.add_scatter(
            x=[bound for _, bound in mine],
            y=[row.sizes.ratio for row, _ in mine],
            mode="markers",
            name=codec,
            text=[row.quant for row, _ in mine],
            marker={"color": _COLOURS[place % 8], "symbol": _SYMBOLS[place % 8], "size": 8},
            hovertemplate="%{text}<br>bound %{x:.4f}×, stored %{y:.4f}×<extra>" + escape(codec) + "</extra>",
        )
    figure.update_xaxes(title="order-0 bound of the bytes the codec sees", type="log")
    figure.update_yaxes(title="ratio", type="log")
    return [
        as_html(figure, 460),
        "<p class='note'>Above the line: a codec that finds more than single bytes say, repeats or drifting "
        "statistics. Below: what its code costs, or chunks that it does not shrink and stores raw.</p>",
    ]


def _worth(rows: Sequence[CompressibilityRow]) -> list[str]:
    devices = list(dict.fromkeys(worth.device for row in rows for worth in row.break_even))
    if not devices:
        return ["<p>No device was asked about.</p>"]
    cells: list[list[str]] = []
    for quant in dict.fromkeys(row.quant for row in rows):
        line = [escape(quant)]
        for place in range(len(devices)):
            row = max((row for row in rows if row.quant == quant), key=lambda row: row.break_even[place].gain)
            worth = row.break_even[place]
            codec = f"<br><span class='note'>{escape(row.codec)}</span>" if worth.verdict.startswith("pays") else ""
            line.append(escape(worth.verdict) + codec)
        cells.append(line)
    storage = {worth.device: worth.storage_bytes_per_s for row in rows for worth in row.break_even}
    read = "; ".join(f"{escape(name)} reads {format_bytes(rate)}/s" for name, rate in storage.items())
    return [
        table(("layout", *devices), cells),
        "<p class='note'>The best codec of each layout. Decompression beside the reads, on the cores that compute "
        "leaves: gain = min(ratio, D/(f·B)), with B what storage reads, D what all workers decompress and f the share "
        f"of bytes that shrank. A token that waits for storage alone; {read}.</p>",
    ]


def _rows(rows: Sequence[CompressibilityRow]) -> str:
    head = ("layout", "codec", "bits", "stored bits", "entropy", "ratio", "bound", "decompresses", "KL")
    cells = []
    for row in rows:
        s = row.sizes
        rate = f"{format_bytes(row.decompression.rate.median_bytes_per_s)}/s" if row.decompression else "–"
        bound = f"{s.bound_ratio:.4f}" if s.bound_ratio is not None else "–"
        kl = f"{row.kl:.4g}" if row.kl is not None else "–"
        bits = (f"{s.bits_per_weight:.4f}", f"{s.stored_bits_per_weight:.4f}", f"{s.entropy_bits:.4f}")
        cells.append((escape(row.quant), escape(row.codec), *bits, f"{s.ratio:.4f}", bound, rate, kl))
    return table(head, cells) + "<p class='note'>Bits per weight; rates of one thread, in bytes of output.</p>"


def _kept(found: Compressibility) -> str:
    cells = [(escape(s.quant), "all", escape(s.reason)) for s in found.skipped]
    for row in best_rows(found.rows):
        reasons: dict[str, list[str]] = {}
        for kept in row.kept:
            reasons.setdefault(kept.reason, []).append(kept.tensor)
        for reason, names in reasons.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            cells.append((escape(row.quant), escape(names[0] + more), escape(reason)))
    return table(("layout", "tensors", "why"), cells) if cells else "<p>Nothing.</p>"
