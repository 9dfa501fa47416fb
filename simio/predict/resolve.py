"""The one place where names become objects, and where what the user left open is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from simio import catalog, codecs, models, registry
from simio.errors import UnknownNameError, UsageError
from simio.models import statistics
from simio.models.statistics import profile_from_statistics
from simio.plan.build import fits_in_ram
from simio.plan.layout import Layout, lay_out
from simio.records.codec_profile import CodecProfile
from simio.records.device import Device
from simio.records.model import Architecture, Model
from simio.records.scenario import Scenario

Progress = Callable[[int, int], None]

#: What a file without a stored profile is sampled at, so that `predict` answers in seconds.
SAMPLE = 0.01

_MODEL_SUFFIXES = (".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete scenario with the objects it names."""

    scenario: Scenario  # nothing left open
    device: Device
    profile: CodecProfile
    layout: Layout  # of the profile
    relative_rate: float  # decompression of these weights ÷ of the reference on the same host


def resolve(scenario: Scenario, progress: Progress | None = None) -> Resolved:
    """Load device and profile and complete the scenario. Raises ``SimioError`` for anything it cannot find."""
    device = catalog.load(scenario.device)
    codec = codecs.parse(scenario.codec).name
    profile = load_profile(replace(scenario, codec=codec), progress)
    return complete(replace(scenario, codec=profile.codec, chunk_bytes=profile.chunk_bytes), device, profile)


def complete(scenario: Scenario, device: Device, profile: CodecProfile, layout: Layout | None = None) -> Resolved:
    """Fill every open choice from the device and the model. ``layout``: of ``profile``, where it is already known."""
    layout = layout or lay_out(profile)
    if scenario.cache_policy is not None and scenario.cache_policy not in registry.names("cache_policies"):
        raise UnknownNameError("cache policy", scenario.cache_policy, registry.names("cache_policies"))
    architecture = profile.model.architecture
    cores = sum(cluster.n_cores for cluster in device.cpu.clusters)
    n_threads = min(cores, scenario.n_threads or device.cpu.default_threads)
    top_k = scenario.top_k or architecture.n_experts_used or None
    if top_k and architecture.n_experts and top_k > architecture.n_experts:
        raise UsageError(f"top_k is {top_k}, but the model has {architecture.n_experts} experts", "lower --top-k")
    scenario = replace(
        scenario,
        ram_bytes=scenario.ram_bytes or round(device.memory.usable.value),
        n_threads=n_threads,
        n_workers=scenario.n_workers or max(1, cores - n_threads, cores // 2),
        queue_depth=scenario.queue_depth or device.storage.best_queue_depth,
        top_k=top_k,
    )
    if scenario.runtime == "auto":
        scenario = replace(scenario, runtime=_runtime(scenario, layout, architecture))
    return Resolved(scenario, device, profile, layout, relative_rate(profile))


def _runtime(scenario: Scenario, layout: Layout, architecture: Architecture) -> str:
    """What an engine would do: keep everything in RAM if it fits, else map the file, or stream what is compressed."""
    asks_for_stream = scenario.codec != "raw" or any(
        value is not None for value in (scenario.pinned_bytes, scenario.cache_policy, scenario.cache_bytes)
    )
    if fits_in_ram(scenario, layout, architecture):
        return "resident"
    return "stream" if asks_for_stream else "mmap"


def relative_rate(profile: CodecProfile) -> float:
    """Decompression rate of these weights ÷ of the reference that device files refer to; 1 where not known."""
    if profile.basis == "statistics":
        return statistics.relative_rate(profile.model, profile.codec)
    if profile.decompress is None or profile.reference is None:
        return 1.0
    return profile.decompress.median_bytes_per_s / profile.reference.median_bytes_per_s


def load_profile(scenario: Scenario, progress: Progress | None = None) -> CodecProfile:
    """The profile behind ``--model``: a stored one, a file's, or a preset's from stored statistics."""
    path = Path(scenario.model).expanduser()
    if path.is_file() and path.suffix == ".json" and not path.name.endswith(".index.json"):
        from simio.profiling.profile_file import load

        stored = load(path)
        if scenario.codec not in ("raw", stored.codec):
            raise UsageError(
                f"{path} was profiled with {stored.codec}, not {scenario.codec}",
                f"leave --codec out, or run: simio profile … --codec '{scenario.codec}' -o PROFILE",
            )
        return stored
    model = load_model(scenario.model)
    if model.source == "preset":
        return profile_from_statistics(model, scenario.codec, scenario.chunk_bytes)
    return profile_of_file(model, scenario, progress)


def load_model(name: str) -> Model:
    """The model at a path, or the preset of that name."""
    if not name.strip():
        raise UsageError("the model has no name", "for example --model llama-3.2-3b:q4_k_m")
    path = Path(name).expanduser()
    if path.exists() or path.suffix in _MODEL_SUFFIXES or len(path.parts) > 2:
        from simio.formats.opening import open_model

        return open_model(path)
    try:
        return models.preset(name)
    except UnknownNameError as error:
        error.hint += "; `simio models` lists the presets, or give the path of a model file"
        raise


def profile_of_file(model: Model, scenario: Scenario, progress: Progress | None) -> CodecProfile:
    """Sizes as they are for raw; otherwise the cached profile of this content, else a sampled one."""
    if scenario.codec == "raw":
        return replace(profile_from_statistics(model, "raw", scenario.chunk_bytes), basis="measured")
    from simio.profiling.cache import ProfileCache, ProfileKey
    from simio.profiling.profiler import profile

    cache, codec = ProfileCache.default(), codecs.parse(scenario.codec)
    complete_profile = cache.find(ProfileKey(model, codec, scenario.chunk_bytes, None, 0))
    return complete_profile or profile(
        model, codec, chunk_bytes=scenario.chunk_bytes, sample=SAMPLE, progress=progress, cache=cache
    )
