"""BigMoeOnEdge's file of one run: ``# key=value`` lines of configuration, a row a token, a ``# summary`` at the end.

Configuration is an input; rows and summary are measured, except for ``n_prompt``, the length of what was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simio.errors import MeasurementFileError
from simio.importers import table
from simio.importers.table import Row

COLUMNS = ("step", "wall_ms", "read_bytes", "cache_hit_pct")
#: Who writes these files. A device file that takes numbers from there is not apart from them.
PROJECT = "https://github.com/Helldez/BigMoeOnEdge"
_SUMMARY = "summary"
_MS = 1e-3


@dataclass(frozen=True, slots=True)
class TokenFile:
    """What one file says."""

    path: Path
    headers: dict[str, str]  # configuration
    summary: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def token_s(self) -> tuple[float, ...]:
        """Latency of every token; empty where one of them was not recorded."""
        return self._of_every_row(lambda row: row.positive("wall_ms"), _MS)

    @property
    def read_bytes(self) -> tuple[float, ...]:
        """Bytes read from storage for every token; empty where one was not recorded."""
        return self._of_every_row(lambda row: row.number("read_bytes"), 1.0)

    @property
    def hit_ratios(self) -> tuple[float, ...]:
        """Share of expert slices found in the cache, of the whole run up to each token; empty without a cache."""
        return self._of_every_row(lambda row: hit_percent(row, "cache_hit_pct"), 0.01)

    def mean_of(self, column: str, factor: float) -> float | None:
        """Mean over the tokens it was recorded for, times ``factor``."""
        values = [value for row in self.rows if (value := row.number(column)) is not None]
        return factor * sum(values) / len(values) if values else None

    def header_row(self) -> Row:
        """The configuration as a row, for complaints; it has the line of the file's first row of tokens."""
        return Row(self.path, self.rows[0].line, self.headers)

    def _of_every_row(self, read: Callable[[Row], float | None], factor: float) -> tuple[float, ...]:
        values = [read(row) for row in self.rows]
        found = [factor * value for value in values if value is not None]
        return tuple(found) if len(found) == len(values) else ()


def hit_percent(row: Row, column: str) -> float | None:
    """A hit ratio in per cent; ``None`` where it is empty or -1, which says that there was no cache."""
    value = row.number(column, least=-1)
    if value is not None and (value > 100 or -1 < value < 0):
        raise row.error(column, f"{row.text(column)} is no percentage")
    return None if value is None or value < 0 else value


def is_token_file(path: Path) -> bool:
    """Whether the header, after comments, has the columns that only this format has."""
    return set(COLUMNS) <= set(table.header(path, comment="#"))


def read(path: Path) -> TokenFile:
    """The file; raises ``MeasurementFileError`` naming file, row and column where it is damaged or cut off."""
    rows = tuple(table.rows(path, COLUMNS, comment="#"))
    if not rows:
        raise MeasurementFileError(f"{path}: row 1: no token follows the header", "was the run interrupted?")
    headers: dict[str, str] = {}
    summary: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if line.startswith("#"):
            first, _, rest = line.removeprefix("#").strip().partition(" ")
            if first == _SUMMARY:
                summary |= _pairs(rest)
            else:
                headers |= _pairs(f"{first} {rest}")
    _check_whole(path, rows, summary)
    return TokenFile(path, headers, summary, rows)


def _pairs(text: str) -> dict[str, str]:
    return {key: value for word in text.split() if "=" in word for key, _, value in [word.partition("=")]}


def _check_whole(path: Path, rows: tuple[Row, ...], summary: dict[str, str]) -> None:
    """Refuse a file whose summary counts more tokens than it has rows."""
    said = summary.get("tokens", "")
    if said.isdecimal() and int(said) > len(rows):
        raise MeasurementFileError(
            f"{path}: row {rows[-1].line}, column step: {len(rows)} tokens, but the summary counts {said}",
            "rows are missing: copy the file again",
        )
