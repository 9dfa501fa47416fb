"""Results on disk: a directory of Parquet parts, one row for each scenario, written whole or not at all.

``-o FILE.parquet`` keeps the parts in ``FILE.parquet.parts`` until the sweep is complete and then joins them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simio.errors import UsageError, WriteError
from simio.sweep.block import Block
from simio.sweep.rows import pyarrow, schema_of, table_of
from simio.sweep.study import Study

#: A part is written when it has this many rows, or is this old.
PART_ROWS = 100_000
PART_S = 10.0


class Results:
    """Where a sweep's rows go. A context: locked while open, and what is there is written when it closes."""

    def __init__(self, path: Path, study: Study) -> None:
        self._pa = pyarrow()
        self._study = study
        self._file = path if path.suffix == ".parquet" else None
        if self._file is not None and path.is_dir():
            raise UsageError(f"{path} is a directory", "name it without .parquet, or choose another name")
        if self._file is None and path.exists() and not path.is_dir():
            raise UsageError(
                f"{path} is a file, and no Parquet file", "name a directory, or a file that ends in .parquet"
            )
        self.directory = path if self._file is None else path.with_name(f"{path.name}.parts")
        self._lock: int | None = None
        self._tables: list[Any] = []
        self._n_open, self._since, self._next = 0, 0.0, 0

    def __enter__(self) -> Results:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.directory / ".lock")
        except OSError as error:
            raise WriteError(f"{self.directory}: {error.strerror}", "choose another place") from error
        for left in self.directory.glob(".*.tmp"):
            left.unlink()
        parts = self._parts()
        self._next = 1 + max((int(p.stem.removeprefix("part-")) for p in parts), default=-1)
        if self._file is not None and self._file.exists() and not parts:
            os.replace(self._file, self.directory / "part-00000.parquet")
            self._next = 1
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def done(self) -> NDArray[np.uint64]:
        """Digests of the scenarios that are there, ascending. Raises ``UsageError`` for parts of another study."""
        found = [np.empty(0, np.uint64)]
        wanted = schema_of(self._study).names
        for part in self._parts():
            try:
                names = self._pa.parquet.read_schema(part).names
                if names == wanted:
                    found.append(self._pa.parquet.read_table(part, columns=["digest"])["digest"].to_numpy())
            except (OSError, self._pa.ArrowInvalid) as error:
                raise UsageError(f"{part} is damaged: {error}", "remove it to evaluate its scenarios again") from None
            if names != wanted:
                raise UsageError(f"{part} has other columns than this study", "choose another -o, or remove it")
        return np.sort(np.concatenate(found))

    def add(self, block: Block) -> None:
        """Keep the rows of ``block``."""
        if not self._tables:
            self._since = time.monotonic()
        self._tables.append(table_of(self._study, block))
        self._n_open += len(block.numbers)
        if self._n_open >= PART_ROWS or time.monotonic() > self._since + PART_S:
            self._flush()

    def join(self) -> Path:
        """All is done: one file where one was asked for. Returns where the rows are."""
        self._flush()
        if self._file is None:
            return self.directory
        parts = self._parts()
        joined = self.directory / ".joined.tmp"
        with self._pa.parquet.ParquetWriter(joined, schema_of(self._study), compression="zstd") as writer:
            for part in parts:
                writer.write_table(self._pa.parquet.read_table(part))
        os.replace(joined, self._file)
        for part in parts:
            part.unlink()
        (self.directory / ".lock").unlink(missing_ok=True)
        self.directory.rmdir()
        return self._file

    def rows(self, columns: list[str]) -> Iterator[Any]:
        """Tables of ``columns``, part by part."""
        for part in self._parts():
            yield self._pa.parquet.read_table(part, columns=columns)

    def row(self, part: int, index: int) -> dict[str, Any]:
        """One row in full, without what is not known."""
        table = self._pa.parquet.read_table(self._parts()[part]).slice(index, 1)
        found: dict[str, Any] = {k: v for k, v in table.to_pylist()[0].items() if v is not None}
        return found

    def flush(self) -> None:
        """Write what is open."""
        self._flush()

    def _parts(self) -> list[Path]:
        return sorted(self.directory.glob("part-*.parquet"))

    def _flush(self) -> None:
        if not self._tables:
            return
        target = self.directory / f"part-{self._next:05d}.parquet"
        temporary = self.directory / f".{target.name}.tmp"
        try:
            self._pa.parquet.write_table(self._pa.concat_tables(self._tables), temporary, compression="zstd")
            os.replace(temporary, target)
        except OSError as error:
            raise WriteError(f"{target}: {error.strerror or error}", "free some space, and run it again") from error
        self._next += 1
        self._tables, self._n_open = [], 0


def _locked(path: Path) -> int | None:
    """An open file that no other sweep can lock; None where the system has no such locks."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return None
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UsageError(
            f"another sweep is writing to {path.parent}", "wait until it has ended, or choose another -o"
        ) from None
    return descriptor
