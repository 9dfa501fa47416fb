"""``simio run``: generate text while the weights stream from storage, and measure it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_output, print_json, progress
from simio.cli.scenario_options import fields_of, naming_options
from simio.errors import ContainerError
from simio.paths import write_whole
from simio.units import format_bytes, format_s

if TYPE_CHECKING:
    from simio.records.scenario import Scenario
    from simio.runtime.running import Ran

_Text = str | None
_Count = int | None


def run(
    container: Annotated[Path, typer.Argument(help="Container made by `simio pack`.")],
    prompt: Annotated[str, typer.Option(help="Text to continue; token ids where the model has no vocabulary.")] = "",
    tokens: Annotated[int, typer.Option(help="Tokens to generate, greedily.", min=2)] = 32,
    ram: Annotated[
        _Text, typer.Option(help="RAM for weights, staging, KV cache and buffers; enforced. [all free]")
    ] = None,
    read_limit: Annotated[_Text, typer.Option(help="Read no faster than this, e.g. 400MB/s.")] = None,
    device_limits: Annotated[_Text, typer.Option(help="RAM and read rate of this device, where not given.")] = None,
    threads: Annotated[_Count, typer.Option(help="Compute threads [the other cores].")] = None,
    workers: Annotated[_Count, typer.Option(help="Decompression workers [half the cores].")] = None,
    queue_depth: Annotated[_Count, typer.Option(help="Reads in flight [2].")] = None,
    read_size: Annotated[_Text, typer.Option(help="Size of one read request [4MiB].")] = None,
    prefetch: Annotated[_Count, typer.Option(help="Steps read ahead of compute [1]; 0 = serial.")] = None,
    staging: Annotated[_Text, typer.Option(help="Buffers between storage and compute.")] = None,
    pin: Annotated[_Text, typer.Option(help="Weights kept in RAM: 2GB or 50% [what fits].")] = None,
    cache: Annotated[_Text, typer.Option(help="Cache policy for what is not pinned: none or lru.")] = None,
    cache_size: Annotated[_Text, typer.Option(help="Size of that cache.")] = None,
    hold: Annotated[_Text, typer.Option(help="Hold pinned and cached weights raw or compressed.")] = None,
    context: Annotated[_Count, typer.Option(help="KV cells allocated [prompt + tokens].")] = None,
    check: Annotated[bool, typer.Option("--check", help="Also generate from RAM, and compare token by token.")] = False,
    output: Annotated[_Text, typer.Option("-o", "--output", help="Write the measurement (for simio validate).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Generate text from a container while its weights stream from storage, and measure every token.

    Example: simio run model.simio --ram 2GB --read-limit 400MB/s --prompt "Once upon a time"
    """
    from simio.container.reading import Container
    from simio.container.residency import described
    from simio.importers.simio_run import to_text
    from simio.records.scenario import Scenario
    from simio.runtime.supervising import run_apart
    from simio.runtime.tokenizer import continued, tokenizer_of

    check_output(output)
    sizes = {
        "ram_bytes": ("--ram", ram), "read_bytes": ("--read-size", read_size),
        "staging_bytes": ("--staging", staging), "cache_bytes": ("--cache-size", cache_size),
    }  # fmt: skip
    plain: dict[str, Any] = {
        "n_tokens": tokens, "context_tokens": context, "n_threads": threads, "n_workers": workers,
        "queue_depth": queue_depth, "prefetch_depth": prefetch, "cache_policy": cache, "cache_form": hold,
    }  # fmt: skip
    with Container.open(container) as opened:
        tokenizer = tokenizer_of(opened.model, opened)
        ids = tokenizer.encode(prompt) or [min(_BEGIN, opened.model.architecture.vocab_size - 1)]
        places = described(Counter(place for place in opened.index.residency if place))
    options = fields_of(plain, sizes, read_limit, pin)
    with naming_options(), progress("generating", in_bytes=False) as reporter:
        scenario = _limited(Scenario("host", str(container), prompt_tokens=len(ids), **options), device_limits)
        report = run_apart(scenario, ids, reporter)
    if check:
        _check(container, ids, report)
    if output:
        write_whole(Path(output), to_text([report.measurement]))
    ends = [n for n, token in enumerate(report.tokens) if token in tokenizer.ends]
    text = continued(tokenizer, ids, report.tokens[: ends[0]] if ends else report.tokens)
    if as_json:
        print_json(
            {
                "prompt": ids, "tokens": report.tokens, "text": text, "equals_reference": True if check else None,
                "scenario": report.scenario.to_json(), "memory": report.limit_note, "reads": report.storage_note,
                "measurement": report.measurement.to_json(),
            }
        )  # fmt: skip
        return
    print(describe(report, prompt + text))
    if places:
        print(f"  plan           {places}")
    if check:
        print(f"  tokens         equal to those of the same model in RAM ({len(report.tokens)})")


#: The token that begins a text where no vocabulary says which: Llama's.
_BEGIN = 1


def _limited(scenario: Scenario, device: str | None) -> Scenario:
    """``scenario`` with the RAM and the read rate of ``device`` where it has none of its own."""
    if device is None:
        return scenario
    from simio import catalog
    from simio.plan.build import READ_BYTES
    from simio.service_times import read_bandwidth

    record = catalog.load(device)
    size, depth = scenario.read_bytes or READ_BYTES, scenario.queue_depth or record.storage.best_queue_depth
    rate = read_bandwidth(record.storage, size, depth, sequential=True)
    return replace(
        scenario,
        ram_bytes=scenario.ram_bytes or round(record.memory.usable.value),
        read_limit_bytes_per_s=scenario.read_limit_bytes_per_s or rate,
    )


def _check(container: Path, prompt: list[int], report: Ran) -> None:
    from simio.runtime.running import reference

    expected = reference(container, prompt, len(report.tokens))
    if expected != report.tokens:
        first = next(n for n, (a, b) in enumerate(zip(expected, report.tokens, strict=True)) if a != b)
        raise ContainerError(
            f"token {first} is {report.tokens[first]}, but {expected[first]} from RAM", "please report this"
        )


def describe(report: Ran, text: str) -> str:
    """The run as text."""
    m, scenario = report.measurement, report.scenario
    mean_s = m.mean_token_s or 0.0
    total = {name: sum(values) / max(1, len(values)) for name, values in m.per_token.items()}
    spans = "   ".join(f"{name.removesuffix('_s')} {format_s(total[name])}" for name in total if name.endswith("_s"))
    return "\n".join(
        [
            text,
            "",
            f"  {1 / mean_s:.3g} tokens/s   {format_s(mean_s)} per token over {len(m.token_s)} tokens",
            f"  each token     {spans}",
            f"  storage        {format_bytes(m.bytes_per_token or 0)} per token ({report.storage_note}), "
            f"loaded {format_bytes(m.counters['load_bytes'])} in {format_s(m.load_s or 0)}",
            f"  RAM            {format_bytes(scenario.ram_bytes or 0)}, {report.limit_note}",
            f"  settings       {scenario.n_threads} compute threads, {scenario.n_workers} workers, queue depth "
            f"{scenario.queue_depth}, prefetch {scenario.prefetch_depth}",
            *(f"  note           {note}" for note in m.note.split("; ")[1:]),
        ]
    )
