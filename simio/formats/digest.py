"""Identify the content of weights files quickly: size, header and evenly spread samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simio.formats.weights import read_bytes
from simio.units import KIB, MIB

SAMPLE_BYTES = 64 * KIB
SAMPLE_EVERY_BYTES = 64 * MIB


def digest(files: Sequence[tuple[Path, int]]) -> str:
    """The digest of a model's files, each given with the byte where its tensor data begin: 32 hexadecimal digits.

    XXH3-128 over, for each file in order: its size (8 bytes, little-endian), all bytes before ``data_start`` (the
    header: names, types, shapes, offsets, metadata), then 64 KiB at every multiple of 64 MiB counted from
    ``data_start``, then the last 64 KiB. Paths and times do not enter. A file of 5 GB costs 80 reads; a change that
    keeps size and header and lies between the samples is not seen.
    """
    import xxhash

    state = xxhash.xxh3_128()
    for path, data_start in files:
        n_bytes = path.stat().st_size
        state.update(n_bytes.to_bytes(8, "little"))
        state.update(read_bytes(path, 0, data_start))
        for start in (*range(data_start, n_bytes, SAMPLE_EVERY_BYTES), max(data_start, n_bytes - SAMPLE_BYTES)):
            state.update(read_bytes(path, start, min(SAMPLE_BYTES, n_bytes - start)))
    return str(state.hexdigest())
