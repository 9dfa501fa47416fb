"""``simio run``: generate tokens for real while the weights stream from storage, and measure every token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from simio.container.profile import sizes_of_container
from simio.container.reading import Container
from simio.errors import UsageError
from simio.plan.build import Arrangement, arrange
from simio.plan.layout import Layout, lay_out
from simio.profiling.host import cpu_name, n_usable_cpus
from simio.profiling.memory import keep_freed_memory
from simio.records.codec_profile import CodecProfile
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario
from simio.runtime.fetching import Fetcher
from simio.runtime.forward import Decoder
from simio.runtime.held import Held
from simio.runtime.hyperparameters import Hyperparameters, hyperparameters
from simio.runtime.in_ram import InRamWeights
from simio.runtime.kernels import one_blas_thread
from simio.runtime.ledger import Ledger, PassTotals
from simio.runtime.memory_limit import Limit, limited
from simio.runtime.schedule import schedule
from simio.runtime.settings import complete_on_host
from simio.runtime.streaming import LOADING, Budget, StreamedWeights

#: Called with (tokens generated, in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ran:
    """One run. ``tokens`` are those generated; the notes say how the RAM budget was held and the container read."""

    scenario: Scenario  # nothing left open
    tokens: tuple[int, ...]
    measurement: Measurement
    limit_note: str
    storage_note: str


def run(asked: Scenario, prompt: Sequence[int], progress: Progress | None = None) -> Ran:
    """Generate ``asked.n_tokens`` tokens after ``prompt`` from the container ``asked.model``, greedily.

    Raises ``ContainerError`` for a damaged container (never a wrong token), ``InfeasibleError`` when the RAM does not
    suffice, ``UsageError`` for a model or an option that cannot be run.
    """
    with ExitStack() as stack:
        container = stack.enter_context(Container.open(Path(asked.model)))
        job = _prepare(replace(asked, prompt_tokens=len(prompt)), container)
        stack.enter_context(one_blas_thread())
        limit = stack.enter_context(limited(job.scenario.ram_bytes or 0))
        return _run(job, prompt, limit, progress)


def reference(path: Path, prompt: Sequence[int], n_tokens: int) -> tuple[int, ...]:
    """The tokens that the same model gives with all its weights in RAM: what every streamed run must give too."""
    with Container.open(path) as container, one_blas_thread():
        weights = InRamWeights(container.model, container)
        with Decoder(container.model, hyperparameters(container.model, container), weights) as decoder:
            tokens = [decoder.next_token(prompt)]
            while len(tokens) < n_tokens:
                tokens.append(decoder.next_token(tokens[-1:]))
    return tuple(tokens)


@dataclass(frozen=True, slots=True)
class _Job:
    container: Container
    scenario: Scenario
    profile: CodecProfile
    layout: Layout
    arrangement: Arrangement
    shape: Hyperparameters


def _prepare(asked: Scenario, container: Container) -> _Job:
    if asked.prompt_tokens < 1:
        raise UsageError("there is no prompt", "give at least one token")
    shape = hyperparameters(container.model, container)
    n_positions = asked.prompt_tokens + asked.n_tokens - 1
    if shape.context_length and n_positions > shape.context_length:
        raise UsageError(
            f"{asked.prompt_tokens} tokens of prompt and {asked.n_tokens} generated ones do not fit into the model's "
            f"context of {shape.context_length}",
            "use a shorter prompt or fewer tokens",
        )
    profile = sizes_of_container(container)
    scenario = complete_on_host(asked, profile)
    layout = lay_out(profile)
    return _Job(container, scenario, profile, layout, arrange(scenario, layout, profile.model.architecture), shape)


def _run(job: _Job, prompt: Sequence[int], limit: Limit, progress: Progress | None) -> Ran:
    scenario, arrangement, ledger = job.scenario, job.arrangement, Ledger()
    container, residency = job.container, arrangement.residency
    keep_freed_memory()
    batches = [prompt[at : at + scenario.batch_tokens] for at in range(0, len(prompt), scenario.batch_tokens)]
    wants_token = [False] * (len(batches) - 1) + [True] * scenario.n_tokens
    with ExitStack() as stack:
        fetcher = stack.enter_context(Fetcher(container, ledger, scenario))
        held = Held(residency, fetcher)
        work = schedule(container, job.layout, residency, scenario.read_bytes or 0)
        budget = Budget(scenario.prefetch_depth or 0, arrangement.ram.staging)
        start_s = time.perf_counter()
        weights = stack.enter_context(StreamedWeights(container, work, wants_token, fetcher, held, ledger, budget))
        loaded_s = time.perf_counter()
        decoder = stack.enter_context(Decoder(container.model, job.shape, weights, scenario.n_threads or 1))
        for batch in batches[:-1]:
            decoder.append(batch)
            weights.end_pass()
        tokens: list[int] = []
        following: Sequence[int] = batches[-1]
        while len(tokens) < scenario.n_tokens:
            tokens.append(decoder.next_token(following))
            weights.end_pass()
            following = tokens[-1:]
            if progress is not None:
                progress(len(tokens), scenario.n_tokens)
        totals = ledger.totals(loaded_s)
        storage_note, peak = fetcher.note, limit.peak_bytes()
    facts = _Facts(len(batches), loaded_s - start_s, ledger.read_bytes(LOADING), peak)
    return Ran(scenario, tuple(tokens), _measurement(job, totals, facts, limit), limit.note, storage_note)


@dataclass(frozen=True, slots=True)
class _Facts:
    n_prefill: int
    load_s: float
    load_bytes: int
    peak_bytes: int | None


#: Scenario fields that say what was run; the others (device, model, draws …) do not describe the run.
_KNOWN = (
    "runtime", "codec", "ram_bytes", "prompt_tokens", "batch_tokens", "n_tokens", "context_tokens",
    "kv_bytes_per_value", "n_threads", "n_workers", "queue_depth", "read_bytes", "chunk_bytes", "prefetch_depth",
    "staging_bytes", "pinned_bytes", "pinned_fraction", "cache_policy", "cache_bytes", "cache_form",
    "read_limit_bytes_per_s", "top_k",
)  # fmt: skip


def _measurement(job: _Job, totals: list[PassTotals], facts: _Facts, limit: Limit) -> Measurement:
    decoded = totals[facts.n_prefill :]
    prefill_s = sum(total.wall_s for total in totals[: facts.n_prefill])
    known = {name: value for name in _KNOWN if (value := getattr(job.scenario, name)) is not None}
    counters: dict[str, float] = {
        "load_bytes": facts.load_bytes,
        "n_cores": n_usable_cpus(),
        "is_enforced": limit.is_enforced,
    }
    if facts.peak_bytes is not None:
        counters["peak_memory_bytes"] = facts.peak_bytes
    n = max(1, len(decoded))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Measurement(
        run_id=f"{Path(job.scenario.model).stem}-{now}",
        device=job.scenario.device,
        model=str(Path(job.scenario.model).absolute()),
        known=known,
        token_s=tuple(total.wall_s for total in decoded),
        mean_token_s=sum(total.wall_s for total in decoded) / n if decoded else None,
        prefill_tokens_per_s=job.scenario.prompt_tokens / prefill_s,
        load_s=facts.load_s,
        bytes_per_token=sum(total.read_bytes for total in decoded) / n,
        counters=counters,
        per_token={
            name: tuple(float(getattr(total, name)) for total in decoded)
            for name in ("read_s", "decompress_s", "compute_s", "stall_s", "read_bytes", "n_reads", "n_hits")
        },
        source=f"simio run on {cpu_name()}, {now}",
        note="; ".join(note for note in (limit.note, *job.container.model.notes) if note),
        kind="streamed",
    )
