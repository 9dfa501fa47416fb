"""The device file of this machine, from the rounds measured on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from simio.calibrate import computing, decompression, kernels, machine, page_faults, storage
from simio.calibrate.document import SCHEMA, curve_point, source
from simio.calibrate.machine import CoreGroup
from simio.calibrate.quantities import Entry, assumed, entry, exactly, of_rounds, size
from simio.calibrate.rounds import Series
from simio.calibrate.scratch_file import ScratchFile, file_system
from simio.profiling.host import cpu_name
from simio.profiling.host_memory import memory_bytes

COMMAND = "simio calibrate host"
ME = "calibrate"
_LEAST_FAULT_S = 1e-7
_LAYER = "a streaming decoder's token less its kernels, per layer: norms, rotation, attention, sampling, the runtime"
#: One process seldom gets the last tenth of the RAM that is available.
_USABLE_LOW = 0.9
#: What a weight type without a kernel is taken as: (measured type, share of its rate).
_LIKE = {
    "int4": ("q4_0", 1.0), "iq4": ("q4_0", 0.5), "iq3": ("q3_k", 0.5), "iq2": ("q2_k", 0.5), "mxfp4": ("q4_0", 0.5),
    "fp8": ("f16", 0.5),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured on: the test file, its folder, the cores."""

    file: ScratchFile
    folder: Path
    groups: list[CoreGroup]
    cores: computing.Cores
    default_threads: int


def best_threads(groups: Sequence[CoreGroup]) -> int:
    """Threads that share a matrix fastest: n × the clock of the slowest used (C2)."""
    clocks = [group.clock_hz or 1.0 for group in groups for _ in group.cpus]
    return max(range(1, len(clocks) + 1), key=lambda n: n * clocks[n - 1])


def build(stem: str, found: Found, rounds: Series, engine: str, words: str) -> dict[str, Any]:
    """The whole table of ``stem``.toml."""
    note = f"{date.today().isoformat()}: {cpu_name()}, {machine.versions()}; reads: {engine}; {words}"
    return {
        "schema": SCHEMA,
        "id": stem,
        "name": f"{cpu_name()}, {found.cores.n_cores} cores",
        "soc": cpu_name(),
        "storage": _storage(found, rounds),
        "cpu": _cpu(found, rounds),
        "memory": _memory(rounds),
        "sources": {ME: source("measured", COMMAND, note)},
    }


def _storage(found: Found, rounds: Series) -> dict[str, Any]:
    window = page_faults.read_ahead_bytes(found.folder)
    folio = page_faults.folio_bytes(found.folder)
    fault = of_rounds(rounds[page_faults.FAULT], "s", ME, "a fault on one cold page less a direct read of it",
                      least=_LEAST_FAULT_S)  # fmt: skip
    table: dict[str, Any] = {
        "kind": _storage_kind(found.folder),
        "best_queue_depth": exactly(storage.best_queue_depth(rounds), "1", ME),
        "read_ahead": assumed(page_faults.DEFAULT_READ_AHEAD, "bytes", "Linux's default; the device does not say")
        if window is None
        else size(window, ME, "read_ahead_kb of the block device"),
        "fault_overhead": fault,
    }
    if folio is not None:
        table["folio"] = size(folio, ME, "large folios of ext4 since Linux 6.16")
    points = storage.curve(rounds, ME)
    return table | {"curve": points + _mapped_point(rounds, window or page_faults.DEFAULT_READ_AHEAD)}


def _mapped_point(rounds: Series, window: int) -> list[dict[str, Any]]:
    """Reading through page faults in order, as a point of the curve at the read-ahead's size, where none is yet."""
    if window in storage.BLOCKS or window == 0:
        return []
    note = "page faults in file order through a mapping announced as sequential"
    return [curve_point("sequential", window, 1, of_rounds(rounds[page_faults.MAPPED], "bytes_per_s", ME, note))]


def _storage_kind(folder: Path) -> str:
    device = os.stat(folder).st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    name = place.resolve().name if place.exists() else "unknown device"
    return f"{name}, {file_system(folder) or 'unknown file system'}"


def _cpu(found: Found, rounds: Series) -> dict[str, Any]:
    gemv = _gemv(rounds)
    n = found.default_threads
    prefill = {c: of_rounds(rounds[f"prefill/{c}/{n}"], "flop_per_s", ME) for c in computing.PREFILL
               if f"prefill/{c}/{n}" in rounds}  # fmt: skip
    table: dict[str, Any] = {
        "default_threads": exactly(n, "1", ME),
        "layer_overhead": of_rounds(rounds["layer"], "s", ME, _LAYER, least=1e-6),
        "clusters": _clusters(found.groups, rounds),
        "gemv": gemv,
        "prefill": {"default": next(iter(prefill.values()))} | prefill,
        "decompress": {c: _decompress(c, rounds) for c in decompression.CODECS},
    }
    if computing.PARALLEL in rounds:
        note = "rate of each core with all of them at work ÷ alone: matrix-vector products, decompression, and both"
        table["parallel_efficiency"] = of_rounds(rounds[computing.PARALLEL], "1", ME, note)
    if "threads" in rounds:
        note = f"{n} compute threads sharing every matrix of a decoder ÷ {n} times one, fork and join included"
        table["thread_efficiency"] = of_rounds(rounds["threads"], "1", ME, note)
    return table


def _decompress(codec: str, rounds: Series) -> Entry:
    of = "INT8 codes that repeat" if codec == "lz4" else "the reference buffer"
    note = f"{decompression.CODECS[codec]}, one worker on {of}, checksums included"
    return of_rounds(rounds[f"decompress/{codec}/1"], "bytes_per_s", ME, note)


def _gemv(rounds: Series) -> dict[str, Entry]:
    table = {}
    for name in kernels.TYPES:
        if f"gemv/{name}/1" in rounds:
            table[name] = of_rounds(rounds[f"gemv/{name}/1"], "bytes_per_s", ME)
        else:
            like, share = _LIKE[name]
            value = share * median(rounds[f"gemv/{like}/1"])
            table[name] = assumed(value, "bytes_per_s", f"no kernel for it here: {share:g} of {like}")
    return table


def _clusters(groups: list[CoreGroup], rounds: Series) -> list[dict[str, Any]]:
    speeds = [[1.0]] + [rounds[f"relative/{k}"] for k in range(1, len(groups))]
    order = sorted(range(1, len(groups)), key=lambda k: -median(speeds[k]))
    return [_cluster(groups[k], speeds[k]) for k in [0, *order]]


def _cluster(group: CoreGroup, speeds: list[float]) -> dict[str, Any]:
    clock = (
        exactly(group.clock_hz, "hz", ME) if group.clock_hz else assumed(2e9, "hz", "not stated; no equation uses it")
    )
    name = f"cores at {group.clock_hz / 1e9:.2f} GHz" if group.clock_hz else "cores"
    bounded = [min(1.0, speed) for speed in speeds]
    speed = of_rounds(bounded, "1", ME)
    return {"name": name, "n_cores": exactly(len(group.cpus), "1", ME), "clock": clock, "relative_speed": speed}


def _memory(rounds: Series) -> dict[str, Any]:
    total, available = memory_bytes()
    usable = min(available, total - 1)
    return {
        "total": exactly(total, "bytes", ME),
        "usable": entry(usable, _USABLE_LOW * usable, usable, "bytes", ME, "MemAvailable, or the limit of the cgroup"),
        "read_bandwidth": of_rounds(rounds[computing.MEMORY], "bytes_per_s", ME, "numpy reductions on all threads"),
    }
