"""One run of BigMoeOnEdge by itself: its file of tokens, with the ``# key=value`` configuration of later versions.

The file never names the device: ``--device`` does. One without configuration is skipped, saying what is missing.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from simio.errors import MeasurementFileError
from simio.importers import bigmoe_token_file
from simio.importers.bigmoe_settings import HEADERS, settings
from simio.importers.bigmoe_token_file import TokenFile
from simio.importers.table import Row
from simio.records.measurement import Measurement

#: Without these nothing can be asked.
_NEEDED = ("model", "moe_stream", "threads")
#: Column → counter and its factor to SI.
_COUNTERS = {
    "io_ms": ("read_s", 1e-3), "compute_ms": ("compute_s", 1e-3), "stall_ms": ("stall_s", 1e-3),
    "majflt": ("major_faults_per_token", 1.0),
}  # fmt: skip


class BigmoeTokens:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether the header, after comments, has the columns that only this format has."""
        return bigmoe_token_file.is_token_file(path)

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """The one run; raises ``MeasurementFileError`` naming row and column."""
        tokens = bigmoe_token_file.read(path)
        missing = [name for name in _NEEDED if not tokens.headers.get(name)]
        return [
            _measurement(tokens, f"its headers lack {', '.join(missing)}: what ran is not known" if missing else "")
        ]


def _measurement(tokens: TokenFile, unsupported: str) -> Measurement:
    row = tokens.header_row()
    is_stream = bool(row.flag("moe_stream"))
    known = {} if unsupported else _known(tokens, row, is_stream)
    if row.flag("cache_auto") and is_stream and not row.number("cache_mb"):
        unsupported = "the cache was sized while it ran (cache_auto) and no header states its budget"
    if not tokens.token_s:
        raise MeasurementFileError(f"{tokens.path}: column wall_ms: not every token has one", "fill the empty cells")
    counters = {n: mean for c, (n, factor) in _COUNTERS.items() if (mean := tokens.mean_of(c, factor)) is not None}
    if tokens.hit_ratios:
        counters["hit_ratio"] = tokens.hit_ratios[-1]
    per_token = {"read_bytes": tokens.read_bytes if is_stream else (), "hit_ratio": tokens.hit_ratios}
    model = row.text("model")
    return Measurement(
        run_id=tokens.path.stem,
        device="",
        model=model,
        known=known,
        token_s=tokens.token_s,
        bytes_per_token=fmean(tokens.read_bytes) if is_stream and tokens.read_bytes else None,
        counters=counters,
        per_token={name: values for name, values in per_token.items() if values},
        repeat_of="|".join([model, *(f"{key}={value}" for key, value in sorted(known.items()))]),
        unsupported=unsupported,
        source=bigmoe_token_file.PROJECT,
        kind="expert_stream" if is_stream else "mmap",
    )


def _known(tokens: TokenFile, row: Row, is_stream: bool) -> dict[str, Any]:
    known = settings(row, HEADERS, "stream" if is_stream else "mmap")
    first = tokens.rows[0]
    if (asked := first.count("steps", least=2)) is not None:
        known["n_tokens"] = asked
    if (prompt := Row(tokens.path, first.line, tokens.summary).count("n_prompt")) is not None:
        known["prompt_tokens"] = prompt
    if (context := row.count("n_ctx")) is not None:
        known["context_tokens"] = context
    return known
