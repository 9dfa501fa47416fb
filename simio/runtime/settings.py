"""Complete a scenario for this machine: what ``predict`` takes from a device file, ``run`` takes from the host."""

from __future__ import annotations

from dataclasses import replace

from simio.errors import UsageError
from simio.plan.build import PREFETCH_DEPTH, READ_BYTES
from simio.plan.layout import ALIGN_BYTES
from simio.plan.placed import refuse_choices
from simio.profiling.host import n_usable_cpus
from simio.profiling.host_memory import memory_bytes
from simio.records.codec_profile import CodecProfile
from simio.records.scenario import MMAP_ONLY, Scenario

#: Reads in flight unless asked for: with 4 MiB and more, deeper reads gained under 1 % where both were measured
#: (devices/oneplus15r.toml, macbook-pro-m5-pro.toml).
QUEUE_DEPTH = 2


def complete_on_host(asked: Scenario, profile: CodecProfile) -> Scenario:
    """``asked`` with every open choice made; raises ``UsageError`` for what the runtime does not do.

    Half the cores decompress where anything is compressed, the others compute. Reads are whole pages.
    """
    if asked.runtime not in ("auto", "stream"):
        raise UsageError(f"simio run streams; it is not the runtime {asked.runtime}", "leave --runtime out")
    for name in MMAP_ONLY:
        if getattr(asked, name) is not None:
            raise UsageError(f"{name} means nothing to the runtime stream", "leave it out")
    if profile.plan:
        refuse_choices(asked)
    experts = profile.model.architecture.n_experts_used
    _check_given(asked, {
        "codec": profile.codec, "chunk_bytes": profile.chunk_bytes, "kv_bytes_per_value": 2.0, "top_k": experts or None,
    })  # fmt: skip
    cores = n_usable_cpus()
    for name in ("n_threads", "n_workers"):
        if (getattr(asked, name) or 0) > cores:
            raise UsageError(f"{name} is {getattr(asked, name)}, but there are {cores} cores", "give fewer")
    n_workers = asked.n_workers or max(1, cores // 2)
    spare = cores - n_workers if profile.codec != "raw" else cores
    return replace(
        asked,
        runtime="stream",
        codec=profile.codec,
        chunk_bytes=profile.chunk_bytes,
        ram_bytes=asked.ram_bytes or memory_bytes()[1],
        n_threads=asked.n_threads or max(1, spare),
        n_workers=n_workers,
        queue_depth=asked.queue_depth or QUEUE_DEPTH,
        read_bytes=(asked.read_bytes or READ_BYTES) // ALIGN_BYTES * ALIGN_BYTES,
        prefetch_depth=PREFETCH_DEPTH if asked.prefetch_depth is None else asked.prefetch_depth,
        top_k=experts or None,
        cache_form="raw" if profile.codec == "raw" and not profile.plan else asked.cache_form,
    )


def _check_given(asked: Scenario, given: dict[str, object]) -> None:
    """Refuse what the container decides otherwise; raises ``UsageError``."""
    for name, value in given.items():
        if getattr(asked, name) not in (None, value):
            raise UsageError(f"{name} is {getattr(asked, name)}, but of this container {value}", "leave it out")
