"""``simio calibrate --from``: a device file from results people already have — fio, llama-bench, lzbench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simio.calibrate import fio_results, llama_bench_results, lzbench_results
from simio.calibrate.base_device import Draft
from simio.calibrate.document import check_id, curve_point, write
from simio.calibrate.fio_results import FioRead
from simio.calibrate.llama_bench_results import LlamaRate
from simio.calibrate.lzbench_results import Decompression
from simio.calibrate.quantities import entry, exactly, percentile
from simio.errors import MeasurementFileError, UsageError
from simio.importers.llama_bench import LlamaBench
from simio.records.device import Device
from simio.service_times import split_speed

KINDS = "fio --output-format=json, llama-bench -o json or jsonl, lzbench -o4 (CSV)"
COMMAND = "simio calibrate --from"
_START = 1 << 16


@dataclass(slots=True)
class Results:
    """Everything the files say, by tool, with the files' names."""

    reads: list[FioRead] = field(default_factory=list)
    rates: list[LlamaRate] = field(default_factory=list)
    decompression: list[Decompression] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Refined:
    """The device written, which of its numbers were replaced, and what of the results could not be used."""

    device: Device
    changed: tuple[str, ...]
    skipped: tuple[str, ...]


def refine(files: Sequence[Path], base: str | None, output: Path) -> Refined:
    """Write ``output``: the device ``base`` with its numbers replaced by those in ``files``.

    Raises ``UsageError`` without a base, saying what the results lack, and for a file nobody understands;
    ``MeasurementFileError`` for a damaged one, naming the place.
    """
    stem = check_id(output)
    results = read_all(files)
    if base is None:
        raise _no_base(results)
    draft = Draft(base, stem)
    _storage(draft, results)
    _llama(draft, results)
    _decompression(draft, results)
    if not draft.changed:
        reasons = "\n  ".join(results.skipped)
        raise UsageError(
            f"nothing in the results can be used:\n  {reasons}", "measure direct reads, CPU and dense models"
        )
    return Refined(write(draft.table, output), tuple(draft.changed), tuple(results.skipped))


def read_all(files: Sequence[Path]) -> Results:
    """The results in ``files``, whatever tool each is from."""
    results = Results()
    for path in files:
        _read(path, results)
    return results


def _read(path: Path, results: Results) -> None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file", f"give results of {KINDS}")
    with path.open("rb") as file:
        start = file.read(_START).decode("utf-8", errors="replace")
    if fio_results.sniff(start):
        found = fio_results.read(path)
        results.reads += found.reads
        results.skipped += found.skipped
        results.versions.add(found.version)
        tool = "fio"
    elif LlamaBench.sniff(path):
        rates, skipped = llama_bench_results.read(path)
        results.rates += rates
        results.skipped += skipped
        tool = "llama-bench"
    elif lzbench_results.sniff(path):
        results.decompression += lzbench_results.read(path)
        tool = "lzbench"
    else:
        raise MeasurementFileError(f"{path}: is not a file of results that simio understands", f"it reads {KINDS}")
    results.files.setdefault(tool, []).append(path.name)


def _no_base(results: Results) -> UsageError:
    """What a whole device file needs that the results do not have, and where it comes from."""
    lacks = [
        ("memory.total, usable and read_bandwidth", "no benchmark file says", True),
        ("cpu.clusters, default_threads and layer_overhead", "no benchmark file says", True),
        ("storage.read_ahead and fault_overhead", "no benchmark file says", True),
        ("storage.curve", "fio --direct=1 --rw=read --bs=1m --iodepth=4 --output-format=json", not results.reads),
        ("cpu.gemv and cpu.prefill of every weight type", "llama-bench -p 512 -n 128 -o json, a model of each", True),
        ("cpu.decompress", "lzbench -ezstd,1/lz4/brotli,1 -o4 FILE", not results.decompression),
    ]
    lines = "\n  ".join(f"{what} ({how})" for what, how, is_missing in lacks if is_missing)
    return UsageError(
        f"the results do not make a whole device file; they lack\n  {lines}",
        "name a device like yours for the rest, --device BASE (`simio devices list`), or use `simio calibrate host`",
    )


def _storage(draft: Draft, results: Results) -> None:
    if not results.reads:
        return
    direct = "io through " + ", ".join(sorted(results.versions)) + ", O_DIRECT: " + ", ".join(results.files["fio"])
    source = draft.add_source("fio", "measured", f"{COMMAND} {results.files['fio'][0]}", direct)
    curve = fio_results.bandwidths(results.reads, source)
    if curve:
        points = [curve_point(a.pattern, a.block_bytes, a.queue_depth, found) for a, found in curve.items()]
        draft.replace_curve(points, [access.block_bytes for access in curve])
        _best_depth(draft, results.reads, source)
    fault = fio_results.fault_overhead_s(results.reads)
    if fault is not None:
        note = "a page fault on 4 KiB less a direct read of 4 KiB"
        draft.replace("storage.fault_overhead", entry(fault, fault / 2, 2 * fault, "s", source, note))


def _best_depth(draft: Draft, reads: Sequence[FioRead], source: str) -> None:
    """The fastest depth of the largest block that was measured at several, of sequential reads if possible."""
    depths: dict[tuple[int, str], dict[int, float]] = {}
    for one in reads:
        if not one.is_mapped:
            depths.setdefault((one.access.block_bytes, one.access.pattern), {})[one.access.queue_depth] = (
                one.bytes_per_s
            )
    several = {key: rates for key, rates in depths.items() if len(rates) > 1}
    if several:
        rates = several[max(several)]  # sequential before random
        draft.replace("storage.best_queue_depth", exactly(max(rates, key=lambda d: rates[d]), "1", source))


def _llama(draft: Draft, results: Results) -> None:
    if not results.rates:
        return
    cpu = draft.device.cpu
    files = ", ".join(results.files["llama-bench"])
    note = f"{files}; weights in RAM; a core's rate is the threads' together ÷ their cores"
    source = draft.add_source("llama-bench", "measured", f"{COMMAND} {results.files['llama-bench'][0]}", note)
    fastest = 0.0
    for name, rates in llama_bench_results.by_class(results.rates, "gemv").items():
        fewest = [rate for rate in rates if rate.n_threads == rates[0].n_threads]
        cores = split_speed(cpu, fewest[0].n_threads)
        values = [value / cores for rate in fewest for value in rate.rates]
        lowest = percentile(values, 10) * (
            1.0 if all(r.is_exact for r in fewest) else 1 - llama_bench_results.TABLE_SHARE
        )
        note = f"{len(values)} repetitions, {fewest[0].n_threads} threads"
        draft.replace(
            f"cpu.gemv.{name}",
            entry(percentile(values, 50), lowest, percentile(values, 90), "bytes_per_s", source, note),
        )
        fastest = max([fastest, *(percentile(rate.rates, 50) for rate in rates)])
    if fastest > draft.device.memory.read_bandwidth.value:
        note = "at least what all threads of a matrix-vector product read"
        draft.replace(
            "memory.read_bandwidth", entry(fastest, 0.9 * fastest, 1.3 * fastest, "bytes_per_s", source, note)
        )
    for name, rates in llama_bench_results.by_class(results.rates, "prefill").items():
        most = [rate for rate in rates if rate.n_threads == rates[-1].n_threads]
        scale = split_speed(cpu, cpu.default_threads) / split_speed(cpu, most[0].n_threads)
        values = [value * scale for rate in most for value in rate.rates]
        bounds = percentile(values, 10), percentile(values, 90)
        draft.replace(f"cpu.prefill.{name}", entry(percentile(values, 50), *bounds, "flop_per_s", source))


def _decompression(draft: Draft, results: Results) -> None:
    if not results.decompression:
        return
    name = results.files["lzbench"][0]
    note = "decompression speed of other data than weights: bounds of 40 % to each side"
    source = draft.add_source("lzbench", "inferred", f"{COMMAND} {name}", note)
    for codec, row in lzbench_results.best_known(results.decompression).items():
        rate, spread = row.bytes_per_s, lzbench_results.SPREAD
        said = f"{row.name} on {row.of}" if row.of else row.name
        bounds = (1 - spread) * rate, (1 + spread) * rate
        draft.replace(f"cpu.decompress.{codec}", entry(rate, *bounds, "bytes_per_s", source, said))
