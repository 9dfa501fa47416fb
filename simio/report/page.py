"""The frame of every page: one self-contained HTML file, no request to anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.sub { color: #5b6b7b; margin-top: 0 }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0 }
.figure { border: 1px solid #d7dee5; border-radius: 8px; padding: .7rem 1rem; min-width: 9rem }
.figure b { display: block; font-size: 1.5rem; font-weight: 600 } .figure span { color: #5b6b7b; font-size: .85rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } .wide { overflow-x: auto }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #e6ebf0; vertical-align: top }
th { color: #5b6b7b; font-weight: 600; font-size: .85rem }
code { background: #f2f5f8; padding: .1rem .3rem; border-radius: 4px; font-size: .85em; overflow-wrap: break-word }
.assumed td { background: #fff6e0 } .ok { color: #1a7f4b } .note { color: #5b6b7b }
@media (prefers-color-scheme: dark) { :root { color-scheme: light } }
"""


def page(title: str, subtitle: str, body: Iterable[str]) -> str:
    """A whole document."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p>'
        + "".join(body)
        + "</body></html>\n"
    )


def figures(items: Iterable[tuple[str, str]]) -> str:
    """A row of large numbers: (value, caption)."""
    cells = "".join(f'<div class="figure"><b>{escape(v)}</b><span>{escape(c)}</span></div>' for v, c in items)
    return f'<div class="figures">{cells}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], classes: Iterable[str] = ()) -> str:
    """A table; cells are HTML already. ``classes`` gives a class per row."""
    marks = list(classes)
    body = "".join(
        f'<tr class="{marks[i] if i < len(marks) else ""}">' + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for i, row in enumerate(rows)
    )
    header = "".join(f"<th>{escape(h)}</th>" for h in head)
    return f'<div class="wide"><table><tr>{header}</tr>{body}</table></div>'


def section(title: str, *parts: str) -> str:
    """A heading with what follows."""
    return f"<h2>{escape(title)}</h2>" + "".join(parts)
