"""What `simio optimize` found as a page: the Pareto front, the best, where its tensors lie, the nearest flags."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from simio.errors import MissingPackageError
from simio.records.codec_profile import CodecProfile
from simio.records.optimum import Configuration, Optimum
from simio.report.charts import as_html, script
from simio.report.page import figures, page, section, table
from simio.units import format_bytes, format_s

_HEAD = ("", "tokens/s", "p50", "p95", "RAM", "read/token", "on flash", "quality cost", "J/token")
#: Place of a tensor → its colour.
_PLACES = {"ram": "#2f6f9f", "ram-compressed": "#7fb2d6", "flash": "#d98c3f"}


def render(found: Optimum) -> str:
    """The page as HTML. Raises ``MissingPackageError`` when plotly is not installed."""
    best = found.best
    body = [
        figures(_figures(found)),
        section("Nothing beats these: speed against RAM", script(), _front(found)),
        section("The front", table(_HEAD, [_row(one, one is best or one == best) for one in found.front])),
    ]
    if best.plan is not None:
        body.append(section("Where the tensors lie, layer by layer", _places(best.plan)))
    flags = "".join(f"<p><code>{escape(line)}</code></p>" for line in found.runtime_flags)
    body.append(section("Nearest for llama.cpp", flags))
    if found.notes:
        body.append(section("Notes", *(f'<p class="note">{escape(note)}</p>' for note in found.notes)))
    return page(f"{found.model} on {found.device}", f"simio optimize, least {found.goal.minimise}: {best.label}", body)


def _figures(found: Optimum) -> Iterator[tuple[str, str]]:
    best, interval = found.best, found.interval
    yield f"{best.tokens_per_s:.3g}", f"tokens/s ({interval.low:.3g} – {interval.high:.3g})"
    yield format_s(best.p95_s), "95th percentile of tokens"
    yield format_bytes(best.ram_bytes), "RAM"
    yield format_bytes(best.flash_bytes_per_token), "read per token"
    if best.energy_j_per_token is not None:
        yield f"{best.energy_j_per_token:.3g} J", "per token"
    if found.factor is not None:
        yield f"{found.factor:.2f}×", "one codec, nothing pinned"
    yield ("searched" if found.gap is None else f"{100 * found.gap:.1f} %"), "less time at most, other placements"


def _front(found: Optimum) -> str:
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    figure = go.Figure()
    kinds = {"plan": "#2f6f9f", "stream": "#d98c3f", "mmap": "#8a8f98", "resident": "#1a7f4b"}
    for kind, colour in kinds.items():
        of_kind = [one for one in found.front if _kind(one) == kind]
        if of_kind:
            figure.add_scatter(
                x=[one.ram_bytes / 1e9 for one in of_kind], y=[one.tokens_per_s for one in of_kind], name=kind,
                mode="markers", marker={"size": 10, "color": colour}, hovertext=[one.label for one in of_kind],
            )  # fmt: skip
    marked = [
        (found.best, "best", "star"),
        (found.baseline, "one codec, nothing pinned", "x"),
        (found.usual, "usual", "diamond"),
    ]
    for one, name, symbol in marked:
        if one is not None:
            figure.add_scatter(
                x=[one.ram_bytes / 1e9], y=[one.tokens_per_s], name=name, mode="markers", hovertext=[one.label],
                marker={"size": 15, "symbol": symbol, "color": "#b3261e" if name == "best" else "#1c2733"},
            )  # fmt: skip
    figure.update_xaxes(title="RAM [GB]", rangemode="tozero")
    figure.update_yaxes(title="tokens/s", rangemode="tozero")
    return as_html(figure, 420)


def _kind(one: Configuration) -> str:
    return "plan" if one.plan is not None else one.runtime


def _row(one: Configuration, is_best: bool) -> tuple[str, ...]:
    label = f"<b>{escape(one.label)}</b>" if is_best else escape(one.label)
    energy = "–" if one.energy_j_per_token is None else f"{one.energy_j_per_token:.3g}"
    numbers = (
        f"{one.tokens_per_s:.3g}", format_s(one.p50_s), format_s(one.p95_s), format_bytes(one.ram_bytes),
        format_bytes(one.flash_bytes_per_token), format_bytes(one.stored_bytes), f"{one.cost:.3g}", energy,
    )  # fmt: skip
    return (label, *(number.replace(" ", "&nbsp;") for number in numbers))


def _places(plan: CodecProfile) -> str:
    """A bar for each layer, its bytes by where they lie."""
    import plotly.graph_objects as go

    place_of = {one.tensor: one.residency for one in plan.plan}
    sizes: dict[str, dict[str, float]] = {place: {} for place in _PLACES}
    for tensor in plan.model.tensors:
        if tensor.name in place_of:
            layer = "head" if tensor.layer is None else str(tensor.layer)
            of = sizes[place_of[tensor.name]]
            of[layer] = of.get(layer, 0.0) + tensor.n_bytes / 1e6
    layers = list(dict.fromkeys(layer for of in sizes.values() for layer in of))
    layers.sort(key=lambda layer: (layer == "head", int(layer) if layer.isdigit() else 0))
    bars = [
        go.Bar(x=layers, y=[of.get(layer, 0.0) for layer in layers], name=place, marker_color=_PLACES[place])
        for place, of in sizes.items()
        if of
    ]
    figure = go.Figure(bars)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="layer", type="category")
    figure.update_yaxes(title="MB as multiplied")
    return as_html(figure, 320)
