"""``simio inspect``: what a model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import print_json
from simio.units import format_bytes

if TYPE_CHECKING:
    from simio.records.model import Model


def inspect(
    model: Annotated[str, typer.Argument(help="Model file, directory, or preset name:quant.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show size, parameters and bits per weight of a model, by role and layer.

    Example: simio inspect llama-3.2-3b:q4_k_m
    """
    from simio.formats.summary import summarize
    from simio.predict.resolve import load_model

    opened = load_model(model)
    table = summarize(opened).to_json() | _plan(opened)
    if as_json:
        print_json(table)
        return
    print(f"{table['name']}: {format_bytes(table['n_bytes'])}, {table['n_weights'] / 1e9:.3f} G weights, "
          f"{table['bits_per_weight']:.3f} bits/weight")  # fmt: skip
    for group, key in (("by_role", "name"), ("by_dtype", "name"), ("by_layer", "layer")):
        print(f"\n{group.replace('_', ' ')}")
        for row in table[group]:
            print("  " + _row(str(row[key]), row))
    if "by_residency" in table:
        print("\nby residency")
        for row in table["by_residency"]:
            print(f"  {_row(row['name'], row)}, {row['n_tensors']} tensors, {format_bytes(row['stored_bytes'])} stored")
    for note in table["notes"]:
        print(f"note: {note}")


def _plan(model: Model) -> dict[str, Any]:
    """The plan of a container that has one: what lies where, and its rows as in a plan file."""
    from simio.container.model_format import FORMAT

    if model.format != FORMAT:
        return {}
    from simio.container.reading import Container
    from simio.container.residency import by_residency, tensor_plan

    with Container.open(Path(model.files[0])) as container:
        if not container.index.residency:
            return {}
        rows = {
            t.tensor: {"quant": t.quant, "codec": t.codec, "residency": t.residency} for t in tensor_plan(container)
        }
        return {"by_residency": [row.to_json() for row in by_residency(container)], "tensor_plan": rows}


def _row(name: str, row: dict[str, Any]) -> str:
    bits = 8 * row["n_bytes"] / max(1, row["n_weights"])
    size = format_bytes(row["n_bytes"])
    return f"{name:12} {size:>10}  {row['n_weights'] / 1e6:>10.2f} M weights  {bits:.2f} bits/weight"
