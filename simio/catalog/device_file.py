"""The schema of ``devices/<id>.toml``: which keys there are, their dimensions, and what must hold between them.

Every number is ``{ value, unit, source, low, high, note }``; ``low`` and ``high`` are the 10th and 90th percentile.
``block`` and ``queue_depth`` of a curve point are coordinates, not facts, and stand plain.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from simio import registry
from simio.catalog.reader import Problem, Reader
from simio.errors import DeviceFileError
from simio.records.device import Cluster, Cpu, Device, Memory, Power, Quantity, ReadPoint, Storage, Thermal
from simio.records.weight_types import GEMV_CLASSES

SCHEMA = 1
PATTERNS = ("random", "sequential")
#: Codecs whose decompression rate every device file gives.
CODECS = ("lz4", "zstd", "brotli")


def read(path: Path) -> Device:
    """The device described by ``path``; raises ``DeviceFileError`` naming ``file: table.key`` at the first problem."""
    device, problems = parse(_toml(path), path.stem)
    if problems:
        more = f" (and {len(problems) - 1} more: simio devices check {path})" if len(problems) > 1 else ""
        raise DeviceFileError(f"{path.name}: {problems[0]}{more}", problems[0].hint)
    return device


def check(path: Path | str) -> list[Problem]:
    """Everything wrong with the device file ``path``; empty when it is good.

    Raises ``DeviceFileError`` only where there is nothing to check: no such file, or not TOML.
    """
    return parse(_toml(Path(path)), Path(path).stem)[1]


def parse(top: dict[str, Any], stem: str) -> tuple[Device, list[Problem]]:
    """The device of a file's table and all that is wrong with it. ``stem``: the file's name without ``.toml``.

    With problems the device is half made up: use it only when there are none.
    """
    reader = Reader()
    reader.read_sources(reader.table(top, "", "sources"))
    needed = ("schema", "id", "name", "soc", "storage", "cpu", "memory", "sources")
    reader.keys(top, "", needed, ("aliases", "thermal", "power", "fit"))
    if top.get("schema", SCHEMA) != SCHEMA:
        reader.problem("schema", f"is {top['schema']!r}, this version reads {SCHEMA}")
    cpu = _cpu(reader, reader.table(top, "", "cpu"))
    device = Device(
        id=_id(reader, top, stem),
        name=reader.text(top, "", "name"),
        soc=reader.text(top, "", "soc"),
        storage=_storage(reader, reader.table(top, "", "storage")),
        cpu=cpu,
        memory=_memory(reader, reader.table(top, "", "memory")),
        sources=tuple(reader.sources.values()),
        aliases=_aliases(reader, top),
        thermal=_thermal(reader, reader.table(top, "", "thermal")) if "thermal" in top else None,
        power=_power(reader, reader.table(top, "", "power"), cpu) if "power" in top else None,
        residual=_residual(reader, top),
    )
    reader.unused_sources()
    return device, reader.problems


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise DeviceFileError(f"{path}: no such file", "simio devices list shows the catalogue") from None
    except OSError as error:
        raise DeviceFileError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DeviceFileError(f"{path}: not UTF-8 text at byte {error.start}", "a device file is TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise DeviceFileError(f"{path}: not valid TOML: {error}", "see https://toml.io") from None


def _id(reader: Reader, top: dict[str, Any], stem: str) -> str:
    found = reader.text(top, "", "id")
    if found and found != stem:
        reader.problem("id", f"'{found}' is not the file name '{stem}'", "rename one of them")
    elif found and not re.fullmatch(r"[a-z0-9][a-z0-9-]*", found):
        reader.problem("id", f"'{found}' is no id", "lower-case letters, digits and dashes")
    return found


def _aliases(reader: Reader, top: dict[str, Any]) -> tuple[str, ...]:
    found = top.get("aliases", [])
    if isinstance(found, list) and all(isinstance(alias, str) and alias for alias in found):
        return tuple(found)
    reader.problem("aliases", "expected a list of texts", 'write aliases = ["Pixel 8"]')
    return ()


def _storage(reader: Reader, table: dict[str, Any]) -> Storage:
    optional = ("folio", "fault_bandwidth")
    reader.keys(table, "storage", ("kind", "read_ahead", "fault_overhead", "best_queue_depth", "curve"), optional)
    curve = tuple(_point(reader, where, entry) for where, entry in reader.tables(table, "storage", "curve"))
    _no_twins(reader, curve)
    return Storage(
        kind=reader.text(table, "storage", "kind"),
        curve=curve,
        read_ahead_bytes=reader.quantity(table, "storage", "read_ahead", "bytes"),
        fault_overhead=reader.quantity(table, "storage", "fault_overhead", "s"),
        best_queue_depth=reader.count(table, "storage", "best_queue_depth"),
        folio_bytes=_optional(reader, table, "storage", "folio", "bytes"),
        fault_bandwidth=_optional(reader, table, "storage", "fault_bandwidth", "bytes_per_s"),
    )


def _optional(reader: Reader, table: dict[str, Any], where: str, key: str, dimension: str) -> Quantity | None:
    return reader.quantity(table, where, key, dimension) if key in table else None


def _point(reader: Reader, where: str, entry: dict[str, Any]) -> ReadPoint:
    reader.keys(entry, where, ("pattern", "block", "queue_depth", "bandwidth"))
    return ReadPoint(
        pattern=reader.text(entry, where, "pattern", PATTERNS),
        block_bytes=reader.size(entry, where, "block"),
        queue_depth=reader.whole(entry, where, "queue_depth"),
        bandwidth=reader.quantity(entry, where, "bandwidth", "bytes_per_s"),
    )


def _residual(reader: Reader, top: dict[str, Any]) -> Quantity | None:
    """``fit.residual``: standard deviation of log time that a fit to runs left unexplained; None without a fit."""
    if "fit" not in top:
        return None
    table = reader.table(top, "", "fit")
    reader.keys(table, "fit", ("residual",))
    return reader.quantity(table, "fit", "residual", "1")


def _no_twins(reader: Reader, curve: tuple[ReadPoint, ...]) -> None:
    seen: dict[tuple[str, int, int], int] = {}
    for i, point in enumerate(curve):
        key = (point.pattern, point.block_bytes, point.queue_depth)
        if key in seen and point.block_bytes:
            reader.problem(f"storage.curve[{i}]", f"same pattern, block and queue_depth as storage.curve[{seen[key]}]")
        seen.setdefault(key, i)


def _cpu(reader: Reader, table: dict[str, Any]) -> Cpu:
    known = ("default_threads", "layer_overhead", "clusters", "gemv", "prefill", "decompress")
    reader.keys(table, "cpu", known, ("parallel_efficiency", "thread_efficiency", "handover"))
    clusters = tuple(_cluster(reader, where, entry) for where, entry in reader.tables(table, "cpu", "clusters"))
    speeds = [cluster.relative_speed.value for cluster in clusters]
    if speeds and not reader.problems and (speeds[0] != 1 or speeds != sorted(speeds, reverse=True)):
        reader.problem(
            "cpu.clusters", "expected the fastest cluster first, with relative_speed 1, the slower ones after"
        )
    rates = {key: reader.table(table, "cpu", key) for key in ("gemv", "prefill", "decompress")}
    reader.keys(rates["gemv"], "cpu.gemv", GEMV_CLASSES)
    reader.keys(rates["prefill"], "cpu.prefill", ("default",), GEMV_CLASSES)
    reader.keys(rates["decompress"], "cpu.decompress", CODECS, _other_codecs(rates["decompress"]))
    cpu = Cpu(
        clusters=clusters,
        default_threads=reader.count(table, "cpu", "default_threads"),
        gemv=_rates(reader, rates["gemv"], "cpu.gemv", "bytes_per_s"),
        prefill=_rates(reader, rates["prefill"], "cpu.prefill", "flop_per_s"),
        decompress=_rates(reader, rates["decompress"], "cpu.decompress", "bytes_per_s"),
        layer_overhead=reader.quantity(table, "cpu", "layer_overhead", "s"),
        parallel_efficiency=_efficiency(reader, table, "parallel_efficiency"),
        thread_efficiency=_efficiency(reader, table, "thread_efficiency"),
        handover=_optional(reader, table, "cpu", "handover", "s"),
    )
    n_cores = sum(cluster.n_cores for cluster in clusters)
    if not reader.problems and cpu.default_threads > n_cores:
        reader.problem("cpu.default_threads", f"{cpu.default_threads} threads on {n_cores} cores")
    return cpu


def _efficiency(reader: Reader, table: dict[str, Any], key: str) -> Quantity | None:
    """An optional efficiency: at most 1, since company speeds no core up."""
    if key not in table:
        return None
    found = reader.quantity(table, "cpu", key, "1")
    if found.high > 1:
        what = f"reaches {found.high:g}, above 1"
        reader.problem(f"cpu.{key}", what, "it is the rate of a core with all cores busy ÷ alone")
    return found


def _cluster(reader: Reader, where: str, entry: dict[str, Any]) -> Cluster:
    reader.keys(entry, where, ("name", "n_cores", "clock", "relative_speed"))
    return Cluster(
        name=reader.text(entry, where, "name"),
        n_cores=reader.count(entry, where, "n_cores"),
        clock=reader.quantity(entry, where, "clock", "hz"),
        relative_speed=reader.quantity(entry, where, "relative_speed", "1"),
    )


def _rates(reader: Reader, table: dict[str, Any], where: str, dimension: str) -> dict[str, Quantity]:
    return {name: reader.quantity(table, where, name, dimension) for name in table}


def _other_codecs(rates: dict[str, Any]) -> list[str]:
    """Installed codecs beyond simio's own; the plug-ins are only looked up when a file names one."""
    return [] if rates.keys() <= set(CODECS) else registry.names("codecs")


def _memory(reader: Reader, table: dict[str, Any]) -> Memory:
    optional = (
        "reserve", "commit_bandwidth", "fresh_page", "page_cache_share", "swap_fault", "swap_onset", "swap_share",
    )  # fmt: skip
    reader.keys(table, "memory", ("total", "usable", "read_bandwidth"), optional)
    memory = Memory(
        total=reader.quantity(table, "memory", "total", "bytes"),
        usable=reader.quantity(table, "memory", "usable", "bytes"),
        read_bandwidth=reader.quantity(table, "memory", "read_bandwidth", "bytes_per_s"),
        reserve=_optional(reader, table, "memory", "reserve", "bytes"),
        commit_bandwidth=_optional(reader, table, "memory", "commit_bandwidth", "bytes_per_s"),
        fresh_page=_optional(reader, table, "memory", "fresh_page", "s"),
        page_cache_share=_optional(reader, table, "memory", "page_cache_share", "1"),
        swap_fault=_optional(reader, table, "memory", "swap_fault", "s"),
        swap_onset=_optional(reader, table, "memory", "swap_onset", "bytes"),
        swap_share=_optional(reader, table, "memory", "swap_share", "1"),
    )
    if not reader.problems and memory.usable.value >= memory.total.value:
        reader.problem("memory.usable", "is not less than memory.total", "usable is what one app gets")
    if (memory.swap_onset is None) != (memory.swap_share is None):
        there, other = ("swap_share", "swap_onset") if memory.swap_onset is None else ("swap_onset", "swap_share")
        reader.problem(f"memory.{other}", f"is missing beside memory.{there}", "one says nothing without the other")
    if memory.swap_share is not None and memory.swap_share.high > 1:
        reader.problem("memory.swap_share", "reaches above 1", "it is a share of what the system lacks")
    return memory


def _thermal(reader: Reader, table: dict[str, Any]) -> Thermal:
    dimensions = {"time_constant": "s", "cpu_share": "1", "storage_share": "1", "cool": "degc", "hot": "degc"}
    reader.keys(table, "thermal", dimensions)
    found = Thermal(**{key: reader.quantity(table, "thermal", key, unit) for key, unit in dimensions.items()})
    for key in ("cpu_share", "storage_share"):
        if getattr(found, key).high > 1 and not reader.problems:
            reader.problem(f"thermal.{key}", "reaches above 1", "it is the rate when hot ÷ the rate when cool")
    if not reader.problems and found.hot.value <= found.cool.value:
        reader.problem("thermal.hot", "is not above thermal.cool")
    return found


def _power(reader: Reader, table: dict[str, Any], cpu: Cpu) -> Power:
    reader.keys(table, "power", ("baseline", "core", "dram", "storage_read"))
    core = reader.table(table, "power", "core")
    reader.keys(core, "power.core", [cluster.name for cluster in cpu.clusters])
    return Power(
        baseline=reader.quantity(table, "power", "baseline", "w"),
        core=_rates(reader, core, "power.core", "w"),
        dram=reader.quantity(table, "power", "dram", "j_per_byte"),
        storage_read=reader.quantity(table, "power", "storage_read", "w"),
    )
