"""``simio pack``, ``unpack`` and ``verify``: the compressed weight container."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from simio.cli.output import print_json, progress
from simio.errors import ContainerError, UsageError
from simio.units import format_bytes, parse_bytes

_SHOWN = 12
_Container = Annotated[Path, typer.Argument(help="Container made by `simio pack`.")]
_Workers = Annotated[int | None, typer.Option(help="Threads [all cores].")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pack(
    model: Annotated[Path, typer.Argument(help="Model file or directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The container to write (.simio).")],
    codec: Annotated[
        str | None, typer.Option(help="raw, lz4:1, byteplane(zstd:1), fields(zstd:1) … for all tensors [zstd:1].")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            help='JSON: {"default": "zstd:1", "tensors": {"name or pattern": "codec"}}, or a plan of study joint: '
            "its codecs and places."
        ),
    ] = None,
    chunk_size: Annotated[str, typer.Option(help="Unit compressed and read alone.")] = "1MiB",
    workers: _Workers = None,
    as_json: _Json = False,
) -> None:
    """Pack a model's files into one compressed container that can be read chunk by chunk, losslessly.

    Interrupted, the same command goes on where it stopped.

    Example: simio pack model.gguf -o model.simio --codec zstd:1
    """
    from simio.container.codec_choice import DEFAULT, CodecChoice
    from simio.container.packing import pack as run
    from simio.container.residency import described

    if codec is not None and plan is not None:
        raise UsageError("both --codec and --plan are given", 'give one; a plan has its own "default"')
    choice = CodecChoice.everywhere(codec or DEFAULT) if plan is None else CodecChoice.load(plan)
    chunk_bytes = parse_bytes(chunk_size, "--chunk-size")
    with progress("packing") as reporter:
        packed = run(model, output, choice, chunk_bytes=chunk_bytes, n_workers=workers, progress=reporter)
    places = Counter(place for place in packed.index.residency if place)
    table = {
        "model": packed.index.model.name,
        "output": str(packed.path),
        "codecs": sorted({name for name, _ in packed.index.codecs[1:]} or {"raw"}),
        "chunk_bytes": packed.index.chunk_bytes,
        "files": [name for name, _ in packed.index.files],
        "source_bytes": packed.source_bytes,
        "stored_bytes": packed.stored_bytes,
        "file_bytes": packed.file_bytes,
        "ratio": packed.source_bytes / packed.stored_bytes,
        "n_chunks": packed.n_chunks,
        "n_raw_chunks": packed.n_raw_chunks,
        "n_resumed_chunks": packed.n_resumed,
        "residency": places,
    }
    if as_json:
        print_json(table)
        return
    print(f"{table['model']}: {format_bytes(packed.source_bytes)} → {format_bytes(packed.file_bytes)} in {packed.path}")
    print(f"  {packed.n_chunks} chunks, {packed.n_raw_chunks} of them stored raw; "
          f"{table['ratio']:.4f}× without padding")  # fmt: skip
    if packed.index.residency:
        print(f"  the plan is kept: {described(places)}")
    if packed.n_resumed:
        print(f"  {packed.n_resumed} chunks were kept from the interrupted run")


def unpack(
    container: _Container,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory for the files; none may be there yet.")],
    workers: _Workers = None,
    as_json: _Json = False,
) -> None:
    """Give back the original files of a container, byte for byte.

    Example: simio unpack model.simio -o model/
    """
    from simio.container.reading import Container
    from simio.container.unpacking import unpack as run

    with Container.open(container) as opened, progress("unpacking") as reporter:
        files = run(opened, output, n_workers=workers, progress=reporter)
        sizes = [n_bytes for _, n_bytes in opened.index.files]
    if as_json:
        rows = [{"path": str(file), "n_bytes": size} for file, size in zip(files, sizes, strict=True)]
        print_json({"container": str(container), "output": str(output), "files": rows})
        return
    for file, size in zip(files, sizes, strict=True):
        print(f"{file}  {format_bytes(size)}")


def verify(container: _Container, workers: _Workers = None, as_json: _Json = False) -> None:
    """Hold every byte of a container against its checksums; exit code 10 when one does not fit.

    Example: simio verify model.simio
    """
    from simio.container.reading import Container
    from simio.container.verifying import find_damage

    with Container.open(container) as opened, progress("verifying") as reporter:
        damages = find_damage(opened, n_workers=workers, progress=reporter)
        n_chunks, file_bytes = opened.n_chunks, opened.header.file_bytes
    if as_json:
        rows = [{"chunk": damage.chunk, "offset": damage.offset, "what": damage.what} for damage in damages]
        print_json({
            "container": str(container), "ok": not damages, "n_chunks": n_chunks, "file_bytes": file_bytes,
            "damaged": rows,
        })  # fmt: skip
    if damages:
        more = f"\n  … and {len(damages) - _SHOWN} more" if len(damages) > _SHOWN else ""
        shown = "\n  ".join(damage.what for damage in damages[:_SHOWN])
        raise ContainerError(
            f"{len(damages)} of {n_chunks} chunks are damaged:\n  {shown}{more}", "copy or pack the container again"
        )
    if not as_json:
        print(f"{container}: all {n_chunks} chunks and the index are as they were packed ({format_bytes(file_bytes)})")
