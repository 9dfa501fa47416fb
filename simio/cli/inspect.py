"""``simio inspect``: what a model is made of."""

from __future__ import annotations

from typing import Annotated, Any

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
    for group, key in (("by_role", "name"), ("by_dtype", "name"), ("by_layer", "layer")):
        print(f"\n{group.replace('_', ' ')}")
        for row in table[group]:
            print("  " + _row(str(row[key]), row))
    for note in table["notes"]:
        print(f"note: {note}")


def _row(name: str, row: dict[str, Any]) -> str:
    bits = 8 * row["n_bytes"] / max(1, row["n_weights"])
    size = format_bytes(row["n_bytes"])
    return f"{name:12} {size:>10}  {row['n_weights'] / 1e6:>10.2f} M weights  {bits:.2f} bits/weight"
