"""``simio study compressibility``: every layout × codec over a model's real weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simio.cli.output import check_folder, check_output, print_json, progress, warn
from simio.errors import UsageError, WriteError
from simio.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from simio.quant.contract import Quantizer
    from simio.records.compressibility import Compressibility, CompressibilityRow
    from simio.records.model import Model
    from simio.records.quality import LayoutQuality

#: Phones whose break-even is shown when none is named: slow to fast storage.
DEVICES = ("redmi-note-9-pro", "pixel5", "pixel8", "galaxy-s23", "xiaomi14", "oneplus12")
#: Outputs of a directory.
FILES = ("compressibility.parquet", "compressibility.html", "compressibility.json")
#: Layouts named in a line about several.
_SHOWN = 6
_NEEDS = {".parquet": "pyarrow", ".html": "plotly", ".json": ""}


def compressibility(
    model: Annotated[str, typer.Argument(help="Model file or directory.")],
    quant: Annotated[
        list[str] | None, typer.Option(help="Layouts: int8:tensor, q4_k …, or all; repeat, or put commas [a choice].")
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="Codecs: zstd:1, fields(zstd:1) …, or all; in the same way [a choice].")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Devices to break even on, ids or files [some phones].")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="FILE.parquet, FILE.html, FILE.json, or a directory for all.")
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Run the decoder: KL and perplexity of each layout. Needs torch.")
    ] = False,
    text: Annotated[
        Path | None, typer.Option(help="Text to calibrate on, first half, and to judge on, second half [its own].")
    ] = None,
    quality_tokens: Annotated[int, typer.Option(help="Tokens the model writes where there is no text.", min=64)] = 4096,
    chunk_size: Annotated[str, typer.Option(help="Unit compressed.")] = "1MiB",
    workers: Annotated[int | None, typer.Option(help="Threads [all cores, at most 4].")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write cached results.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far each quantized layout of a model still compresses, and where that pays.

    Every matrix is quantized by every layout and compressed by every codec; interrupted, the same command goes on.
    With --quality or --text the decoder is run, too: layouts that look at activations (awq, gptq …) need that.

    Example: simio study compressibility model.safetensors --quant int8:tensor,int8:channel,q4_k -o study/
    """
    outputs = _outputs(output)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}", "give at least 1")
    from simio import catalog
    from simio.predict.resolve import load_model
    from simio.study.calibration import calibrate
    from simio.study.compressibility import study
    from simio.study.journal import StudyJournal
    from simio.study.layouts import codecs_of, layouts

    chunk_bytes = parse_bytes(chunk_size, "--chunk-size")
    quantizers, codecs = layouts(quant or []), codecs_of(codec or [])
    devices = [catalog.load(name) for name in device or DEVICES]
    opened = load_model(model)
    texts = _texts(opened, text, quality_tokens) if quality or text is not None else None
    qualities = _qualities(opened, quantizers, texts) if texts and quality else {}
    with progress("quantizing and compressing") as reporter:
        found = study(
            opened,
            quantizers,
            codecs,
            devices=devices,
            chunk_bytes=chunk_bytes,
            n_workers=workers,
            progress=reporter,
            journal=None if no_cache else StudyJournal.default(_without_cache),
            calibration=calibrate(opened, texts[0]) if texts else None,
            qualities=qualities,
        )
    _write(found, outputs)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
        for path in outputs:
            print(f"written to {path}")


def _without_cache(error: WriteError) -> None:
    warn(error, "the study goes on and remembers nothing; --no-cache does without this note")


def _texts(model: Model, text: Path | None, n_tokens: int) -> tuple[Any, Any]:
    """Tokens to calibrate on and tokens to judge on: the halves of a file, or what the model writes itself."""
    from simio.quality import generated, halves, of_text

    if text is None:
        with progress("writing texts") as reporter:
            reporter(0, 2)
            first = generated(model, n_tokens, seed=0)
            reporter(1, 2)
            return first, generated(model, n_tokens, seed=1)
    try:
        written = text.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--text {text}: cannot be read: {error.strerror}", "give a UTF-8 file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{text} is not text: {error.reason} at byte {error.start}", "give a UTF-8 file") from None
    return halves(of_text(model, written))


def _qualities(model: Model, quantizers: list[Quantizer], texts: tuple[Any, Any]) -> dict[str, LayoutQuality]:
    """Every layout's quality, by name; the model is run once, layer by layer, under all of them."""
    from simio.quality import measure

    with progress("running the decoder, layers", in_bytes=False) as reporter:
        found = measure(model, quantizers, calibration=texts[0], evaluation=texts[1], on_layer=reporter)
    return {layout.quantizer: layout for layout in found.layouts}


def _outputs(output: Path | None) -> list[Path]:
    """The files to write, each checked before the work; a directory is made."""
    if output is None:
        return []
    if output.suffix in _NEEDS and not output.is_dir():
        paths = [output]
    elif output.suffix and not output.is_dir():
        raise UsageError(
            f"'{output}' is neither a directory nor a .parquet, .html or .json file", "name a directory for all three"
        )
    else:
        check_folder(output.resolve().parent, str(output))
        if output.is_file():
            raise UsageError(f"{output} is a file", "name a directory, or a .parquet, .html or .json file")
        try:
            output.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(f"{output}: cannot be made: {error.strerror}", "choose another place") from error
        paths = [output / name for name in FILES]
    for path in paths:
        check_output(str(path), needs=_NEEDS[path.suffix])
    return paths


def _write(found: Compressibility, outputs: list[Path]) -> None:
    from simio.paths import write_whole

    for path, content in [(path, _content(found, path.suffix)) for path in outputs]:  # all, before any is written
        write_whole(path, content)


def _content(found: Compressibility, suffix: str) -> str | bytes:
    if suffix == ".parquet":
        from simio.study.tidy import parquet

        return parquet(found)
    if suffix == ".html":
        from simio.report.compressibility_page import render

        return render(found)
    return json.dumps(found.to_json(), indent=1, ensure_ascii=False, allow_nan=False)


def _print(found: Compressibility) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(f"{found.model}: raw ÷ stored bytes of every layout and codec, chunks of "
                  f"{format_bytes(found.chunk_bytes)}")  # fmt: skip
    if found.rows:
        console.print(_ratios(found))
        console.print(_worth(found))
    for line in _left_out(found):
        print(line)


def _by_layout(found: Compressibility) -> dict[str, list[CompressibilityRow]]:
    by_layout: dict[str, list[CompressibilityRow]] = {}
    for row in found.rows:
        by_layout.setdefault(row.quant, []).append(row)
    return by_layout


def _ratios(found: Compressibility) -> Any:
    """A line a layout, a column a codec: its ratio, and the rate of one thread."""
    from rich import box
    from rich.table import Table

    codecs = list(dict.fromkeys(row.codec for row in found.rows if row.codec != "raw"))
    table = Table(box=box.SIMPLE)
    judged = any(row.kl is not None for row in found.rows)
    for name in (
        "layout",
        "bits/weight",
        "entropy",
        *(("KL",) if judged else ()),
        "bound",
        "stored bits/weight",
        *codecs,
    ):
        table.add_column(name, justify="left" if name == "layout" else "right", overflow="fold")
    for quant, rows in _by_layout(found).items():
        bound = min((r.sizes.bound_bytes for r in rows), default=0.0)
        first = rows[0].sizes
        least = min(row.sizes.stored_bits_per_weight for row in rows)
        cells = [_rated(next(row for row in rows if row.codec == codec)) for codec in codecs]
        table.add_row(
            quant, f"{first.bits_per_weight:.3f}", f"{first.entropy_bits:.3f}", *((_kl(rows[0]),) if judged else ()),
            f"{first.raw_bytes / bound:.3f}" if bound else "–", f"{least:.3f}", *cells,
        )  # fmt: skip
    return table


def _kl(row: CompressibilityRow) -> str:
    """Nats per token; nothing where the layout left matrices as they were."""
    return "–" if row.kl is None else f"{row.kl:.2g}"


def _rated(row: CompressibilityRow) -> str:
    rate = f" {row.decompression.rate.median_bytes_per_s / 1e9:.2f} GB/s" if row.decompression else ""
    return f"{row.sizes.ratio:.3f}{rate}"


def _worth(found: Compressibility) -> Any:
    """A line a layout, a column a device: the verdict with the codec that gains most there."""
    from rich import box
    from rich.table import Table

    places = found.rows[0].break_even
    table = Table(box=box.SIMPLE)
    table.add_column("layout")
    for worth in places:
        table.add_column(f"{worth.device}\n{format_bytes(worth.storage_bytes_per_s)}/s")
    for quant, rows in _by_layout(found).items():
        cells = []
        for place in range(len(places)):
            best = max(rows, key=lambda row: row.break_even[place].gain)
            verdict = best.break_even[place].verdict
            cells.append(f"{verdict}\n{best.codec}" if verdict.startswith("pays") else verdict)
        table.add_row(quant, *cells)
    return table


def _left_out(found: Compressibility) -> list[str]:
    """What layouts keep as it is, and which are left out: a line a reason, with the layouts it holds for."""
    groups: dict[str, list[str]] = {}
    for row in {row.quant: row for row in found.rows}.values():
        if kept := _kept(row):
            groups.setdefault(f"keeps {kept}", []).append(row.quant)
    for skipped in found.skipped:
        reason = skipped.reason.replace(f"{skipped.quant} needs", "it needs")
        groups.setdefault(f"is left out: {reason}", []).append(skipped.quant)
    return [f"{_named(quants)} {what}" for what, quants in groups.items()]


def _named(quants: list[str]) -> str:
    if len(quants) == 1:
        return quants[0]
    shown = ", ".join(quants[:_SHOWN])
    return f"each of {shown}" + (f" and {len(quants) - _SHOWN} more layouts" if len(quants) > _SHOWN else "")


def _kept(row: CompressibilityRow) -> str:
    """The matrices that ``row``'s layout keeps, by reason; nothing where it takes all."""
    refused = [kept for kept in row.kept if not kept.reason.startswith("no matrix")]
    if not refused:
        return ""
    total = sum(kept.n_weights for kept in row.kept) + row.sizes.n_weights
    share = sum(kept.n_weights for kept in refused) / max(1, total)
    many = f"{len(refused)} matrices as they are" if len(refused) > 1 else "a matrix as it is"
    reason = refused[0].reason.replace(f"{row.quant} needs", "it needs")
    return f"{many} ({share:.1%} of all weights), the first {refused[0].tensor}: {reason}"
