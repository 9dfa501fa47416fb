"""``simio predict``: one scenario in, one prediction out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_output, print_json, progress
from simio.cli.scenario_options import in_options, naming_options, scenario_fields
from simio.errors import UsageError
from simio.paths import write_whole
from simio.units import format_bytes, format_s

if TYPE_CHECKING:
    from simio.records.prediction import Prediction
    from simio.records.scenario import Scenario

_Text = str | None
_Count = int | None


def predict(
    scenario_file: Annotated[_Text, typer.Argument(metavar="[SCENARIO.toml]", help="A saved scenario.")] = None,
    device: Annotated[_Text, typer.Option(help="Catalogue id, or path of a device file.")] = None,
    model: Annotated[_Text, typer.Option(help="Preset name:quant, model file or directory, or stored profile.")] = None,
    runtime: Annotated[_Text, typer.Option(help="auto, resident, mmap or stream.")] = None,
    codec: Annotated[
        _Text, typer.Option(help="raw, lz4:1, zstd:1, brotli:5, byteplane(zstd:1), fields(zstd:1) …")
    ] = None,
    ram: Annotated[_Text, typer.Option(help="RAM the app may use, e.g. 4GB. Default: the device's.")] = None,
    prompt: Annotated[_Count, typer.Option(help="Prompt tokens [128].")] = None,
    batch: Annotated[_Count, typer.Option(help="Prompt tokens per prefill pass [512].")] = None,
    tokens: Annotated[_Count, typer.Option(help="Generated tokens [64].")] = None,
    context: Annotated[_Count, typer.Option(help="KV cells allocated [prompt + tokens].")] = None,
    kv_bytes: Annotated[float | None, typer.Option(help="Bytes per KV value [2].")] = None,
    threads: Annotated[_Count, typer.Option(help="Compute threads.")] = None,
    workers: Annotated[_Count, typer.Option(help="Decompression workers.")] = None,
    queue_depth: Annotated[_Count, typer.Option(help="Reads in flight (stream).")] = None,
    read_size: Annotated[_Text, typer.Option(help="Size of one read request [4MiB].")] = None,
    chunk_size: Annotated[_Text, typer.Option(help="Unit compressed [1MiB].")] = None,
    prefetch: Annotated[_Count, typer.Option(help="Steps read ahead of compute [1]; 0 = serial.")] = None,
    staging: Annotated[_Text, typer.Option(help="Buffers between flash and compute.")] = None,
    pin: Annotated[_Text, typer.Option(help="Weights kept in RAM under stream: 2GB or 50%.")] = None,
    cache: Annotated[
        _Text, typer.Option(help="Cache policy: lru, lfu, none; of experts also layer_lru, layer_lfu, pinned, belady.")
    ] = None,
    cache_size: Annotated[_Text, typer.Option(help="Size of that cache.")] = None,
    hold: Annotated[_Text, typer.Option(help="Hold pinned and cached weights raw or compressed.")] = None,
    read_limit: Annotated[_Text, typer.Option(help="Throttle the storage, e.g. 200MB/s.")] = None,
    read_ahead: Annotated[_Text, typer.Option(help="Kernel read-ahead (mmap). Default: the device's.")] = None,
    top_k: Annotated[_Count, typer.Option(help="Experts per token.")] = None,
    routing: Annotated[_Text, typer.Option(help="Routing trace to replay instead of seeded draws.")] = None,
    dense_weights: Annotated[
        _Text, typer.Option(help="Streamed mixture: the rest is held in anon buffers, mmap or warm (mapped, pre-read).")
    ] = None,
    expert_overlap: Annotated[
        bool | None, typer.Option("--expert-overlap/--no-expert-overlap", help="Multiply experts as they arrive.")
    ] = None,
    contiguous_experts: Annotated[
        bool | None,
        typer.Option("--contiguous-experts/--no-contiguous-experts", help="The slices of an expert are read at once."),
    ] = None,
    expert_prefetch: Annotated[
        _Count, typer.Option(help="Experts of the last token read again early, a layer.")
    ] = None,
    speculative_gate: Annotated[
        bool | None, typer.Option("--speculative-gate/--no-speculative-gate", help="Read what a guessed router names.")
    ] = None,
    drop_cold: Annotated[
        float | None, typer.Option(help="Leave out missing experts of less than this share of a token's router weight.")
    ] = None,
    available: Annotated[
        _Text, typer.Option(help="RAM found free at the start; counts where it is more than usual.")
    ] = None,
    entry_temperature: Annotated[float | None, typer.Option(help="CPU temperature at the start, °C.")] = None,
    sustained: Annotated[float | None, typer.Option(help="Seconds of load before the run: how fast when hot.")] = None,
    seed: Annotated[_Count, typer.Option(help="Seed of routing and Monte Carlo [0].")] = None,
    draws: Annotated[_Count, typer.Option(help="Monte Carlo draws behind the interval [200].")] = None,
    check: Annotated[str, typer.Option(help="prefix: SimPy checks the start of the run; full: all of it.")] = "prefix",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[_Text, typer.Option(help="Write a self-contained HTML page.")] = None,
    save_scenario: Annotated[_Text, typer.Option(help="Write the scenario; `simio predict FILE` repeats it.")] = None,
) -> None:
    """Predict tokens/s, time to first token and what limits them.

    Example: simio predict --device pixel8 --model llama-3.2-3b:q4_k_m
    """
    options = scenario_fields(locals())
    if check not in ("prefix", "full"):
        raise UsageError(f"--check {check}", "use prefix or full")
    scenario = scenario_of(scenario_file, options)
    check_output(report, needs="plotly")
    check_output(save_scenario)
    from simio.predict import predict as run

    with (
        naming_options(),
        progress("profiling a sample") as reporter,
        progress("trying changes", in_bytes=False, after_s=1.0) as trying,
    ):
        prediction = run(scenario, full_check=check == "full", progress=reporter, trying=trying)
    if save_scenario:
        save(scenario, Path(save_scenario))
    if report:
        from simio import catalog
        from simio.cli.device_text import quantities
        from simio.report.prediction_page import render

        device_record = catalog.load(prediction.resolved.device)
        write_whole(Path(report), render(prediction, device_record, list(quantities(device_record))))
    if as_json:
        print_json(prediction.to_json())
    else:
        print(describe(prediction))
        if report:
            print(f"\nreport: {report}")


def scenario_of(path: str | None, options: dict[str, Any]) -> Scenario:
    """The saved scenario, if any, with the options given on top."""
    from simio.records.scenario import Scenario

    saved: dict[str, Any] = {}
    if path is not None:
        from simio.whatif.words import saved_scenario

        saved = saved_scenario(path)
    for name, example in (("device", "pixel8"), ("model", "llama-3.2-3b:q4_k_m")):
        if name not in options and name not in saved:
            raise UsageError(f"no --{name}", f"for example --{name} {example}")
    if {"pinned_bytes", "pinned_fraction"} & set(options):
        saved = {k: v for k, v in saved.items() if k not in ("pinned_bytes", "pinned_fraction")}
    try:
        return Scenario.from_json(saved | options, path or "options")
    except UsageError as error:
        raise UsageError(error.message if path else in_options(error.message), error.hint) from None


def save(scenario: Scenario, path: Path) -> None:
    """Write ``scenario`` as TOML; ``simio predict PATH`` repeats the result bit for bit, from any directory."""
    import tomli_w

    table = scenario.to_json()
    for name in ("device", "model", "routing"):
        if name in table and Path(table[name]).exists():
            table[name] = str(Path(table[name]).absolute())
    write_whole(path, tomli_w.dumps(table))


def _energy(p: Prediction) -> list[str]:
    """The line of energy, where the device file knows powers."""
    if p.energy_j_per_token is None or p.energy_interval is None:
        return []
    low, high = p.energy_interval.low, p.energy_interval.high
    return [
        f"  energy         {p.energy_j_per_token:.3g} J per token   ({100 * p.energy_interval.level:.0f} % interval "
        f"of the powers {low:.3g} – {high:.3g})"
    ]


def describe(p: Prediction) -> str:
    """The prediction as text."""
    interval, latency, resolved = p.interval, p.token_latency_s, p.resolved
    cached = "" if p.cache_hit_ratio is None else f", cache hits {100 * p.cache_hit_ratio:.1f} %"
    lines = [
        f"{p.model['name']} ({format_bytes(p.model['n_bytes'])}, {p.model['bits_per_weight']:.2f} bits/weight) "
        f"on {resolved.device}, runtime {resolved.runtime}, codec {resolved.codec}",
        "",
        f"  {p.tokens_per_s:.3g} tokens/s   ({100 * interval.level:.0f} % interval "
        f"{interval.low:.3g} – {interval.high:.3g})   confidence {p.confidence.label}",
        f"  first token {format_s(p.ttft_s)} after the prompt, {format_s(p.cold_start_s)} from a cold start",
        f"  token latency  p50 {format_s(latency.p50)}   p95 {format_s(latency.p95)}   max {format_s(latency.max)}",
        f"  storage        {format_bytes(p.bytes_per_token)} per token, {100 * p.hit_ratio:.1f} % of weights from RAM"
        f"{cached}",
        f"  RAM            {format_bytes(p.peak_ram_bytes)} of {format_bytes(p.ram.budget)} "
        f"(weights {format_bytes(p.ram.weights)}, KV {format_bytes(p.ram.kv_cache)})",
        *_energy(p),
        f"  limited by     {p.bottleneck.limit} "
        f"({', '.join(f'{k} {100 * v:.0f} %' for k, v in p.bottleneck.share.items() if v > 0.005)}); "
        f"next {p.bottleneck.next}",
        f"  rests on       {p.confidence.basis}",
    ]
    if resolved.codec != "raw":
        c = p.compression
        bound = f", order-0 bound {c['bound_ratio']:.3f}×" if c["bound_ratio"] else ""
        lines.append(f"  compression    {c['ratio']:.3f}×{bound} ({c['basis']})")
    lines += [f"  note           {note}" for note in p.notes]
    lines += ["", "What would help:" if p.suggestions else "Nothing simio can change here helps by 2 % or more."]
    for s in p.suggestions:
        lines += [f"  {s.gain:.2f}×  {s.change} → {s.tokens_per_s:.3g} tokens/s", f"         {s.command}"]
    passed = len(p.checks)
    return "\n".join([*lines, "", f"{passed} of {passed} laws hold."])
