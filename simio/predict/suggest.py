"""Concrete changes worth making: each candidate is evaluated like any scenario, and the best of each kind is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simio import models
from simio.errors import SimioError
from simio.models.statistics import profile_from_statistics
from simio.predict.command import command
from simio.predict.point import Point, evaluate
from simio.predict.resolve import Resolved, complete, load_profile
from simio.records.codec_profile import CodecProfile
from simio.records.prediction import Suggestion
from simio.records.scenario import Scenario

#: Gains below this are within the noise of any phone measurement and are not worth a change.
LEAST_GAIN = 1.02
#: At most so many suggestions.
N_BEST = 3

#: Quantizations tried as replacements, largest first, with their bits per weight on Llama-3.1-8B (llama.cpp,
#: tools/quantize/README.md).
LADDER = {"q8_0": 8.50, "q6_k": 6.56, "q5_k_m": 5.70, "q4_k_m": 4.89, "q4_0": 4.66, "q3_k_m": 4.00, "q2_k": 3.16}

Candidate = tuple[str, str, Scenario, CodecProfile]  # kind, change, scenario as asked, profile


def suggest(asked: Scenario, resolved: Resolved, point: Point) -> tuple[Suggestion, ...]:
    """Up to three changes that help, best first, with the gain each one has by itself."""
    best: dict[str, Suggestion] = {}
    for kind, change, scenario, profile in _candidates(asked, resolved, point):
        try:
            layout = resolved.layout if profile is resolved.profile else None
            variant = complete(scenario, resolved.device, profile, layout)
            result = evaluate(variant)
        except SimioError:
            continue  # a candidate that cannot run is not a suggestion
        gain = result.tokens_per_s / point.tokens_per_s
        known = best.get(kind)
        if gain >= LEAST_GAIN and (known is None or gain > known.gain):
            note = "; ".join(result.plan.notes)
            best[kind] = Suggestion(change, command(scenario), result.tokens_per_s, gain, note)
    streamed, codec = best.get("runtime"), best.get("codec")
    if streamed and codec and codec.gain < LEAST_GAIN * streamed.gain:
        del best["codec"]  # its gain is that of streaming
    return tuple(sorted(best.values(), key=lambda s: -s.gain)[:N_BEST])


def _candidates(asked: Scenario, resolved: Resolved, point: Point) -> Iterator[Candidate]:
    profile = resolved.profile
    yield from _quantizations(asked, profile, resolved)
    if point.plan.runtime == "resident":
        yield from _thread_counts(asked, resolved)
        return
    streamed = replace(asked, runtime="stream")
    if point.plan.runtime == "mmap":
        yield "runtime", "stream the weights with explicit reads instead of mmap", streamed, profile
    else:
        yield from _stream_knobs(asked, resolved)
    yield from _codecs(streamed, profile)


def _quantizations(asked: Scenario, profile: CodecProfile, resolved: Resolved) -> Iterator[Candidate]:
    """The next smaller quantization of a preset, and the largest one that fits in RAM."""
    model = profile.model
    if model.source != "preset" or resolved.scenario.codec != "raw":
        return
    name, _ = models.resolve_name(asked.model)
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
    cores = sum(c.n_cores for c in resolved.device.cpu.clusters)
    for n in sorted({cores, (resolved.scenario.n_threads or 1) + 1}):
        if n <= cores:
            yield "threads", f"compute with {n} threads", replace(asked, n_threads=n), resolved.profile


def _stream_knobs(asked: Scenario, resolved: Resolved) -> Iterator[Candidate]:
    chosen, profile = resolved.scenario, resolved.profile
    for depth in {1, 2, 2 * chosen.prefetch_depth} - {chosen.prefetch_depth}:
        yield "prefetch", f"read {depth} steps ahead", replace(asked, prefetch_depth=depth), profile
    depth_now = chosen.queue_depth or 1
    for depth in {2 * depth_now, resolved.device.storage.best_queue_depth} - {depth_now}:
        yield "queue depth", f"keep {depth} reads in flight", replace(asked, queue_depth=depth), profile
    if asked.pinned_bytes is not None or asked.pinned_fraction is not None:
        free = replace(asked, pinned_bytes=None, pinned_fraction=None)
        yield "pin", "pin as many weights as the RAM holds", free, profile
    if chosen.codec != "raw":
        other = "compressed" if chosen.cache_form == "raw" else "raw"
        yield "hold", f"hold pinned weights {other}", replace(asked, cache_form=other), profile
        for n_workers in {(chosen.n_workers or 1) + 1, sum(c.n_cores for c in resolved.device.cpu.clusters)}:
            yield "workers", f"decompress with {n_workers} workers", replace(asked, n_workers=n_workers), profile


def _codecs(streamed: Scenario, profile: CodecProfile) -> Iterator[Candidate]:
    """No compression where there is one, and the codec that suits the layout where there is none."""
    if profile.codec != "raw":
        raw = replace(streamed, codec="raw")
        yield "codec", "store the weights raw", raw, load_profile(raw)
        return
    if profile.model.source != "preset":
        return
    filtered = "byteplane(zstd:1)" if _is_float(profile) else "fields(zstd:1)"
    for codec in ("zstd:1", filtered):
        with_codec = replace(streamed, codec=codec)
        stored = profile_from_statistics(profile.model, codec, profile.chunk_bytes)
        yield "codec", f"compress the weights with {codec} ({stored.ratio:.2f}×)", with_codec, stored


def _is_float(profile: CodecProfile) -> bool:
    largest = max(profile.model.tensors, key=lambda t: t.n_bytes)
    return largest.dtype in ("F32", "F16", "BF16")
