"""The one place where names become objects, and where what the user left open is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from simio import catalog, codecs, models, registry
from simio.errors import UnknownNameError, UsageError, WriteError
from simio.importers import route_trace
from simio.models import statistics
from simio.models.statistics import profile_from_statistics
from simio.plan.build import fits_in_ram
from simio.plan.layout import ExpertLayer, Layout, lay_out
from simio.plan.placed import refuse_choices
from simio.profiling import profile_file
from simio.records.codec_profile import CodecProfile
from simio.records.device import Device
from simio.records.model import Model
from simio.records.routing import RoutingTrace
from simio.records.scenario import MMAP_ONLY, MOE_ONLY, NOT_MMAP, STREAM_ONLY, Scenario
from simio.service_times import default_workers, n_cores
from simio.units import MIB

Progress = Callable[[int, int], None]

#: What a file without a stored profile is sampled at, so that `predict` answers in seconds.
SAMPLE = 0.01

_MODEL_SUFFIXES = (".gguf", ".safetensors", ".simio", ".json", ".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete scenario with the objects it names."""

    scenario: Scenario  # nothing left open
    device: Device
    profile: CodecProfile
    layout: Layout  # of the profile
    relative_rate: float  # decompression of these weights ÷ of the reference on the same host
    trace: RoutingTrace | None = None  # the routing to replay


def resolve(scenario: Scenario, progress: Progress | None = None) -> Resolved:
    """Load device and profile and complete the scenario. Raises ``SimioError`` for anything it cannot find."""
    device = catalog.load(scenario.device)
    if scenario.codec is not None:
        scenario = replace(scenario, codec=codecs.parse(scenario.codec).name)
    return complete(scenario, device, load_profile(scenario, progress))


def complete(scenario: Scenario, device: Device, profile: CodecProfile, layout: Layout | None = None) -> Resolved:
    """Fill every open choice from the device and the model. ``layout``: of ``profile``, where it is already known.

    Raises ``UsageError`` for a choice that the device, the model or the runtime cannot honour.
    """
    layout = layout or lay_out(profile)
    architecture = profile.model.architecture
    if scenario.runtime == "auto" and (profile.basis == "packed" or layout.residency):
        scenario = replace(scenario, runtime="stream")  # a container, or a joint plan, is made to be streamed
    _check(scenario, device, layout)
    trace = None if scenario.routing is None else _trace_of(scenario.routing, layout)
    n_threads = scenario.n_threads or device.cpu.default_threads
    chosen = replace(
        scenario,
        codec=profile.codec,
        chunk_bytes=profile.chunk_bytes,
        ram_bytes=scenario.ram_bytes or _usable_bytes(scenario, device),
        n_threads=n_threads,
        n_workers=scenario.n_workers or default_workers(device.cpu, n_threads),
        queue_depth=scenario.queue_depth or device.storage.best_queue_depth,
        top_k=(scenario.top_k or architecture.n_experts_used) if layout.n_experts else None,
    )
    if chosen.runtime == "auto":
        fits = fits_in_ram(chosen, layout, architecture)
        asks_for_stream = any(getattr(scenario, name) is not None for name in (STREAM_ONLY if fits else NOT_MMAP))
        fallback = "stream" if profile.codec != "raw" else "mmap"
        chosen = replace(chosen, runtime="stream" if asks_for_stream else "resident" if fits else fallback)
    chosen = _streamed_experts(chosen, profile, layout)
    if scenario.ram_bytes is None:
        chosen = replace(chosen, ram_bytes=left_of(chosen.ram_bytes or 0, chosen, device, layout))
    if trace is not None:
        chosen = _as_recorded(chosen, scenario, trace)
    return Resolved(chosen, device, profile, layout, relative_rate(profile), trace)


@lru_cache(maxsize=2)
def _trace_of(path: str, layout: Layout) -> RoutingTrace:
    """The routing trace at ``path``; raises ``UsageError`` where it is of a model of another shape."""
    trace = route_trace.read(as_path(path))
    n_layers = sum(isinstance(b, ExpertLayer) for b in layout.blocks)
    if (trace.n_layers, trace.n_experts) != (n_layers, layout.n_experts):
        raise UsageError(
            f"{path} routes {trace.n_layers} layers of {trace.n_experts} experts, the model has {n_layers} of "
            f"{layout.n_experts}",
            "give a trace of this model",
        )
    return trace


def _as_recorded(chosen: Scenario, asked: Scenario, trace: RoutingTrace) -> Scenario:
    """At most as many tokens as were recorded, of as many experts."""
    if asked.top_k not in (None, trace.top_k):
        raise UsageError(
            f"top_k is {asked.top_k}, but {asked.routing} takes {trace.top_k} experts a token", "leave one of them out"
        )
    return replace(chosen, top_k=trace.top_k, n_tokens=min(chosen.n_tokens, len(trace.decoded) + 1))


def _usable_bytes(scenario: Scenario, device: Device) -> int:
    """What an app gets: the device's usable RAM, or more where more was free at the start.

    Less does not count: the system takes memory from other apps when it is asked for. On a OnePlus 15R a run that
    started with 5.0 GB available was as fast as one with 6.3 (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit
    2d4f2b1, 2026-07-12-pr23 qwen_base and qwen_pf2).
    """
    return max(round(device.memory.usable.value), min(scenario.available_bytes or 0, round(device.memory.total.value)))


def left_of(usable_bytes: int, chosen: Scenario, device: Device, layout: Layout, share: str = "value") -> int:
    """What of the RAM that is available at launch a run under ``chosen`` can keep weights in. [bytes]

    A streamed mixture loses the reserve. A mapped one that does not fit gets its share of the page cache (``low``,
    ``value`` or ``high`` of the device file): the system's own mapped pages are used as well, and come back.
    """
    memory = device.memory
    if chosen.dense_weights is not None:
        return max(1, usable_bytes - round(memory.reserve.value if memory.reserve else 0))
    is_mapped = chosen.runtime == "mmap" and layout.n_experts and layout.raw_bytes > usable_bytes
    if not is_mapped or memory.page_cache_share is None:
        return usable_bytes
    return round(usable_bytes * float(getattr(memory.page_cache_share, share)))


#: Choices of a runtime that pins and stages whole requests, as `simio run` does.
_AS_SIMIO_RUN = ("pinned_bytes", "pinned_fraction", "staging_bytes", "prefetch_depth", "cache_form")


def _streamed_experts(scenario: Scenario, profile: CodecProfile, layout: Layout) -> Scenario:
    """Complete the choices of a mixture whose experts are streamed slice by slice: asked for, or nothing else was."""
    asked = [n for n in MOE_ONLY if n not in ("top_k", "routing") and getattr(scenario, n) is not None]
    ours = [n for n in _AS_SIMIO_RUN if getattr(scenario, n) is not None]
    plain = scenario.runtime == "stream" and layout.n_experts and profile.codec == "raw" and profile.basis != "packed"
    if not asked and (ours or not plain):
        return scenario
    if profile.codec != "raw" or profile.basis == "packed":
        what = "a container" if profile.basis == "packed" else f"the codec {profile.codec}"
        raise UsageError(f"{asked[0]} is not predicted with {what}", "give the model itself, with --codec raw")
    if ours:
        raise UsageError(
            f"{ours[0]} means nothing beside {asked[0]}",
            "one is of requests that are pinned and staged, the other of experts that are streamed slice by slice",
        )
    caches = scenario.cache_policy != "none" and scenario.cache_bytes != 0
    return replace(
        scenario,
        runtime="stream",
        dense_weights=scenario.dense_weights or "anon",
        expert_overlap=caches if scenario.expert_overlap is None else scenario.expert_overlap,
        cache_policy=(scenario.cache_policy or "lru") if caches else "none",
    )


def _check(scenario: Scenario, device: Device, layout: Layout) -> None:
    """Refuse what would be ignored in silence."""
    idle = {"mmap": NOT_MMAP, "resident": (*STREAM_ONLY, *MMAP_ONLY), "stream": MMAP_ONLY}.get(scenario.runtime, ())
    for name in idle:
        if getattr(scenario, name) is not None:
            other = "mmap" if name in MMAP_ONLY else "stream"
            raise UsageError(f"{name} means nothing to the runtime {scenario.runtime}", f"use --runtime {other}")
    if layout.residency:
        _check_joint_plan(scenario, layout)
    if scenario.ram_bytes is not None and scenario.available_bytes is not None:
        raise UsageError("both ram_bytes and available_bytes are given", "the first is a limit; leave one of them out")
    if scenario.cache_policy in ("pinned", "belady", "layer_lru", "layer_lfu") and not layout.n_experts:
        raise UsageError(f"cache_policy {scenario.cache_policy} is for routed experts", "use lru, lfu or none")
    if scenario.sustained_s is not None and device.thermal is None:
        hint = "leave it out, or add a [thermal] table to the device file"
        raise UsageError(f"sustained_s is given, but how {device.name} behaves when hot is not known", hint)
    for name in MOE_ONLY:
        if name != "top_k" and getattr(scenario, name) is not None and not layout.n_experts:
            raise UsageError(f"{name} is given, but the model has no routed experts", "leave it out")
    cores = n_cores(device.cpu)
    for name in ("n_threads", "n_workers"):
        if (getattr(scenario, name) or 0) > cores:
            raise UsageError(f"{name} is {getattr(scenario, name)}, but {device.name} has {cores} cores", "give fewer")
    if scenario.cache_policy is not None and scenario.cache_policy not in registry.names("cache_policies"):
        raise UnknownNameError("cache policy", scenario.cache_policy, registry.names("cache_policies"))
    if scenario.top_k and scenario.top_k > layout.n_experts:
        raise UsageError(f"top_k is {scenario.top_k}, but the model has {layout.n_experts} experts", "lower --top-k")


def _check_joint_plan(scenario: Scenario, layout: Layout) -> None:
    if layout.n_experts:
        raise UsageError("a joint plan of a model with routed experts", "joint plans are for dense models")
    if scenario.runtime != "stream":
        raise UsageError(f"runtime {scenario.runtime} does not follow a joint plan", "use --runtime stream")
    refuse_choices(scenario)


def relative_rate(profile: CodecProfile) -> float:
    """Decompression rate of these weights ÷ of the reference that device files refer to; 1 where not known."""
    if profile.basis == "statistics":
        return statistics.relative_rate(profile.model, profile.codec)
    if profile.decompress is None or profile.reference is None:
        return 1.0
    return profile.decompress.median_bytes_per_s / profile.reference.median_bytes_per_s


def load_profile(scenario: Scenario, progress: Progress | None = None) -> CodecProfile:
    """The profile behind ``--model``: a stored one, a file's, or a preset's from stored statistics."""
    path = as_path(scenario.model)
    if _is_profile(path):
        return _stored(profile_file.load(path), path, scenario)
    model = load_model(scenario.model)
    if model.format == "simio":
        from simio.container.profile import profile_of_container

        return _stored(profile_of_container(path), path, scenario)
    if (
        model.architecture.n_experts_used == 0
        and scenario.top_k is None
        and any(t.role == "expert" for t in model.tensors)
    ):
        raise UsageError(f"{scenario.model} has experts, but does not say how many a token uses", "give --top-k")
    if model.source == "preset":
        return profile_from_statistics(model, scenario.codec or "raw", scenario.chunk_bytes or MIB)
    return profile_of_file(model, scenario.codec or "raw", scenario.chunk_bytes or MIB, progress)


def _is_profile(path: Path) -> bool:
    """A JSON file that is no part of a Hugging Face model."""
    return path.is_file() and path.suffix == ".json" and path.name != "config.json" and ".index." not in path.name


def _stored(profile: CodecProfile, path: Path, scenario: Scenario) -> CodecProfile:
    """A stored profile as it is, or its weights stored raw; nothing else is known of them."""
    if profile.plan and scenario.codec is not None:
        raise UsageError(f"codec is given, but {path} is a joint plan, which has one for each tensor", "leave it out")
    if scenario.codec == "raw":
        return uncompressed(profile)
    asked = {"codec": (scenario.codec, profile.codec), "chunks": (scenario.chunk_bytes, profile.chunk_bytes)}
    for what, (wanted, has) in asked.items():
        if wanted not in (None, has):
            made = "packed" if profile.basis == "packed" else "profiled"
            raise UsageError(
                f"{path} was {made} with {what} {has}, not {wanted}",
                f"leave the option out, or have the model {made} again",
            )
    return profile


def uncompressed(profile: CodecProfile) -> CodecProfile:
    """The same weights stored raw."""
    if profile.codec == "raw":
        return profile
    tensors = tuple(replace(t, stored_bytes=t.raw_bytes) for t in profile.tensors)
    return replace(profile, codec="raw", tensors=tensors, decompress=None, reference=None, ratio_interval=None, plan=())


def as_path(name: str) -> Path:
    """``name`` as a path; raises ``UsageError`` where its home directory does not exist."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(f"{name}: there is no such home directory", "write the path in full") from None


def names_a_file(path: Path) -> bool:
    """Whether ``--model`` means a file or a directory, and not a preset."""
    return path.exists() or path.suffix in _MODEL_SUFFIXES or len(path.parts) > 2


def load_model(name: str) -> Model:
    """The model at a path (a stored profile has its model too), or the preset of that name."""
    if not name.strip():
        raise UsageError("the model has no name", "for example --model llama-3.2-3b:q4_k_m")
    path = as_path(name)
    if _is_profile(path):
        return profile_file.load(path).model
    if names_a_file(path):
        from simio.formats.opening import open_model

        return open_model(path)
    try:
        return models.preset(name)
    except UnknownNameError as error:
        error.hint += "; `simio models` lists the presets, or give the path of a model file"
        raise


def profile_of_file(model: Model, codec_name: str, chunk_bytes: int, progress: Progress | None) -> CodecProfile:
    """Sizes as they are for raw; otherwise the cached profile of this content, else a sampled one."""
    if codec_name == "raw":
        return replace(profile_from_statistics(model, "raw", chunk_bytes), basis="measured")
    from simio.profiling.cache import ProfileCache, ProfileKey
    from simio.profiling.profiler import profile

    cache, codec = ProfileCache.default(), codecs.parse(codec_name)
    whole = cache.find(ProfileKey(model, codec, chunk_bytes, None, 0))
    if whole is not None:
        return whole
    try:
        return profile(model, codec, chunk_bytes=chunk_bytes, sample=SAMPLE, progress=progress, cache=cache)
    except WriteError:  # a cache that cannot be written costs time, not the answer
        return profile(model, codec, chunk_bytes=chunk_bytes, sample=SAMPLE, progress=progress)
