"""Predicted against published decode rates of models that fit in RAM, on CPUs: writes the table of reports/accuracy.md.

    python benchmarks/in_ram_accuracy.py RUNS.csv > reports/accuracy.md

RUNS.csv has the columns kind, device, model, quant, engine, threads, backend, decode_tps. Predictions see the inputs
only. Engines with kernels of their own (T-MAC), sparsity (PowerInfer) and NPUs or GPUs are left out.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from simio import catalog, models
from simio.errors import UnknownNameError
from simio.predict import evaluate, resolve
from simio.records.scenario import Scenario
from simio.service_times import n_cores

QUANTS = {"W2 / Q2_K": "q2_k", "W4 / Q4_0": "q4_0", "q8": "int8", "INT4": "q4_0", "8bit": "int8", "4bit": "int4"}
FITTED = {"galaxy-s23", "poco-myron"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One published run and what simio says of it."""

    device: str
    model: str
    measured_tps: float
    predicted_tps: float

    @property
    def error(self) -> float:
        """Signed error of the token latency: predicted ÷ measured − 1."""
        return self.measured_tps / self.predicted_tps - 1


def compare(runs: Path) -> list[Comparison]:
    """Every CPU run whose device, model and quantization simio knows."""
    found = []
    for row in csv.DictReader(runs.open(encoding="utf-8")):
        if not _is_comparable(row):
            continue
        try:
            device = catalog.load(row["device"])
            model = f"{models.resolve_name(row['model'])[0]}:{quant_of(row['quant'])}"
            models.preset(model)
        except UnknownNameError:
            continue
        threads = int(row["threads"]) if row["threads"] else None
        scenario = Scenario(
            device=device.id,
            model=model,
            runtime="resident",
            ram_bytes=10**12,
            n_threads=min(threads, n_cores(device.cpu)) if threads else None,
            prompt_tokens=64,
            n_tokens=8,
        )
        found.append(Comparison(device.id, model, float(row["decode_tps"]), evaluate(resolve(scenario)).tokens_per_s))
    return found


def _is_comparable(row: dict[str, str]) -> bool:
    if row["kind"] != "in_ram" or not row["decode_tps"] or not row["backend"].startswith("CPU"):
        return False
    return "NPU" not in row["backend"] and not row["engine"].startswith(("T-MAC", "PowerInfer"))


def quant_of(text: str) -> str:
    """The quantization a table means: ``Q4 (ollama default)`` is Q4_K_M, any ``4-bit`` grouped layout int4."""
    if text in QUANTS:
        return QUANTS[text]
    if text.startswith("Q4 (ollama"):
        return "q4_k_m"
    return "int4" if "4-bit" in text else (text.split() or ["?"])[0].lower()


def page(comparisons: list[Comparison]) -> str:
    """The table by device, as Markdown."""
    by_device: dict[str, list[float]] = defaultdict(list)
    for c in comparisons:
        by_device[c.device].append(c.error)
    others = [abs(c.error) for c in comparisons if c.device not in FITTED]
    lines = [
        "# Accuracy",
        "",
        "What has been compared so far: decode rates of models that fit in RAM, on CPUs, against published runs.",
        "**None of this is held out.** Kernel rates and bandwidths of the device files were inferred from runs like",
        "these; rows marked *fitted* are the very runs their device was fitted on.",
        "Runs past RAM (mmap, stream) have not been validated yet; nor has any interval's coverage.",
        "",
        f"{len(comparisons)} runs: median error {_median(comparisons):.1%}; "
        f"without the fitted devices {len(others)} runs: median {statistics.median(others):.1%}, "
        f"90th percentile {sorted(others)[int(0.9 * len(others))]:.0%}, worst {max(others):.0%}.",
        "",
        "| device | runs | median signed error of ms/token | worst | |",
        "|---|---|---|---|---|",
    ]
    for device, errors in sorted(by_device.items()):
        mark = "fitted" if device in FITTED else ""
        lines.append(
            f"| {device} | {len(errors)} | {statistics.median(errors):+.0%} | {max(map(abs, errors)):.0%} | {mark} |"
        )
    command = "python benchmarks/in_ram_accuracy.py RUNS.csv > reports/accuracy.md"
    return "\n".join([*lines, "", f"Regenerate: `{command}`", ""])


def _median(comparisons: list[Comparison]) -> float:
    return statistics.median(abs(c.error) for c in comparisons)


if __name__ == "__main__":
    print(page(compare(Path(sys.argv[1]))), end="")
