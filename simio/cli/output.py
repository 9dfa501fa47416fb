"""How commands print: JSON with stable keys, progress bars, files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def print_json(table: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False))


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` through a temporary file beside it and a rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with bytes, rate and time left, drawn from the first report on; silent when not a terminal."""
    bar: list[Any] = []

    def report(done: int, total: int) -> None:
        if not bar:
            bar.extend(_start(what, total))
        bar[0].update(bar[1], completed=done, total=total)

    try:
        yield report
    finally:
        if bar:
            bar[0].stop()


def _start(what: str, total: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    shown.start()
    return shown, shown.add_task(what, total=total)
