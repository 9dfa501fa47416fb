"""fio's JSON, whoever ran it: direct reads become points of a storage curve. https://fio.readthedocs.io/en/latest/fio_doc.html

Options come from ``job options`` over ``global options``. Sizes follow ``kb_base``: by default ``4k`` is 4096 and
``4ki`` 4000, under ``kb_base=1000`` the other way round. ``bw_bytes`` is in bytes, ``bw`` and ``bw_dev`` in KiB per
second whatever ``kb_base`` says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simio.calibrate.direct_reads import Access
from simio.calibrate.quantities import Entry, entry, percentile
from simio.errors import MeasurementFileError
from simio.units import KIB

#: Engines that wait for each read: ``iodepth`` means nothing to them. fio's default on Linux is psync.
_WAITING = ("sync", "psync", "vsync", "pvsync", "pvsync2", "mmap")
_PATTERNS = {"read": "sequential", "randread": "random"}
#: Share of the value to each side where fio saw only one value, as ``catalog`` takes for measured numbers.
_SPREAD = 0.10
#: Bounds of a lone run reach this many of its standard deviations: the 10th and 90th percentile of a normal.
_Z90 = 1.2816
_LIMITS = ("rate", "rate_iops", "thinktime")


@dataclass(frozen=True, slots=True)
class FioRead:
    """One measured point: of direct reads, or of page faults in a mapping (``is_mapped``)."""

    access: Access
    bytes_per_s: float
    deviation: float  # of its bandwidth samples [bytes/s]; 0 where there are too few
    latency_s: float  # mean completion latency
    is_mapped: bool


@dataclass(frozen=True, slots=True)
class FioResults:
    """What the files say, and why some of their jobs say nothing about the storage."""

    reads: tuple[FioRead, ...]
    version: str
    skipped: tuple[str, ...]


def sniff(start: str) -> bool:
    """Whether a file that begins with ``start`` is fio's JSON; fio may have written warnings in front."""
    return '"fio version"' in start


def read(path: Path) -> FioResults:
    """The reads of one file; raises ``MeasurementFileError`` naming line or job and key."""
    document = _parse(path)
    common = _table(path, "global options", document.get("global options", {}))
    jobs = document.get("jobs")
    if not isinstance(jobs, list):
        raise _bad(path, "jobs", "is missing")
    reads: list[FioRead] = []
    skipped: list[str] = []
    for clones in _clones(path, jobs, common):
        name, options = str(clones[0].get("jobname", "?")), common | clones[0].get("job options", {})
        reason = _unusable(clones, options)
        if reason:
            skipped.append(f"{path.name}, job {name}: {reason}")
        else:
            reads.append(_read(path, name, clones, options))
    return FioResults(tuple(reads), str(document.get("fio version", "fio")), tuple(skipped))


def _parse(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8", errors="replace")
    begin = max(0, text.find("{"))
    try:
        document = json.loads(text[begin:])
    except json.JSONDecodeError as error:
        line = text.count("\n", 0, begin) + error.lineno
        raise MeasurementFileError(
            f"{path}: line {line}, column {error.colno}: not JSON: {error.msg}",
            "was fio interrupted? run it again with --output-format=json",
        ) from None
    return _table(path, "the document", document)


def _table(path: Path, what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(path, what, "is no object")
    return value


def _bad(path: Path, where: str, what: str) -> MeasurementFileError:
    return MeasurementFileError(f"{path}: {where}: {what}", "expected the output of fio --output-format=json")


def _clones(path: Path, jobs: list[Any], common: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The jobs, those that ``numjobs`` made of one together."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for number, job in enumerate(jobs):
        own = _table(path, f"job {number}", job)
        options = common | _table(path, f"job {number}, job options", own.get("job options", {}))
        is_clone = _whole(options.get("numjobs", "1")) > 1 and "group_reporting" not in options
        groups.setdefault((own.get("jobname"), own.get("groupid")) if is_clone else (number,), []).append(own)
    yield from groups.values()


def _unusable(clones: Sequence[dict[str, Any]], options: dict[str, Any]) -> str:
    """Why a job says nothing about reading the storage; empty if it does."""
    if any(job.get("error") for job in clones):
        return "fio reports an error"
    rw = str(options.get("rw", options.get("readwrite", "read"))).partition(":")[0]
    if rw not in _PATTERNS:
        return f"rw={rw} does not only read"
    if "bsrange" in options or "bssplit" in options:
        return "reads of several sizes"
    if any(name in options for name in _LIMITS):
        return "its rate was limited"
    is_direct = options.get("direct", "0") not in ("0", "false") or options.get("buffered") == "0"
    if not is_direct and options.get("ioengine") != "mmap":
        return "buffered: the page cache may have answered (use direct=1)"
    return ""


def _read(path: Path, name: str, clones: Sequence[dict[str, Any]], options: dict[str, Any]) -> FioRead:
    reads = [_table(path, f"job {name}, read", job.get("read")) for job in clones]
    rw = str(options.get("rw", options.get("readwrite", "read"))).partition(":")[0]
    text = str(options.get("bs", options.get("blocksize", "4k"))).partition(",")[0]
    block = size(text, _whole(options.get("kb_base", "1024")))
    if block is None:
        raise _bad(path, f"job {name}, bs", f"'{text}' is no size")
    engine = str(options.get("ioengine", "psync"))
    n_jobs = _whole(options.get("numjobs", "1"))
    depth = n_jobs * (1 if engine in _WAITING else _whole(options.get("iodepth", "1")))
    bandwidth = sum(_bandwidth(path, name, one) for one in reads)
    return FioRead(
        Access(_PATTERNS[rw], block, depth), bandwidth, _deviation(reads), _latency_s(reads[0]), engine == "mmap"
    )


def _bandwidth(path: Path, name: str, one: dict[str, Any]) -> float:
    value = one.get("bw_bytes")
    found = value if value is not None else _number(one.get("bw")) * KIB
    if _number(found) <= 0:
        raise _bad(path, f"job {name}, read.bw_bytes", f"{value!r} is no bandwidth")
    return float(found)


def _deviation(reads: Sequence[dict[str, Any]]) -> float:
    """Standard deviation of fio's samples of the bandwidth, over all clones. [bytes/s]"""
    if any(_number(one.get("bw_samples")) < 2 for one in reads):
        return 0.0
    return float(sum((_number(one.get("bw_dev")) * KIB) ** 2 for one in reads) ** 0.5)


def _latency_s(one: dict[str, Any]) -> float:
    """Mean completion latency: in ns since fio 3.0, in us before."""
    for key, factor in (("clat_ns", 1e-9), ("clat", 1e-6)):
        if isinstance(one.get(key), dict):
            return _number(one[key].get("mean")) * factor
    return 0.0


def size(text: str, kb_base: int) -> int | None:
    """A size as fio reads it: ``4k``, ``128KB``, ``1m``, ``4ki``, ``0x1000``; nothing where it is none. [bytes]"""
    match = re.fullmatch(r"\s*(0x[0-9a-f]+|\d+)\s*([kmgtp]?)(i?)b?\s*", text.lower())
    if not match:
        return None
    is_binary = bool(match[3]) == (kb_base == 1000)
    return int(match[1], 0) * (1024 if is_binary else 1000) ** " kmgtp".index(match[2] or " ") or None


def _whole(text: Any) -> int:
    return int(text) if str(text).strip().isdigit() and int(text) > 0 else 1


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def bandwidths(reads: Sequence[FioRead], source: str) -> dict[Access, Entry]:
    """A curve of the direct reads; points measured more than once get their median and percentiles."""
    groups: dict[Access, list[FioRead]] = {}
    for one in reads:
        if not one.is_mapped:
            groups.setdefault(one.access, []).append(one)
    return {access: _entry(group, source) for access, group in groups.items()}


def _entry(group: Sequence[FioRead], source: str) -> Entry:
    values = [one.bytes_per_s for one in group]
    middle = percentile(values, 50)
    spread = max(_Z90 * max(one.deviation for one in group), 0.0 if len(group) > 2 else _SPREAD * middle)
    low, high = min(middle - spread, percentile(values, 10)), max(middle + spread, percentile(values, 90))
    note = f"{len(group)} runs" if len(group) > 1 else ""
    return entry(middle, max(low, 0.05 * middle), high, "bytes_per_s", source, note)


def fault_overhead_s(reads: Sequence[FioRead]) -> float | None:
    """A 4 KiB page fault less a direct read of 4 KiB, both one at a time at random; nothing where either is missing."""
    page = Access("random", 4 * KIB, 1)
    found = {one.is_mapped: one.latency_s for one in reads if one.access == page and one.latency_s}
    return found[True] - found[False] if len(found) == 2 and found[True] > found[False] else None
