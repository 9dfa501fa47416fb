"""``simio study``: what the weights of a model leave to compress, and what that is worth."""

from __future__ import annotations

import typer

from simio.cli import compressibility, joint

app = typer.Typer(
    no_args_is_help=True,
    help="Studies over a model's real weights.\n\nExample: simio study compressibility model.safetensors",
)


app.command("compressibility")(compressibility.compressibility)
app.command("joint")(joint.joint)
