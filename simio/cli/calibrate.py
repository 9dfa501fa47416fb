"""``simio calibrate``: a device file of this machine, of a phone, from results people have, or fitted to runs."""

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
    runs: Annotated[
        list[Path] | None, typer.Option("--runs", help="Fit --device to these measured runs, as validate reads them.")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="With --runs, only runs of this kind.")] = None,
    adb: Annotated[bool, typer.Option("--adb", help="Measure a phone over adb.")] = False,
    device: Annotated[str | None, typer.Option(help="Device to take the other numbers from.")] = None,
    serial: Annotated[str | None, typer.Option(help="Which phone, with --adb.")] = None,
    engine: Annotated[str, typer.Option(help="Who reads: auto, fio or builtin.")] = "auto",
    folder: Annotated[Path | None, typer.Option(help="Where the test file goes [beside the output].")] = None,
    budget: Annotated[float, typer.Option(help="Seconds to measure for, at most 180.")] = 150.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Write a device file: of this machine, of a phone, from results of other tools, or fitted to measured runs.

    --from and --runs may be given several times. With --runs and no -o the fit is printed and nothing is written.
    Every number comes with its source and bounds; docs/calibrate.md says how.

    Example: simio calibrate host -o host.toml
    """
    chosen = [way for way, is_chosen in _ways(target, results, adb, runs) if is_chosen]
    if len(chosen) != 1 or target not in (None, "host"):
        what = (
            f"'{target}' is not known"
            if target not in (None, "host")
            else "choose one of host, --from, --runs and --adb"
        )
        raise UsageError(f"simio calibrate: {what}", f"for example {_EXAMPLE}")
    _refuse_unused(chosen[0], {"--device": device, "--serial": serial, "--folder": folder, "--kind": kind or None})
    if runs:
        _fit(runs, device, kind, output, as_json)
        return
    if output is None:
        raise UsageError("no -o", f"name the device file to write, for example {_EXAMPLE}")
    check_output(str(output))
    if results:
        _from(results, device, output, as_json)
    elif adb:
        _phone(output, serial, device, as_json)
    else:
        _host(output, folder, engine, budget, as_json)


def _ways(target: object, results: object, adb: object, runs: object) -> tuple[tuple[str, object], ...]:
    return ("host", target), ("--from", results), ("--adb", adb), ("--runs", runs)


def _refuse_unused(way: str, given: dict[str, Any]) -> None:
    meant = {"host": ("--folder",), "--from": ("--device",), "--adb": ("--device", "--serial"),
             "--runs": ("--device", "--kind")}[way]  # fmt: skip
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


def _fit(files: list[Path], device: str | None, kinds: list[str] | None, output: Path | None, as_json: bool) -> None:
    from simio.calibrate.document import check_id
    from simio.calibrate.fit_document import write_fit
    from simio.calibrate.fitting import Fitter
    from simio.cli.fit_text import describe
    from simio.cli.validate import of_kind
    from simio.importers import read_all

    if device is None:
        raise UsageError("--runs without --device", "name the device file to fit, --device NAME or FILE.toml")
    if output is not None:
        check_id(output)
        check_output(str(output))
    measured = of_kind(read_all(files), kinds)
    with progress("planning", in_bytes=False) as reporter:
        fitter = Fitter(measured, device, progress=reporter)
    with progress("fitting", in_bytes=False) as reporter:
        found, validations = fitter.fit_and_validate(reporter)
    if output is not None:
        write_fit(found, fitter.touched(found), validations[0], device, files, output)
    if as_json:
        print_json({"written": str(output) if output else None} | found.to_json() |
                   {"cross_validation": [one.to_json() for one in validations]})  # fmt: skip
        return
    print(describe(found, validations, fitter.is_cited))
    if output is not None:
        print(f"\n{output}: written; use it with --device {output}")
    else:
        print("\nnothing was written: name the device file to write with -o NAME.toml")


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
