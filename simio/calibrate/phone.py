"""``simio calibrate --adb``: a device file of a phone, as far as one can be measured without installing anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

from simio import catalog
from simio.calibrate import phone_probes as plan
from simio.calibrate.adb import Phone, connect
from simio.calibrate.base_device import DOUBT, Draft
from simio.calibrate.direct_reads import Access
from simio.calibrate.document import check_id, curve_point, write
from simio.calibrate.quantities import assumed, entry, exactly, of_rounds, size
from simio.errors import UnknownNameError
from simio.profiling.host_memory import parse_meminfo
from simio.records.device import Device

COMMAND = "simio calibrate --adb"
#: For what a phone cannot tell, where it is none of the catalogue and no other is named.
FALLBACK = "pixel8"
#: Android keeps part of what is available for the foreground app's neighbours.
_USABLE_LOW = 0.7

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PhoneCalibration:
    """The device written, the device it starts from, which numbers were replaced, and what did not work."""

    device: Device
    base: str
    changed: tuple[str, ...]
    notes: tuple[str, ...]


def calibrate(
    output: Path, serial: str | None = None, base: str | None = None, progress: Progress = lambda done, total: None
) -> PhoneCalibration:
    """Probe the phone over adb and write ``output``. What it cannot tell comes from ``base`` with wide bounds.

    Raises ``MissingPackageError`` without adb, ``UsageError`` and ``AdbError`` where the phone cannot be reached.
    """
    stem = check_id(output)
    phone = connect(serial)
    facts = plan.properties(phone.run(plan.PROPERTIES))
    name = f"{facts.get('ro.product.manufacturer', '')} {facts.get('ro.product.model', 'phone')}".strip()
    draft = Draft(base or _closest(facts), stem)
    draft.table["name"] = name
    draft.table["soc"] = facts.get("ro.soc.model") or facts.get("ro.board.platform") or draft.device.soc
    note = f"{date.today().isoformat()}: {name}, Android {facts.get('ro.build.version.release', '?')}"
    reads, how = _reads(phone, progress)
    source = draft.add_source("adb", "measured", COMMAND, f"{note}; reads: {how}" if reads else note)
    notes = [] if reads else [how]
    _memory(draft, phone, source)
    _cores(draft, phone, source, notes)
    _storage(draft, phone, reads, source)
    draft.doubt("base", COMMAND, f"not measured: as {draft.device.id}, bounds of {DOUBT:.0%} to each side")
    return PhoneCalibration(write(draft.table, output), draft.device.id, tuple(draft.changed), tuple(notes))


def _closest(facts: dict[str, str]) -> str:
    """The catalogue's device of the phone's name, else ``FALLBACK``."""
    for key in ("ro.product.model", "ro.product.marketname", "ro.product.device"):
        try:
            return catalog.find(facts.get(key) or "-").stem
        except UnknownNameError:
            continue
    return FALLBACK


def _reads(phone: Phone, progress: Progress) -> tuple[dict[Access, list[float]], str]:
    """Bandwidths by access and how they were measured, or nothing and why not. The test file is removed."""
    fio = next((place for place in plan.FIO_PLACES if "fio-" in phone.run(plan.has_fio(place))), None)
    accesses = plan.DD_READS if fio is None else plan.FIO_READS
    try:
        said = phone.run(plan.WRITE)
        if "copied" not in said:
            return {}, f"the test file cannot be written: {_last_line(said)}"
        found: dict[Access, list[float]] = {}
        total = plan.ROUNDS * len(accesses)
        for done, (number, access) in enumerate((n, a) for n in range(plan.ROUNDS) for a in accesses):
            progress(done, total)
            said = phone.run(plan.dd(access, number) if fio is None else plan.fio(fio, access))
            value = plan.dd_bandwidth(said, access) if fio is None else _fio_bandwidth(said)
            if value is None:
                return {}, f"{'dd' if fio is None else 'fio'} cannot read directly there: {_last_line(said)}"
            found.setdefault(access, []).append(value)
        progress(total, total)
    finally:
        phone.run(plan.REMOVE)
    return found, "dd with O_DIRECT, in file order" if fio is None else "fio, psync threads with O_DIRECT"


def _fio_bandwidth(text: str) -> float | None:
    try:
        value = json.loads(text[text.index("{") :])["jobs"][0]["read"]["bw_bytes"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return float(value) or None


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no answer"


def _memory(draft: Draft, phone: Phone, source: str) -> None:
    fields = parse_meminfo(phone.run(plan.MEMORY))
    total, available = fields["MemTotal"], min(fields["MemAvailable"], fields["MemTotal"] - 1)
    draft.replace("memory.total", exactly(total, "bytes", source))
    bounds = _USABLE_LOW * available, available
    draft.replace("memory.usable", entry(available, *bounds, "bytes", source, "MemAvailable when measured"))


def _cores(draft: Draft, phone: Phone, source: str, notes: list[str]) -> None:
    """Clusters by highest clock. Their speeds are the base's where it has as many clusters, else the clocks' ratio."""
    clocks = plan.clocks_hz(phone.run(plan.CLOCKS))
    if not clocks:
        n = plan.n_processors(phone.run(plan.CPU))
        notes.append(f"the clocks of the {n} cores may not be read: clusters as {draft.device.id}")
        return
    groups = [(clock, clocks.count(clock)) for clock in sorted(set(clocks), reverse=True)]
    own = draft.device.cpu.clusters
    if [n for _, n in groups] != [cluster.n_cores for cluster in own]:
        table = [_cluster(clock, n, clocks[0], source) for clock, n in groups]
        draft.replace("cpu.clusters", table)
        draft.replace("cpu.default_threads", exactly(max(1, len(clocks) // 2), "1", source, "half of the cores"))
        if draft.table.pop("power", None) is not None:
            notes.append(f"no energy: the powers of {draft.device.id} are those of other cores")
        return
    for table, (clock, n) in zip(draft.table["cpu"]["clusters"], groups, strict=True):
        table |= {"clock": exactly(clock, "hz", source), "n_cores": exactly(n, "1", source)}
    draft.changed.append("cpu.clusters (cores and clocks)")


def _cluster(clock: float, n_cores: int, fastest: float, source: str) -> dict[str, object]:
    if clock == fastest:
        speed = exactly(1, "1", source)
    else:
        speed = assumed(
            clock / fastest, "1", "ratio of the clocks; smaller cores do less per cycle", high=1.4 * clock / fastest
        )
    name = f"cores at {clock / 1e9:.2f} GHz"
    return {"name": name, "n_cores": exactly(n_cores, "1", source), "clock": exactly(clock, "hz", source),
            "relative_speed": speed}  # fmt: skip


def _storage(draft: Draft, phone: Phone, reads: dict[Access, list[float]], source: str) -> None:
    window = plan.read_ahead_bytes(phone.run(plan.READ_AHEAD))
    if window is not None:
        draft.replace("storage.read_ahead", size(window, source, "read_ahead_kb of the block device"))
    if reads:
        points = [
            curve_point(a.pattern, a.block_bytes, a.queue_depth, of_rounds(values, "bytes_per_s", source))
            for a, values in reads.items()
        ]
        draft.replace_curve(points, [access.block_bytes for access in reads])
        largest = max(a.block_bytes for a in reads)
        depths = {a.queue_depth: median(v) for a, v in reads.items()
                  if a.block_bytes == largest and a.pattern == "sequential"}  # fmt: skip
        draft.replace("storage.best_queue_depth", exactly(max(depths, key=lambda d: depths[d]), "1", source))
