"""From measured runs to comparisons: inputs become a Scenario, the Scenario a prediction, and then the two meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import urlsplit

from simio import catalog, models
from simio.errors import InfeasibleError, ModelFileError, UnknownNameError, UsageError
from simio.predict import predict
from simio.records.device import Device
from simio.records.measurement import Measurement
from simio.records.prediction import Prediction
from simio.records.scenario import Scenario
from simio.records.validation import Comparison, Skipped, Validation
from simio.validate.errors import summarize

#: A percentile leaves the first tokens out, which warm a cache up, where enough others follow.
WARM_UP_TOKENS = 16
#: ``progress(done, total)`` in runs.
Progress = Callable[[int, int], None]


def validate(
    runs: Sequence[Measurement],
    device: str | None = None,
    model_of: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    answered: Mapping[Scenario, Prediction] | None = None,
) -> Validation:
    """Predict every run and compare. ``answered`` are predictions made earlier: before the runs, where it matters.

    ``device``, a catalogue id or a device file, stands for the device of every run. ``model_of`` maps models as the
    source calls them to presets or files. Runs that cannot be predicted are listed with the reason. Raises
    ``UnknownNameError`` or ``DeviceFileError`` for a ``device`` that is none.
    """
    if device is not None:
        catalog.load(device)
    rows: list[Comparison] = []
    skipped: list[Skipped] = []
    known = dict(answered or {})  # repeats ask the same question
    for done, run in enumerate(runs, start=1):
        found = _compare(run, device or run.device, (model_of or {}).get(run.model, run.model), known)
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            rows.append(found)
        if progress:
            progress(done, len(runs))
    return summarize(rows, skipped)


def _compare(
    run: Measurement, device_name: str, model_name: str, answered: dict[Scenario, Prediction]
) -> Comparison | Skipped:
    if run.unsupported:
        return Skipped(run.run_id, run.unsupported)
    measured_s = fmean(run.token_s) if run.token_s else run.mean_token_s
    if measured_s is None:
        return Skipped(run.run_id, "no decode rate was measured")
    if not device_name:
        return Skipped(run.run_id, "the file does not say which device this ran on: give --device")
    try:
        device = catalog.load(device_name)
        scenario = scenario_of(run.known, _device_id(device, device_name), model_named(model_name))
        if scenario not in answered:
            answered[scenario] = predict(scenario, suggestions=False)
    except (UnknownNameError, InfeasibleError, UsageError, ModelFileError) as error:
        return Skipped(run.run_id, error.message)
    return _comparison(run, answered[scenario], device, 1e3 * measured_s)


def catalogued(
    runs: Sequence[Measurement], device: str | None = None, model_of: Mapping[str, str] | None = None
) -> list[Measurement]:
    """Those runs whose device and model simio knows, under the names it knows them by; p95 as it is compared."""
    found = []
    for run in runs:
        name = device or run.device
        try:
            known_device = _device_id(catalog.load(name), name) if name else ""
            model = model_named((model_of or {}).get(run.model, run.model))
        except UnknownNameError:
            continue
        if known_device:
            counters = run.counters | ({"p95_token_s": p95_s(run.token_s)} if run.token_s else {})
            found.append(replace(run, device=known_device, model=model, counters=counters))
    return found


def scenario_of(known: Mapping[str, Any], device: str, model: str) -> Scenario:
    """The question a run answers: what its source states, and the defaults of ``Scenario`` for the rest."""
    return Scenario.from_json({**known, "device": device, "model": model}, "this run")


def _device_id(device: Device, name: str) -> str:
    return name if name.endswith(".toml") else device.id


def model_named(name: str) -> str:
    """A file where it exists here; otherwise the preset that the name, or the file's name, means."""
    if Path(name).expanduser().exists():
        return name
    preset_id, quant = models.resolve_name(Path(name).name if name.endswith(".gguf") else name)
    return f"{preset_id}:{quant}" if quant else preset_id


def _comparison(run: Measurement, p: Prediction, device: Device, measured_ms: float) -> Comparison:
    return Comparison(
        run_id=run.run_id,
        measured_ms=measured_ms,
        predicted_ms=1e3 / p.tokens_per_s,
        low_ms=1e3 / p.interval.high,
        high_ms=1e3 / p.interval.low if p.interval.low > 0 else None,
        device=device.id,
        model=str(p.model["name"]),
        kind=run.kind,
        relation=relation(device, run),
        baseline_bytes=p.bytes_per_token or float(p.model["n_bytes"]),
        peer_ms=1e3 * p.model["active_bytes"] / device.memory.read_bandwidth.value,
        predicted=_also_predicted(p),
        measured=_also_measured(run),
        repeat_of=run.repeat_of,
    )


def p95_s(latencies_s: Sequence[float]) -> float:
    """The 95th percentile (nearest rank) without the first ``WARM_UP_TOKENS``; of fewer than twice as many, of all."""
    steady = latencies_s[WARM_UP_TOKENS:] if len(latencies_s) >= 2 * WARM_UP_TOKENS else latencies_s
    return sorted(steady)[math.ceil(0.95 * len(steady)) - 1]


def relation(device: Device, run: Measurement) -> str:
    """How far ``run`` is from being held out, one of ``RELATIONS``."""
    if any(source.kind == "fitted" for source in device.sources):
        return "fitted"
    cites = any(_is_same_place(source.url, run.source) for source in device.sources)
    return "cited" if cites else "apart"


def _is_same_place(cited: str, run: str) -> bool:
    """Whether a run comes from the cited page or repository, or lies in the cited folder, as ``traces/a`` and
    ``../shared/traces/a/runs.csv``."""
    if page := _page(cited):
        return page == _page(run)
    folder, file = Path(cited).parts, Path(run).parts
    return bool(folder) and any(file[i : i + len(folder)] == folder for i in range(len(file)))


def _page(url: str) -> tuple[str, ...]:
    """Host and path; of a GitHub address only the repository, so that two files of one study count as one."""
    parts = urlsplit(url)
    if not parts.netloc:
        return ()
    path = parts.path.strip("/").split("/")
    of_repository = "github" in parts.netloc and not parts.netloc.startswith("gist.")
    return (parts.netloc.replace("raw.githubusercontent.com", "github.com"), *(path[:2] if of_repository else path))


def _also_predicted(p: Prediction) -> dict[str, Any]:
    resolved = p.resolved
    return {
        "tokens_per_s": p.tokens_per_s,
        "p95_token_s": p95_s(p.token_latencies_s),
        "prefill_tokens_per_s": resolved.prompt_tokens / p.ttft_s,
        "ttft_s": p.ttft_s,
        "load_s": p.cold_start_s - p.ttft_s,
        "bytes_per_token": p.bytes_per_token,
        "hit_ratio": p.hit_ratio if p.cache_hit_ratio is None else p.cache_hit_ratio,
        "runtime": resolved.runtime,
        "n_threads": resolved.n_threads,
        "ram_bytes": resolved.ram_bytes,
        "limit": p.bottleneck.limit,
        "confidence": p.confidence.label,
    }


def _also_measured(run: Measurement) -> dict[str, float]:
    found = {
        "prefill_tokens_per_s": run.prefill_tokens_per_s,
        "load_s": run.load_s,
        "bytes_per_token": run.bytes_per_token,
    }
    stated = {name: value for name, value in found.items() if value is not None} | run.counters
    return stated | ({"p95_token_s": p95_s(run.token_s)} if run.token_s else {})
