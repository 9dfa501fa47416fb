"""``simio devices``: list, show and check device files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simio.cli.output import print_json

app = typer.Typer(no_args_is_help=True, help="The device catalogue.\n\nExample: simio devices show pixel8")


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the catalogue.

    Example: simio devices list
    """
    from simio import catalog

    devices = [catalog.load(name) for name in catalog.names()]
    if as_json:
        print_json([{"id": d.id, "name": d.name, "soc": d.soc, "storage": d.storage.kind} for d in devices])
        return
    width = max(len(d.id) for d in devices)
    for d in devices:
        print(f"{d.id:{width}}  {d.name} · {d.soc} · {d.storage.kind} · {d.memory.usable.value / 1e9:.1f} GB usable")


@app.command()
def show(
    device: Annotated[str, typer.Argument(help="Catalogue id, or path of a device file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every number of a device with its bounds and source.

    Example: simio devices show pixel8 --json
    """
    from simio import catalog
    from simio.cli.device_text import describe

    found = catalog.load(device)
    if as_json:
        print_json(catalog.to_json(found))
    else:
        print(describe(found))


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Device files.")]) -> None:
    """Check device files against the schema.

    Example: simio devices check my-phone.toml
    """
    from simio import catalog
    from simio.errors import DeviceFileError

    problems = [f"{file.name}: {problem}" for file in files for problem in catalog.check(file)]
    if problems:
        raise DeviceFileError("\n  ".join(problems), "mend the file; `simio devices show pixel8` has every number")
    print(f"{len(files)} device file{'s' if len(files) != 1 else ''} ok")
