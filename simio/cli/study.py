"""``simio study``: what the weights of a model leave to compress, and what that is worth."""

from __future__ import annotations

import typer

from simio.cli import compressibility

app = typer.Typer(
    no_args_is_help=True,
    help="Studies over a model's real weights.\n\nExample: simio study compressibility model.safetensors",
)


@app.callback()
def _study() -> None:
    """Keeps ``study`` a group while it has one command."""


app.command("compressibility")(compressibility.compressibility)
