"""What charts of several pages share: plotly once a page, one look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simio.errors import MissingPackageError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def script() -> str:
    """plotly itself, to stand before the first chart of a page. Raises ``MissingPackageError`` without it."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise MissingPackageError("the HTML report needs plotly", "pip install 'simio[report]'") from error
    return f"<script>{get_plotlyjs()}</script>"


def as_html(figure: Figure, height: int) -> str:
    """``figure`` as part of a page, ``height`` pixels high."""
    figure.update_layout(template="simple_white", height=height, margin={"l": 10, "r": 10, "t": 20, "b": 10})
    figure.update_yaxes(automargin=True)
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
    return html
