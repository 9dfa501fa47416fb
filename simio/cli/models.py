"""``simio models``: the presets."""

from __future__ import annotations

from typing import Annotated

import typer

from simio.cli.output import print_json


def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the model presets and the quantizations they come in.

    Example: simio models
    """
    from simio import models as presets

    names, quants = presets.preset_names(), presets.quant_names()
    if as_json:
        print_json({"presets": names, "quantizations": quants})
        return
    print("\n".join(names))
    print(f"\nwrite name:quant with one of: {' '.join(quants)}")
