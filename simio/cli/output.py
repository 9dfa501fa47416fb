"""What commands share: JSON with stable keys, progress bars, outputs checked before the work."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from simio.errors import MissingPackageError, SimioError, UsageError, WriteError
from simio.paths import write_whole


def print_json(table: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False))


def give(found: Any, describe: Callable[[Any], str], as_json: bool, report: str | None, page: str) -> None:
    """Print ``found`` as JSON or text; before that, write ``report`` with the page ``simio.report.<page>``."""
    if report:
        write_whole(Path(report), import_module(f"simio.report.{page}").render(found))
    if as_json:
        print_json(found.to_json())
        return
    print(describe(found))
    if report:
        print(f"\nreport: {report}")


def check_output(path: str | None, needs: str = "") -> None:
    """Refuse an output that cannot be written, or whose package is missing, before the work and not after it."""
    if path is None:
        return
    if not path or Path(path).is_dir():
        raise UsageError(f"'{path}' is not a file to write", "name a file")
    folder = Path(path).resolve().parent
    check_folder(folder, path)
    if not os.access(folder, os.W_OK):
        raise WriteError(f"{path}: no permission to write in {folder}", "choose another place")
    if needs and find_spec(needs) is None:
        raise MissingPackageError(f"{path} needs the package '{needs}', which is not installed", f"pip install {needs}")


def check_folder(folder: Path, path: str) -> None:
    """Refuse the output ``path`` where its ``folder`` is none: missing, or a file."""
    blocked = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if blocked.exists() and not blocked.is_dir():
        raise UsageError(f"{path}: {blocked} is a file, no directory", "name a place in a directory")
    if not folder.is_dir():
        raise UsageError(f"{path}: no such directory", f"create it: mkdir -p {Path(path).parent}")


def warn(error: SimioError, hint: str) -> None:
    """Say on stderr what went wrong without stopping."""
    print(f"simio: {error.message}\n  → {hint}", file=sys.stderr)


def share(text: str, option: str) -> float:
    """``'50%'`` → 0.5; raises ``UsageError`` for anything that is no percentage between 0 and 100."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not text.endswith("%") or not 0 <= value <= 1:
        raise UsageError(f"{option} '{text}' is not a share between 0% and 100%", "write for example 50%")
    return value


@contextmanager
def progress(what: str, in_bytes: bool = True, after_s: float = 0.0) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with bytes (or a plain count), rate and time left, drawn from the first report on.

    Silent when not a terminal, and before ``after_s`` have gone by.
    """
    bar: list[Any] = []
    begun = monotonic()

    def report(done: int, total: int) -> None:
        if monotonic() < begun + after_s:
            return
        if not bar:
            bar.extend(_start(what, total, in_bytes))
        bar[0].update(bar[1], completed=done, total=total)

    try:
        yield report
    finally:
        if bar:
            bar[0].stop()


def _start(what: str, total: int, in_bytes: bool) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Counts per second."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.4g}/s")

    amount = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(), Rate())
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *amount,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    shown.start()
    return shown, shown.add_task(what, total=total)
