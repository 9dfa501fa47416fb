"""``simio calibrate host``: measure this machine, and write what was measured as a device file."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simio.calibrate import computing, fio, foreign, host_table, kernels, overheads, page_faults, storage
from simio.calibrate.direct_reads import Access, AsARun
from simio.calibrate.document import check_id, write
from simio.calibrate.machine import core_groups
from simio.calibrate.rounds import Probe, Series, measure_all, schedule
from simio.calibrate.scratch_file import ScratchFile, scratch_file
from simio.errors import UnknownNameError, UsageError
from simio.records.device import Device
from simio.units import MIB

ENGINES = ("auto", "fio", "builtin")
BUDGET_S, LEAST_BUDGET_S, MOST_BUDGET_S = 150.0, 2.0, 180.0
#: Shares of the budget: at most for writing the test file; kept back for set-up and the last rounds' overrun.
_WRITING, _KEPT = 0.15, 0.06
#: Names of series.
HAND_OVER, READ_CALL, LAYER, THREADS = "hand over", "read call", "layer", "threads"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A device file that was written, and the rounds behind it: ``rounds[series]`` in SI, in the order measured."""

    device: Device
    rounds: Series
    engine: str
    round_s: float
    elapsed_s: float
    foreign_cpus: float  # processors' worth of time that other processes used meanwhile


def calibrate(
    output: Path,
    folder: Path | None = None,
    engine: str = "auto",
    budget_s: float = BUDGET_S,
    progress: Progress = lambda done, total: None,
) -> Calibration:
    """Measure this machine for about ``budget_s`` and write ``output``. ``folder``: where the test file goes.

    Raises ``UsageError``, ``WriteError``, ``MissingPackageError`` (fio), ``FioError`` and ``UnknownNameError``.
    """
    check_id(output)
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if not LEAST_BUDGET_S <= budget_s <= MOST_BUDGET_S:
        raise UsageError(f"--budget {budget_s:g}", f"give {LEAST_BUDGET_S:g} to {MOST_BUDGET_S:g} seconds")
    if engine == "fio":
        fio.version()
    folder = output.resolve().parent if folder is None else folder
    begin_s, before = time.monotonic(), foreign.now()

    def writing(done: int, total: int) -> None:
        progress(done // MIB, total // MIB)

    with (
        scratch_file(folder, _WRITING * budget_s, writing) as file,
        kernels.one_blas_thread(),
        overheads.Layers() as layers,
    ):
        groups = core_groups()
        cores = computing.Cores(groups, kernels.working_set_bytes())
        found = host_table.Found(file, folder, groups, cores, host_table.best_threads(groups))
        probes = [
            *_storage(file, engine),
            *page_faults.probes(file),
            *cores.probes(found.default_threads),
            *_calls(file, layers, found.default_threads),
        ]
        plan = schedule(probes, begin_s + (1 - _KEPT) * budget_s - time.monotonic())
        rounds = measure_all(probes, begin_s + budget_s, plan, progress, load=_watch)
        others = foreign.cpus_since(before)
        words = f"rounds of {plan.round_s:.2g} s; other processes used {others:.2f} CPUs meanwhile"
        table = host_table.build(output.stem, found, rounds, _engine_words(engine), words)
    device = write(table, output)
    return Calibration(device, rounds, _engine_words(engine), plan.round_s, time.monotonic() - begin_s, others)


def _storage(file: ScratchFile, engine: str) -> list[Probe]:
    """``auto``: fio where it is installed, but the runtime's own way of reading for what a streaming run reads."""
    if engine == "builtin" or (engine == "auto" and not fio.is_installed()):
        return storage.probes(file, AsARun())
    if engine == "fio":
        return storage.probes(file, fio.bandwidth, fio.EXTRA_S)

    as_a_run = AsARun()

    def either(file: ScratchFile, access: Access, duration_s: float, rng: random.Random) -> float:
        own = as_a_run if storage.is_main(access) else fio.bandwidth
        return own(file, access, duration_s, rng)

    return storage.probes(file, either, fio.EXTRA_S)


def _engine_words(engine: str) -> str:
    if engine == "builtin" or not fio.is_installed():
        return "preadv with O_DIRECT"
    words = f"{fio.version()} with O_DIRECT"
    return words if engine == "fio" else f"{words}, and preadv for 1 MiB and more up to 4 deep"


def _calls(file: ScratchFile, layers: overheads.Layers, n_threads: int) -> list[Probe]:
    shared = Probe(THREADS, lambda s: {THREADS: layers.thread_efficiency(n_threads, s)}, every=2)
    return [
        *([shared] if n_threads > 1 else []),
        Probe(HAND_OVER, lambda s: {HAND_OVER: overheads.hand_over_s(s)}, every=2, share=0.3),
        Probe(READ_CALL, lambda s: {READ_CALL: overheads.read_call_s(file, s)}, every=2, share=0.3),
        Probe(LAYER, lambda s: {LAYER: layers.overhead_s(s)}, every=2),
    ]


def _watch() -> Callable[[], bool]:
    """Begin to watch other processes; what is returned says whether they disturbed."""
    begin = foreign.now()
    return lambda: foreign.is_disturbed(foreign.cpus_since(begin))


def to_json(found: Calibration) -> dict[str, Any]:
    """The device with every number, and the rounds behind it."""
    from simio import catalog

    return {
        "device": catalog.to_json(found.device),
        "engine": found.engine,
        "round_s": found.round_s,
        "elapsed_s": found.elapsed_s,
        "foreign_cpus": found.foreign_cpus,
        "rounds": found.rounds,
    }
