"""CSV rows that know where they stand, so that every complaint names file, row and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from simio.errors import MeasurementFileError

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a CSV file; ``line`` is the line of the file it ends on."""

    path: Path
    line: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """The cell, stripped; empty where the column is absent."""
        return self.cells.get(column, "").strip()

    def required(self, column: str) -> str:
        """The cell, which must not be empty."""
        return self.text(column) or self._fail(column, "is empty")

    def number(self, column: str, least: float = 0.0) -> float | None:
        """The cell as a finite number of at least ``least``; ``None`` where it is empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            self._fail(column, f"'{text}' is not a number")
        if not math.isfinite(value) or value < least:
            self._fail(column, f"{text} is not a finite number of at least {least:g}")
        return value

    def positive(self, column: str) -> float | None:
        """The cell as a finite number above zero; ``None`` where it is empty."""
        value = self.number(column)
        if value == 0:
            self._fail(column, "is 0, which is no measurement; leave it empty if it was not measured")
        return value

    def count(self, column: str, least: int = 1) -> int | None:
        """The cell as a whole number of at least ``least``; ``None`` where it is empty."""
        value = self.number(column, least)
        if value is not None and value != int(value):
            self._fail(column, f"{self.text(column)} is not a whole number")
        return None if value is None else int(value)

    def flag(self, column: str) -> bool | None:
        """The cell as true or false (``1`` or ``0``), in any case; ``None`` where it is empty."""
        text = self.text(column).lower()
        if text and text not in _FLAGS:
            self._fail(column, f"'{self.text(column)}' is none of true, false, 1, 0")
        return _FLAGS[text] if text else None

    def _fail(self, column: str, what: str) -> NoReturn:
        raise self.error(column, what)

    def error(self, column: str, what: str) -> MeasurementFileError:
        """The complaint about one cell."""
        return MeasurementFileError(f"{self.path}: row {self.line}, column {column}: {what}", "correct the cell")


#: What a comment becomes, so that lines are still counted.
_BLANK = "\n"


def header(path: Path, comment: str = "") -> list[str]:
    """The column names of a CSV file; empty where ``path`` is no text file with a header.

    Lines that begin with ``comment`` are passed over.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return _names(csv.reader(_without(file, comment) if comment else file), bool(comment))
    except csv.Error:
        return []


def _without(lines: Iterable[str], comment: str) -> Iterator[str]:
    return (_BLANK if line.startswith(comment) else line for line in lines)


def _names(lines: Iterator[list[str]], is_commented: bool) -> list[str]:
    """The first line, or the first that is no comment."""
    return [name.strip() for name in next((cells for cells in lines if cells or not is_commented), [])]


def rows(path: Path, required: Iterable[str] = (), comment: str = "") -> Iterator[Row]:
    """Every row of a UTF-8 CSV file with a header; lines that begin with ``comment`` are passed over.

    Raises ``MeasurementFileError`` for a missing or doubled column, a row of another length, or bytes that are no text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_without(file, comment) if comment else file, strict=True)
            names = _names(reader, bool(comment))
            _check_header(path, names, required)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(names):
                    where = names[len(cells)] if len(cells) < len(names) else names[-1]
                    raise MeasurementFileError(
                        f"{path}: row {reader.line_num}, column {where}: {len(cells)} cells under {len(names)} columns",
                        "quote cells that hold commas or line breaks",
                    )
                yield Row(path, reader.line_num, dict(zip(names, cells, strict=True)))
    except UnicodeDecodeError as error:
        raise MeasurementFileError(f"{path}: byte {error.start} is not UTF-8", "save the file as UTF-8") from None
    except csv.Error as error:
        raise MeasurementFileError(f"{path}: row {reader.line_num}: {error}", "check the quotes of that row") from None


def _check_header(path: Path, names: list[str], required: Iterable[str]) -> None:
    for name in required:
        if name not in names:
            raise MeasurementFileError(f"{path}: row 1: column {name} is missing", f"columns found: {', '.join(names)}")
    for name in names:
        if names.count(name) > 1:
            raise MeasurementFileError(f"{path}: row 1: column {name} is there twice", "name each column once")


class UniqueIds:
    """Refuses a run id that the file has used before."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, row: Row, column: str) -> str:
        """The id of ``row``, which must be new; raises ``MeasurementFileError``."""
        run_id = row.required(column)
        if run_id in self._seen:
            raise row.error(column, f"'{run_id}' was used before")
        self._seen.add(run_id)
        return run_id
