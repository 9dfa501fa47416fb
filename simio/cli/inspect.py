"""``simio inspect``: what a model is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from simio.cli.output import print_json
from simio.units import format_bytes


def inspect(
    model: Annotated[str, typer.Argument(help="Model file, directory, or preset name:quant.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show size, parameters and bits per weight of a model, by role and layer.

    Example: simio inspect llama-3.2-3b:q4_k_m
    """
    from simio.formats.summary import summarize
    from simio.predict.resolve import load_model

    summary = summarize(load_model(model))
    if as_json:
        print_json(summary.to_json())
        return
    table = summary.to_json()
    print(f"{table['name']}: {format_bytes(table['n_bytes'])}, {table['n_weights'] / 1e9:.3f} G weights, "
          f"{table['bits_per_weight']:.3f} bits/weight")  # fmt: skip
    for group in ("roles", "dtypes", "layers"):
        print(f"\n{group}")
        for row in _rows(table[group]):
            print("  " + row)
    for note in table["notes"]:
        print(f"note: {note}")


def _rows(group: object) -> list[str]:
    items = group.items() if isinstance(group, dict) else [(r.get("layer"), r) for r in group]  # type: ignore[attr-defined]
    return [
        f"{name!s:12} {format_bytes(row['n_bytes']):>10}  {row['n_weights'] / 1e6:>10.2f} M weights  "
        f"{8 * row['n_bytes'] / max(1, row['n_weights']):.2f} bits/weight"
        for name, row in items
    ]
