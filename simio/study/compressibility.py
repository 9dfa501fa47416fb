"""Every layout × codec over a model's real weights: stored bytes, their bound, the rate they come back at, their worth.

The question of "On the Compressibility of Quantized Large Language Models" (arXiv 2403.01384). A first pass reads every
matrix once: digest and range. Then one job a matrix and layout, on threads; each result goes to the journal, keyed by
content. Rates are measured last, alone. Nothing else depends on the machine or the number of workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from math import isfinite

from simio.codecs.base import Codec
from simio.errors import ModelFileError, UsageError
from simio.formats.weights import WeightsReader
from simio.profiling.chunking import WeightsSource, check_chunk_bytes
from simio.profiling.host import cpu_name, host_facts, n_usable_cpus
from simio.profiling.memory import keep_freed_memory
from simio.profiling.workers import for_each
from simio.quant.contract import Activations, Quantizer
from simio.records.compressibility import (
    Compressibility,
    CompressibilityRow,
    Decompression,
    SkippedLayout,
)
from simio.records.device import Device
from simio.records.model import Model
from simio.records.quality import LayoutQuality
from simio.study import rates
from simio.study.calibration import Calibration, looks_at_activations, on_disk
from simio.study.journal import StudyJournal, codec_id, fingerprint, key_of
from simio.study.matrices import RUN_WEIGHTS, WHOLE_WEIGHTS, WeightMatrix, matrices
from simio.study.quantizing import Stopped, Surveyed, compress_matrix, set_up
from simio.study.rows import Layout, kept_tensor
from simio.study.tally import Outcome
from simio.units import MIB

#: Called with (bytes done, bytes in all) of weights as FP16, each counted once a layout.
Progress = Callable[[int, int], None]

#: More threads than this would take more than 2 GB.
MOST_WORKERS = 4

NEEDS_ACTIVATIONS = "needs its inputs on a calibration text"


@dataclass(frozen=True, slots=True)
class _Study:
    """What is asked for."""

    quantizers: list[Quantizer]
    prints: Mapping[str, str]  # fingerprints by name
    codecs: list[Codec]
    chunk_bytes: int
    n_workers: int
    calibration: Calibration | None
    source: WeightsSource
    journal: StudyJournal | None
    references: rates.References


def study(
    model: Model,
    quantizers: Sequence[Quantizer],
    codecs: Sequence[Codec],
    *,
    devices: Sequence[Device] = (),
    chunk_bytes: int = MIB,
    n_workers: int | None = None,
    progress: Progress | None = None,
    journal: StudyJournal | None = None,
    calibration: Calibration | None = None,
    qualities: Mapping[str, LayoutQuality] | None = None,
) -> Compressibility:
    """Study every matrix of ``model`` under every layout and codec; break-even on ``devices``.

    ``qualities`` are those of a decoder under the layouts, by ``Quantizer.name``. With ``journal``, what is known is
    not computed again; interrupted, it keeps what is done. Layouts that need activations are skipped without
    ``calibration``.

    Raises ``UsageError`` for a preset, a container, a model without matrices, an option or a token out of range,
    ``ModelFileError`` when weights cannot be read or none is a number other than 0, ``WriteError`` when the journal
    or a temporary file cannot be written.
    """
    check_chunk_bytes(chunk_bytes)
    if n_workers is not None and n_workers < 1:
        raise UsageError(f"cannot work with {n_workers} workers", "leave it out to use every core")
    found, kept = matrices(model)
    if not found:
        why = f"{kept[0].tensor}: {kept[0].reason}" if kept else "the file has no tensors"
        raise UsageError(f"{model.name} has no matrix that can be quantized ({why})", "give the unquantized model")
    able = [q for q in quantizers if calibration is not None or not q.needs_activations]
    skipped = [SkippedLayout(q.name, NEEDS_ACTIVATIONS) for q in quantizers if q not in able]
    keep_freed_memory()
    with WeightsReader(model) as source, journal or nullcontext():
        workers = n_workers or min(n_usable_cpus(), MOST_WORKERS)
        prints = {q.name: fingerprint(q) for q in able}
        asked = _Study(
            able, prints, list(codecs), chunk_bytes, workers, calibration, source, journal, rates.References({})
        )
        meter = _Meter(2 * sum(m.n_weights for m in found) * (1 + len(able)), progress)
        surveyed = _survey(asked, found, meter)
        finite = [s for s in surveyed if isfinite(s.summary.mean_square)]
        _check_any(model, surveyed)
        kept += [kept_tensor(s, "the weights hold NaN or infinity") for s in surveyed if s not in finite]
        meter.total = meter.done + 2 * sum(s.matrix.n_weights for s in finite) * len(able)
        outcomes, inputs = _compress(asked, finite, meter)
        measured = {q.name: _rates(asked, q, finite, inputs) for q in able}
    rows: list[CompressibilityRow] = []
    for q in able:
        layout = Layout(q, finite, outcomes[q.name], kept, (qualities or {}).get(q.name))
        if any(isinstance(outcome, Outcome) for outcome in layout.outcomes.values()):
            rows += [layout.row(codec, measured[q.name][codec.name], devices) for codec in codecs]
        else:
            skipped.append(SkippedLayout(q.name, f"it takes no tensor: {layout.all_kept()[-1].reason}"))
    host = host_facts(", ".join(dict.fromkeys(codec.library_version for codec in codecs)))
    return Compressibility(model.name, model.digest, chunk_bytes, host, tuple(rows), tuple(skipped))


def _check_any(model: Model, surveyed: Sequence[Surveyed]) -> None:
    """Raises ``ModelFileError`` where there is nothing to measure: NaN everywhere, or zeros."""
    squares = [s.summary.mean_square for s in surveyed]
    if not any(map(isfinite, squares)):
        holds = "NaN or infinity"
    elif not any(squares):
        holds = "zeros only"
    else:
        return
    raise ModelFileError(
        f"{model.name}: all {len(surveyed)} matrices hold {holds}, so nothing was measured",
        "give the trained weights; is the file what its publisher made?",
    )


class _Meter:
    """Counts weights from any thread, reports from the main one, and ends jobs that were told to stop."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self.done = 0
        self.stopping = threading.Event()
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, n_weights: int) -> None:
        """Weights that are done; raises ``Stopped`` when the study ends early."""
        with self._lock:
            self.done += 2 * n_weights
        if self.stopping.is_set():
            raise Stopped

    def report(self, journal: StudyJournal | None) -> Callable[[int], None]:
        """The tick of ``for_each``."""

        def tick(_: int) -> None:
            if journal is not None:
                journal.flush()
            if self._progress is not None:
                self._progress(self.done, self.total)

        return tick


def _for_each(asked: _Study, n: int, job: Callable[[int], None], meter: _Meter) -> None:
    def run(index: int) -> int:
        try:
            job(index)
        except Stopped:
            return 0
        return 1

    for_each(range(n), run, asked.n_workers, meter.report(asked.journal), meter.stopping)
    meter.stopping.clear()


def _survey(asked: _Study, found: Sequence[WeightMatrix], meter: _Meter) -> list[Surveyed]:
    """Digest and summary of every matrix, in order; large ones are read first."""
    order = sorted(range(len(found)), key=lambda i: -found[i].n_weights)
    surveyed: dict[int, Surveyed] = {}

    def survey(index: int) -> None:
        matrix = found[order[index]]
        digest = matrix.digest(asked.source)
        key = key_of("summary", digest, RUN_WEIGHTS)
        summary = asked.journal.find_summary(key) if asked.journal else None
        if summary is None:
            summary = matrix.summary(asked.source)
            if asked.journal:
                asked.journal.add_summary(key, summary)
        surveyed[order[index]] = Surveyed(matrix, digest, summary)
        meter.add(matrix.n_weights)

    _for_each(asked, len(order), survey, meter)
    return [surveyed[i] for i in range(len(found))]


#: By layout name, then by place among the matrices: what was found, or why the matrix is kept as it is.
_Outcomes = dict[str, dict[int, Outcome | str]]


@dataclass(frozen=True, slots=True)
class _Job:
    """A matrix under a layout: what the journal knows of it (or why it is refused), and which codecs it does not."""

    place: int
    quantizer: Quantizer
    key: str
    known: Outcome | str | None
    missing: list[Codec]


def _compress(asked: _Study, found: Sequence[Surveyed], meter: _Meter) -> tuple[_Outcomes, Mapping[str, Activations]]:
    """Every matrix under every layout; and the inputs of those that rates are measured on, if a decoder was run.

    Large matrices first, so that workers end together; those whose inputs matter, as the decoder comes by.
    """
    outcomes: _Outcomes = {q.name: {} for q in asked.quantizers}
    waiting: dict[str, list[_Job]] = {}  # for the inputs of a tensor
    at_once: list[_Job] = []
    told = asked.calibration.tensors if asked.calibration else frozenset()
    for job in _jobs(asked, found):
        tensor = found[job.place].matrix.tensor.name
        if job.known is not None and not job.missing:
            outcomes[job.quantizer.name][job.place] = job.known
            meter.add(found[job.place].matrix.n_weights)
        elif looks_at_activations(job.quantizer) and tensor in told:
            waiting.setdefault(tensor, []).append(job)
        else:
            at_once.append(job)

    def compress(jobs: Sequence[_Job], inputs: Activations | None = None) -> None:
        def one(index: int) -> None:
            job = jobs[index]
            outcomes[job.quantizer.name][job.place] = _outcome(asked, found[job.place], job, inputs, meter)

        _for_each(asked, len(jobs), one, meter)

    compress(at_once)
    kept: dict[str, Activations] = {}
    sampled = rates.sampled(found) if _lacks_rates(asked, found) else []
    wanted = told & {surveyed.matrix.tensor.name for surveyed in sampled}
    if asked.calibration and (waiting or wanted):
        with closing(asked.calibration.run()) as run:
            for tensor, inputs in run:
                compress(waiting.pop(tensor, []), inputs)
                if tensor in wanted:
                    kept[tensor] = on_disk(inputs)
                del inputs  # before the next layer's are made
                if not waiting and wanted <= kept.keys():
                    break
    return outcomes, kept


def _jobs(asked: _Study, found: Sequence[Surveyed]) -> Iterator[_Job]:
    sizes = (RUN_WEIGHTS, WHOLE_WEIGHTS, asked.chunk_bytes)
    for place in sorted(range(len(found)), key=lambda i: -found[i].matrix.n_weights):
        surveyed = found[place]
        for q in asked.quantizers:
            seen = asked.calibration if looks_at_activations(q) else None
            inputs = (seen.digest, surveyed.matrix.tensor.name) if seen else ""
            key = key_of("outcome", surveyed.digest, asked.prints[q.name], sizes, inputs)
            known, missing = asked.journal.find_outcome(key, asked.codecs) if asked.journal else (None, asked.codecs)
            yield _Job(place, q, key, known, missing)


def _outcome(asked: _Study, surveyed: Surveyed, job: _Job, inputs: Activations | None, meter: _Meter) -> Outcome | str:
    seen = 0

    def done(n_weights: int) -> None:
        nonlocal seen
        seen += n_weights
        meter.add(n_weights)

    try:
        ready = set_up(job.quantizer, surveyed, inputs)
        outcome = compress_matrix(surveyed, ready, job.missing, asked.chunk_bytes, asked.source, done)
    except UsageError as error:
        meter.add(surveyed.matrix.n_weights - seen)
        if asked.journal:
            asked.journal.add_refusal(job.key, error.message)
        return error.message
    if asked.journal:
        asked.journal.add_outcome(job.key, outcome, job.missing)
    known = job.known.facts if isinstance(job.known, Outcome) else {}
    return replace(outcome, facts={**known, **outcome.facts})


def _rates(
    asked: _Study, quantizer: Quantizer, found: Sequence[Surveyed], inputs: Mapping[str, Activations]
) -> Mapping[str, Decompression | None]:
    """The decompression rates of one layout by codec; measured together where one is not known."""
    known = _known_rates(asked, quantizer, found)
    if known is not None:
        return known
    sample = rates.sampled(found)
    measured = rates.measure(quantizer, asked.codecs, sample, asked.chunk_bytes, asked.source, inputs, asked.references)
    if asked.journal:
        keys = _rate_keys(asked, quantizer, sample)
        for name, rate in measured.items():
            asked.journal.add_rate(keys[name], rate)
        asked.journal.flush()
    return measured


def _known_rates(
    asked: _Study, quantizer: Quantizer, found: Sequence[Surveyed]
) -> Mapping[str, Decompression | None] | None:
    """The rates by codec that the journal knows; nothing unless it knows all."""
    if asked.journal is None:
        return None
    keys = _rate_keys(asked, quantizer, rates.sampled(found))
    known = {name: asked.journal.find_rate(key) for name, key in keys.items()}
    return {name: rate for name, (_, rate) in known.items()} if all(there for there, _ in known.values()) else None


def _rate_keys(asked: _Study, quantizer: Quantizer, sample: Sequence[Surveyed]) -> dict[str, str]:
    parts = ("rate", [s.digest for s in sample], asked.prints[quantizer.name], asked.chunk_bytes, cpu_name())
    return {codec.name: key_of(*parts, codec_id(codec)) for codec in asked.codecs}


def _lacks_rates(asked: _Study, found: Sequence[Surveyed]) -> bool:
    """Whether rates of a layout that looks at its inputs are to be measured."""
    return any(looks_at_activations(q) and _known_rates(asked, q, found) is None for q in asked.quantizers)
