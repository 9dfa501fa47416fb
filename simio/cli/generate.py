"""``simio generate``: a model file of a preset's shape with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simio.cli.output import check_output, print_json, progress
from simio.errors import UsageError
from simio.units import format_bytes


def generate(
    preset: Annotated[str, typer.Argument(help="Preset name:quant, such as llama-3.1-8b:q4_k_m.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The GGUF file to write.")],
    layers: Annotated[int | None, typer.Option(help="Only so many layers [all].", min=1)] = None,
    shape: Annotated[str | None, typer.Option(help="Other facts, such as d_model=256,d_ff=512,vocab_size=512.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a GGUF file with the shape of a preset and generated (random) weights, for measuring times with.

    It says of itself that it is generated; the text it writes means nothing.

    Example: simio generate llama-3.2-1b:q4_k_m --layers 4 -o shape.gguf
    """
    from simio.runtime.generated import generate as run
    from simio.runtime.generated import shape_of

    check_output(str(output))
    model = shape_of(preset, layers, _changes(shape))
    with progress("generating") as reporter:
        run(model, output, seed, reporter)
    n_bytes = output.stat().st_size
    if as_json:
        print_json({
            "model": model.name, "output": str(output), "n_bytes": n_bytes, "n_weights": model.n_weights,
            "n_layers": model.architecture.n_layers, "seed": seed, "generated": True,
        })  # fmt: skip
        return
    bits = f"{model.bits_per_weight:.2f} bits/weight"
    print(f"{model.name}: {format_bytes(n_bytes)} of generated weights ({bits}) in {output}")


def _changes(text: str | None) -> dict[str, int]:
    """``'d_model=256,d_ff=512'`` as numbers."""
    changes: dict[str, int] = {}
    for item in text.split(",") if text else []:
        name, _, value = item.partition("=")
        if not value.strip().isdigit():
            raise UsageError(f"--shape '{item}' is not name=number", "write for example d_model=256,d_ff=512")
        changes[name.strip()] = int(value)
    return changes
