"""Concrete changes worth making: each candidate is evaluated like any scenario, and the best of each kind is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simio import models
from simio.errors import SimioError
from simio.models.statistics import profile_from_statistics
from simio.predict.command import command
from simio.predict.point import Point, evaluate
from simio.predict.resolve import Progress, Resolved, complete, profile_of_file, uncompressed
from simio.records.codec_profile import CodecProfile
from simio.records.prediction import Suggestion
from simio.records.scenario import Scenario
from simio.service_times import n_cores
from simio.units import GIB, MIB, format_bytes

#: Gains below this are within the noise of any phone measurement and are not worth a change.
LEAST_GAIN = 1.02
#: At most so many suggestions.
N_BEST = 3

#: Quantizations tried as replacements, largest first, with their bits per weight on Llama-3.1-8B (llama.cpp,
#: tools/quantize/README.md).
LADDER = {"q8_0": 8.50, "q6_k": 6.56, "q5_k_m": 5.70, "q4_k_m": 4.89, "q4_0": 4.66, "q3_k_m": 4.00, "q2_k": 3.16}

Candidate = tuple[str, str, Scenario, CodecProfile]  # kind, change, scenario as asked, profile


def suggest(
    asked: Scenario,
    resolved: Resolved,
    point: Point,
    progress: Progress | None = None,
    trying: Progress | None = None,
) -> tuple[Suggestion, ...]:
    """Up to three changes that help, best first, with the gain each one has by itself.

    ``progress`` is called while the weights of a file are sampled under another codec, ``trying`` for each change.
    """
    best: dict[str, Suggestion] = {}
    candidates = list(_candidates(asked, resolved, point, progress))
    for done, (kind, change, scenario, profile) in enumerate(candidates):
        if trying:
            trying(done, len(candidates))
        known = resolved.layout if profile is resolved.profile else None
        try:
            result = evaluate(complete(scenario, resolved.device, profile, known))
        except SimioError:
            continue  # a candidate that cannot run is not a suggestion
        gain = result.tokens_per_s / point.tokens_per_s
        if gain >= max(LEAST_GAIN, best[kind].gain if kind in best else 0.0):
            best[kind] = Suggestion(change, command(scenario), result.tokens_per_s, gain, "; ".join(result.plan.notes))
    streamed, codec = best.get("runtime"), best.get("codec")
    if streamed and codec and codec.gain < LEAST_GAIN * streamed.gain:
        del best["codec"]  # its gain is that of streaming
    return tuple(sorted(best.values(), key=lambda s: -s.gain)[:N_BEST])


def _candidates(asked: Scenario, resolved: Resolved, point: Point, progress: Progress | None) -> Iterator[Candidate]:
    profile = resolved.profile
    yield from _quantizations(asked, resolved)
    if point.plan.runtime == "resident":
        yield from _thread_counts(asked, resolved)
        return
    if resolved.scenario.dense_weights is not None:
        yield from _expert_knobs(asked, resolved, point)
        return
    if point.plan.runtime == "mmap":
        streamed = replace(asked, runtime="stream")
        yield "runtime", "stream the weights with explicit reads instead of mmap", streamed, profile
    else:
        streamed = asked
        yield from _stream_knobs(asked, resolved)
    yield from _codecs(streamed, profile, progress)


def _quantizations(asked: Scenario, resolved: Resolved) -> Iterator[Candidate]:
    """The next smaller quantization of a preset, and the largest one that fits in RAM."""
    profile, model = resolved.profile, resolved.profile.model
    if model.source != "preset" or profile.codec != "raw":
        return
    name, _ = models.resolve_name(model.name)
    budget = resolved.scenario.ram_bytes or 0
    smaller = [q for q, bits in LADDER.items() if bits < 0.97 * model.bits_per_weight]
    fitting = [q for q in smaller if LADDER[q] / model.bits_per_weight * model.n_bytes < budget]
    for quant in dict.fromkeys(smaller[:1] + fitting[:1]):
        label = f"{name}:{quant}"
        other = profile_from_statistics(models.preset(label), "raw", profile.chunk_bytes)
        if other.model.n_bytes < 0.97 * model.n_bytes:
            change = f"quantize to {quant} ({other.model.n_bytes / 1e9:.2f} GB); check its quality"
            yield "quantization", change, replace(asked, model=label), other


def _thread_counts(asked: Scenario, resolved: Resolved) -> Iterator[Candidate]:
    cores = n_cores(resolved.device.cpu)
    for n in sorted({cores, (resolved.scenario.n_threads or 1) + 1}):
        if n <= cores:
            yield "threads", f"compute with {n} threads", replace(asked, n_threads=n), resolved.profile


def _expert_knobs(asked: Scenario, resolved: Resolved, point: Point) -> Iterator[Candidate]:
    """The neighbours of how experts are streamed: size of the cache, overlap, lanes."""
    chosen, profile = resolved.scenario, resolved.profile
    held = point.plan.ram.weights - resolved.layout.dense_bytes - resolved.layout.looked_up_bytes
    size = (chosen.cache_bytes or max(0, held)) if chosen.cache_policy != "none" else 0
    room = point.plan.ram.budget - point.plan.ram.weights + held - point.plan.ram.kv_cache - point.plan.ram.buffers
    for share in (0.25, 0.5, 0.75, 0.9):
        n_bytes = round(share * room / GIB * 4) * GIB // 4
        if n_bytes > 0 and abs(n_bytes - size) > GIB // 8:
            cached = replace(asked, cache_policy=asked.cache_policy if size else "lru", cache_bytes=n_bytes)
            yield "cache", f"cache experts in {format_bytes(n_bytes)}", cached, profile
    other = not chosen.expert_overlap
    change = "multiply experts as their slices arrive" if other else "read all slices of a layer before multiplying"
    yield "overlap", change, replace(asked, expert_overlap=other), profile
    lanes = chosen.queue_depth or 1
    for n in sorted({2, 4, 8} - {lanes}):
        yield "queue depth", f"read with {n} lanes", replace(asked, queue_depth=n), profile
    if chosen.speculative_gate:
        yield "speculation", "do not guess the router", replace(asked, speculative_gate=None), profile


def _stream_knobs(asked: Scenario, resolved: Resolved) -> Iterator[Candidate]:
    """The neighbours of what was chosen, in a fixed order."""
    chosen, profile = resolved.scenario, resolved.profile
    depth = 1 if asked.prefetch_depth is None else asked.prefetch_depth
    for n in sorted({1, 2, 2 * depth} - {depth}):
        yield "prefetch", f"read {n} steps ahead", replace(asked, prefetch_depth=n), profile
    queue = chosen.queue_depth or 1
    for n in sorted({2 * queue, resolved.device.storage.best_queue_depth} - {queue}):
        yield "queue depth", f"keep {n} reads in flight", replace(asked, queue_depth=n), profile
    size = chosen.read_bytes or 4 * MIB
    for n in sorted({MIB, 8 * MIB} - {size}):
        yield "read size", f"read {n // MIB} MiB at a time", replace(asked, read_bytes=n), profile
    if asked.pinned_bytes is not None or asked.pinned_fraction is not None:
        free = replace(asked, pinned_bytes=None, pinned_fraction=None)
        yield "pin", "pin as many weights as the RAM holds", free, profile
    if asked.cache_policy == "none" or (asked.cache_bytes is not None and resolved.layout.n_experts):
        free = replace(asked, cache_policy="lru" if resolved.layout.n_experts else None, cache_bytes=None)
        yield "cache", "cache experts in all the RAM that is free", free, profile
    if profile.codec != "raw":
        other = "raw" if chosen.cache_form == "compressed" else "compressed"
        yield "hold", f"hold pinned weights {other}", replace(asked, cache_form=other), profile
        cores = n_cores(resolved.device.cpu)
        for n in sorted({min(cores, (chosen.n_workers or 1) + 1), cores} - {chosen.n_workers}):
            yield "workers", f"decompress with {n} workers", replace(asked, n_workers=n), profile


def _codecs(streamed: Scenario, profile: CodecProfile, progress: Progress | None) -> Iterator[Candidate]:
    """No compression where there is one, and the codecs that suit the layout where there is none."""
    if profile.plan:
        return  # a joint plan has a codec for each tensor
    if profile.codec != "raw":
        yield "codec", "store the weights raw", replace(streamed, codec="raw"), uncompressed(profile)
        return
    filtered = "byteplane(zstd:1)" if _is_float(profile) else "fields(zstd:1)"
    for codec in ("zstd:1", filtered):
        stored = _compressed(profile, codec, progress)
        if stored is not None and stored.ratio > LEAST_GAIN:
            change = f"compress the weights with {codec} ({stored.ratio:.2f}×)"
            yield "codec", change, replace(streamed, codec=codec), stored


def _compressed(profile: CodecProfile, codec: str, progress: Progress | None) -> CodecProfile | None:
    """The model under ``codec``: statistics for a preset, a sample of a file's weights; None without weights."""
    if profile.model.source == "preset":
        return profile_from_statistics(profile.model, codec, profile.chunk_bytes)
    if profile.model.files and profile.tensors and profile.basis == "measured":
        try:
            return profile_of_file(profile.model, codec, profile.chunk_bytes, progress)
        except (SimioError, OSError):
            return None
    return None


def _is_float(profile: CodecProfile) -> bool:
    largest = max(profile.model.tensors, key=lambda t: t.n_bytes)
    return largest.dtype in ("F32", "F16", "BF16")
