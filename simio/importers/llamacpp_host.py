"""llama.cpp under a memory cgroup and a throttled disk: one row a llama-bench process, as its README describes.

Inputs: ``tag, model, quant, threads, mem_limit_bytes, throttle_MBps, read_ahead_kb, n_gen, reps``; ``file_bytes`` and
``limit_pct_of_file`` repeat them. A tag ``ra1024_…`` states the read-ahead where the column kept the usual one. The
rest is measured. Every process runs one warm-up token and then ``reps`` times ``n_gen`` tokens from an empty context.

What the README excludes from scoring is read but marked unsupported: two threads beside a busy machine
(``foreign_cpu``), a limited run on the free disk, and the 800 MB/s throttle, which never bound.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from simio.importers import table
from simio.importers.table import Row, UniqueIds
from simio.records.measurement import Measurement

COLUMNS = (
    "tag", "model", "quant", "threads", "mem_limit_bytes", "limit_pct_of_file", "throttle_MBps", "read_ahead_kb",
    "ms_per_token_median", "bytes_read_per_token", "foreign_cpu", "load_s", "n_gen", "reps",
)  # fmt: skip
#: The catalogue's file of the host of these runs.
DEVICE = "host-epyc-zen3"
#: Others may use this many CPUs beside two spinning threads; beyond it their barriers wait (README).
MOST_FOREIGN_CPU = 0.15
#: Measured column → counter and its factor to SI.
_COUNTERS = {
    "ms_per_token_min": ("min_token_s", 1e-3), "ms_per_token_max": ("max_token_s", 1e-3),
    "bytes_read_per_token_min": ("min_bytes_per_token", 1.0), "bytes_read_per_token_max": ("max_bytes_per_token", 1.0),
    "read_ios_per_token": ("reads_per_token", 1.0), "majflt_per_token": ("major_faults_per_token", 1.0),
    "minflt_per_token": ("minor_faults_per_token", 1.0), "own_cpu_util": ("cpu_s_per_s", 1.0),
    "foreign_cpu": ("foreign_cpu_s_per_s", 1.0), "cache_bytes_end": ("page_cache_bytes", 1.0),
    "active_file_end": ("active_list_bytes", 1.0), "anon_bytes_end": ("anonymous_bytes", 1.0),
    "load_disk_bytes": ("load_bytes", 1.0),
}  # fmt: skip


class LlamaCppHost:
    """The importer."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether the header has the columns that only this format has."""
        return {"tag", "limit_pct_of_file", "throttle_MBps", "read_ahead_kb", "n_gen"} <= set(table.header(path))

    @staticmethod
    def read(path: Path) -> list[Measurement]:
        """Every row; raises ``MeasurementFileError`` naming row and column."""
        ids = UniqueIds()
        return [_measurement(row, ids.check(row, "tag")) for row in table.rows(path, COLUMNS)]


def _measurement(row: Row, run_id: str) -> Measurement:
    known = _known(row, run_id)
    model = f"{row.required('model')}:{row.required('quant').lower()}"
    ms = row.positive("ms_per_token_median")
    counters = {
        name: factor * value
        for column, (name, factor) in _COUNTERS.items()
        if (value := row.number(column)) is not None
    }
    return Measurement(
        run_id=run_id,
        device=DEVICE,
        model=model,
        known=known,
        mean_token_s=ms / 1e3 if ms else None,
        load_s=row.number("load_s"),
        bytes_per_token=row.number("bytes_read_per_token"),
        counters=counters,
        repeat_of="|".join([model, *(f"{key}={value}" for key, value in sorted(known.items()))]),
        unsupported=_unsupported(row),
        source=str(row.path),
        note=row.text("note"),
        kind=_kind(row),
    )


def _known(row: Row, run_id: str) -> dict[str, Any]:
    """What was set before the run."""
    n_tokens = (row.count("n_gen") or 1) * (row.count("reps") or 1)
    known: dict[str, Any] = {
        "runtime": "mmap",
        "n_threads": row.count("threads") or 1,
        "prompt_tokens": 1,
        "n_tokens": max(2, n_tokens),
    }
    if (limit := row.count("mem_limit_bytes")) is not None:
        known["ram_bytes"] = limit
    if (throttle := row.positive("throttle_MBps")) is not None:
        known["read_limit_bytes_per_s"] = 1e6 * throttle
    tagged = re.match(r"ra(\d+)_", run_id)
    read_ahead = int(tagged[1]) if tagged else row.count("read_ahead_kb")
    if read_ahead is not None:
        known["read_ahead_bytes"] = 1024 * read_ahead
    return known


def _kind(row: Row) -> str:
    """As the README sorts them: ``in_ram``; ``strict`` (half and three quarters at 200 MB/s); ``band``; ``other``."""
    percent, throttle = row.number("limit_pct_of_file"), row.number("throttle_MBps")
    if row.number("mem_limit_bytes") is None:
        return "in_ram"
    if percent in (50, 75) and throttle == 200 and row.count("threads") == 1:
        return "strict"
    return "band" if percent is not None and 90 <= percent <= 110 else "other"


def _unsupported(row: Row) -> str:
    if (row.count("threads") or 1) > 1 and (row.number("foreign_cpu") or 0.0) > MOST_FOREIGN_CPU:
        return "two threads shared the cores with other processes: not for scoring"
    if row.number("mem_limit_bytes") is None:
        return ""
    throttle = row.number("throttle_MBps")
    if throttle is None:
        return "the disk was not throttled: not for scoring"
    return "the throttle of 800 MB/s never bound: not for scoring" if throttle == 800 else ""
