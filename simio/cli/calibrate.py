"""``simio calibrate``: a device file of this machine, of a phone, or from results people already have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simio.cli.output import check_output, print_json, progress
from simio.errors import UsageError

_EXAMPLE = "simio calibrate host -o host.toml"
_BUSY = 0.25


def calibrate(
    target: Annotated[str | None, typer.Argument(metavar="host", help="Measure this machine.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The device file to write, NAME.toml.")] = None,
    results: Annotated[
        list[Path] | None, typer.Option("--from", help="Results: fio JSON, llama-bench JSON or JSONL, lzbench CSV.")
    ] = None,
    adb: Annotated[bool, typer.Option("--adb", help="Measure a phone over adb.")] = False,
    device: Annotated[str | None, typer.Option(help="Device to take the other numbers from.")] = None,
    serial: Annotated[str | None, typer.Option(help="Which phone, with --adb.")] = None,
    engine: Annotated[str, typer.Option(help="Who reads: auto, fio or builtin.")] = "auto",
    folder: Annotated[Path | None, typer.Option(help="Where the test file goes [beside the output].")] = None,
    budget: Annotated[float, typer.Option(help="Seconds to measure for, at most 180.")] = 150.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Write a device file: of this machine, of a phone, or from results of fio, llama-bench and lzbench.

    --from may be given several times. Every number comes with its source and bounds; docs/calibrate.md says how.

    Example: simio calibrate host -o host.toml
    """
    chosen = [way for way, is_chosen in (("host", target), ("--from", results), ("--adb", adb)) if is_chosen]
    if len(chosen) != 1 or target not in (None, "host"):
        what = f"'{target}' is not known" if target not in (None, "host") else "choose one of host, --from and --adb"
        raise UsageError(f"simio calibrate: {what}", f"for example {_EXAMPLE}")
    if output is None:
        raise UsageError("no -o", f"name the device file to write, for example {_EXAMPLE}")
    _refuse_unused(chosen[0], {"--device": device, "--serial": serial, "--folder": folder})
    check_output(str(output))
    if results:
        _from(results, device, output, as_json)
    elif adb:
        _phone(output, serial, device, as_json)
    else:
        _host(output, folder, engine, budget, as_json)


def _refuse_unused(way: str, given: dict[str, Any]) -> None:
    meant = {"host": ("--folder",), "--from": ("--device",), "--adb": ("--device", "--serial")}[way]
    for option, value in given.items():
        if value is not None and option not in meant:
            raise UsageError(f"{option} means nothing to simio calibrate {way}", "leave it out")


def _host(output: Path, folder: Path | None, engine: str, budget: float, as_json: bool) -> None:
    from simio.calibrate import host
    from simio.cli.device_text import describe

    with progress("calibrating", in_bytes=False) as reporter:
        found = host.calibrate(output, folder, engine, budget, reporter)
    if as_json:
        print_json(host.to_json(found))
        return
    print(describe(found.device))
    print(f"\n{output}: measured in {found.elapsed_s:.0f} s; use it with --device {output}")
    if found.foreign_cpus > _BUSY:
        typer.echo(
            f"note: other processes used {found.foreign_cpus:.1f} CPUs meanwhile; measure again on the quiet machine",
            err=True,
        )


def _from(results: list[Path], device: str | None, output: Path, as_json: bool) -> None:
    from simio import catalog
    from simio.calibrate.given import refine

    found = refine(results, device, output)
    if as_json:
        print_json({"device": catalog.to_json(found.device), "changed": found.changed, "skipped": found.skipped})
        return
    _print_changes(output, device or "", found.changed, "left out", found.skipped)


def _phone(output: Path, serial: str | None, device: str | None, as_json: bool) -> None:
    from simio import catalog
    from simio.calibrate.phone import calibrate as run

    with progress("measuring the phone", in_bytes=False) as reporter:
        found = run(output, serial, device, reporter)
    if as_json:
        table = {"device": catalog.to_json(found.device), "base": found.base, "changed": found.changed,
                 "notes": found.notes}  # fmt: skip
        print_json(table)
        return
    _print_changes(output, found.base, found.changed, "not measured", found.notes)


def _print_changes(output: Path, base: str, changed: tuple[str, ...], reason: str, others: tuple[str, ...]) -> None:
    print(f"{output}: {base} with")
    for line in changed:
        print(f"  {line}")
    for line in others:
        print(f"  {reason}: {line}")
