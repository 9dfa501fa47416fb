"""How well `simio run` overlaps reading, decompressing and computing on a paced disk.

    python benchmarks/overlap.py [--folder out/grid]

Lower bound of a token: the largest of bytes ÷ the rate set, decompression ÷ workers and computing, as measured in the
same run. Overlap efficiency is that bound ÷ the token's time. Beside it the same settings without prefetch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean, median

from simio.records.measurement import Measurement
from simio.records.scenario import Scenario
from simio.runtime.supervising import run_apart
from simio.units import MB
from simio.validate.grid import GRIDS, PROMPT, containers

RATES_BYTES_PER_S = (200 * MB, 400 * MB)
RAM_BYTES = 100 * MB


def bound_s(run: Measurement) -> float:
    """The lower bound of a token. [s]"""
    parts = {name: fmean(run.per_token[name]) for name in ("read_bytes", "decompress_s", "compute_s")}
    rate, workers = run.known["read_limit_bytes_per_s"], run.known["n_workers"]
    return max(parts["read_bytes"] / rate, parts["decompress_s"] / workers, parts["compute_s"])


def main() -> None:
    """Print a row for every container and rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("out/grid"), help="where the models are kept")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found = []
    print(f"{'container':24} {'MB/s':>5} {'token':>9} {'bound':>9} {'efficiency':>10} {'serial ÷ overlapped':>20}")
    for path in containers(GRIDS["standard"], options.folder):
        for rate in RATES_BYTES_PER_S:
            runs = [_run(path, rate, depth) for depth in (1, 0) * options.repeats]
            overlapped, serial = runs[::2], runs[1::2]
            token = [fmean(run.token_s) for run in overlapped]
            efficiency = median(bound_s(run) / fmean(run.token_s) for run in overlapped)
            found.append(efficiency)
            ratio = median(fmean(s.token_s) / t for s, t in zip(serial, token, strict=True))
            bound = median(map(bound_s, overlapped))
            print(
                f"{path.stem:24} {rate / MB:5.0f} {1e3 * median(token):6.1f} ms {1e3 * bound:6.1f} ms "
                f"{efficiency:10.1%} {ratio:19.2f}×",
                flush=True,
            )
    print(f"overlap efficiency: median {median(found):.1%}, least {min(found):.1%}")


def _run(path: Path, rate: float, depth: int) -> Measurement:
    asked = Scenario(
        "host", str(path), ram_bytes=RAM_BYTES, prompt_tokens=len(PROMPT), n_tokens=8, n_threads=1, n_workers=1,
        prefetch_depth=depth, read_limit_bytes_per_s=rate,
    )  # fmt: skip
    return run_apart(asked, PROMPT).measurement


if __name__ == "__main__":
    main()
