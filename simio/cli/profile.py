"""``simio profile``: compress a model's real weights, chunk by chunk, and measure decompression."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simio.cli.output import check_output, print_json, progress, share
from simio.errors import UsageError
from simio.units import format_bytes, parse_bytes


def profile(
    model: Annotated[str, typer.Argument(help="Model file or directory.")],
    codec: Annotated[str, typer.Option(help="lz4:1, zstd:1, brotli:5, byteplane(zstd:1), fields(zstd:1) …")] = "zstd:1",
    output: Annotated[str | None, typer.Option("-o", "--output", help="Where to store the profile (.json).")] = None,
    sample: Annotated[str | None, typer.Option(help="Profile a stratified sample, e.g. 1%.")] = None,
    chunk_size: Annotated[str, typer.Option(help="Unit compressed.")] = "1MiB",
    workers: Annotated[int | None, typer.Option(help="Threads [all cores].")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask: local, or tcp://host:port. Sizes come from there, rates from here.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write cached results.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compress every chunk of a model and store the result for `simio predict`.

    Example: simio profile model.gguf --codec zstd:1 -o model.simio.json
    """
    sampled = None if sample is None else share(sample, "--sample")
    if sampled == 0:
        raise UsageError("--sample 0% profiles nothing", "write for example 1%")
    check_output(output)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}", "give at least 1")
    from simio import codecs
    from simio.predict.resolve import load_model
    from simio.profiling.cache import ProfileCache
    from simio.profiling.profile_file import save
    from simio.profiling.profiler import profile as run

    chunk_bytes = parse_bytes(chunk_size, "--chunk-size")
    if chunk_bytes < 4096:
        raise UsageError(f"--chunk-size {chunk_size}", "give at least 4KiB")
    chosen = codecs.parse(codec)
    with progress("compressing") as reporter:
        result = run(
            load_model(model),
            chosen,
            chunk_bytes=chunk_bytes,
            sample=sampled,
            seed=seed,
            n_workers=workers,
            progress=reporter,
            cache=None if no_cache else ProfileCache.default(),
            scheduler=scheduler,
        )
    if output is not None:
        save(result, Path(output))
    entropy = sum(t.entropy_bits_per_byte * sum(t.raw_bytes) for t in result.tensors) / max(1, result.raw_bytes)
    rate = result.decompress
    table = {
        "model": result.model.name,
        "codec": result.codec,
        "basis": result.basis,
        "raw_bytes": result.raw_bytes,
        "stored_bytes": result.stored_bytes,
        "ratio": result.ratio,
        "ratio_interval": result.ratio_interval,
        "bound_ratio": 8 / entropy if entropy else None,
        "n_chunks": sum(len(t.raw_bytes) for t in result.tensors),
        "decompress_bytes_per_s": rate and {"median": rate.median_bytes_per_s, "low": rate.low_bytes_per_s,
                                            "high": rate.high_bytes_per_s, "n": rate.n},
        "host": (host := result.host) and {"cpu": host.cpu, "library": host.library_version, "date": host.date},
        "output": output,
    }  # fmt: skip
    if as_json:
        print_json(table)
        return
    print(f"{result.model.name} with {result.codec}: {format_bytes(result.raw_bytes)} → "
          f"{format_bytes(result.stored_bytes)}, {result.ratio:.4f}× ({result.basis})")  # fmt: skip
    if result.ratio_interval:
        print(f"  95 % interval of the ratio {result.ratio_interval[0]:.4f} – {result.ratio_interval[1]:.4f}")
    if entropy:
        print(f"  order-0 bound {8 / entropy:.4f}×")
    if rate:
        low, median, high = map(format_bytes, (rate.low_bytes_per_s, rate.median_bytes_per_s, rate.high_bytes_per_s))
        where = "" if scheduler is None else " on this machine"
        print(f"  decompresses {median}/s per thread{where} (quartiles {low}/s – {high}/s, n = {rate.n})")
    if output:
        print(f"  stored in {output}")
