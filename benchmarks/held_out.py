"""How simio does on a device of which nothing was run: ``python benchmarks/held_out.py ../shared/measured/runs.csv``.

The core speed of each device is taken away and put back from the other devices: the median rate of one core per GHz
over all other device files of its family (Arm by the class of its fastest core, Apple, x86). Memory bandwidth, which a
data sheet bounds, stays as the device file has it; its share of the bus came from runs in part, so that this is a lower
bound of the error. Runs past RAM depend on the drive and stay out.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from simio import catalog, importers
from simio.errors import UnknownNameError
from simio.records.device import Device
from simio.records.validation import Comparison
from simio.validate import validate

#: Part of the name of the fastest core → family; the first that fits.
FAMILIES = (
    ("Cortex-A55", "in-order Arm"), ("Cortex-A53", "in-order Arm"), ("Cortex-A7", "Arm A7x"), ("Kryo", "Arm A7x"),
    ("Cortex-X", "Arm X"), ("Oryon", "Oryon"), ("performance", "Apple"), ("super", "Apple"), ("Zen", "Zen"),
)  # fmt: skip


def family(device: Device) -> str:
    """Which devices lend ``device`` their cores."""
    name = device.cpu.clusters[0].name
    return next((family for part, family in FAMILIES if part in name), "x86 or server")


def per_ghz(device: Device) -> float:
    """Bytes of Q4_0 one core multiplies in a cycle."""
    return device.cpu.gemv["q4_0"].value / device.cpu.clusters[0].clock.value


def without_runs(device: Device, others: list[Device], folder: Path) -> Path | None:
    """A device file whose kernel rates come from ``others``; ``None`` where there are none."""
    lenders = [per_ghz(d) for d in others if d.id != device.id and family(d) == family(device)]
    if not lenders:
        return None
    factor = median(lenders) / per_ghz(device)
    lines, table = [], ""
    for line in catalog.find(device.id).read_text(encoding="utf-8").splitlines():
        table = line if line.startswith("[") else table
        lines.append(_scaled(line, factor) if table == "[cpu.gemv]" and "=" in line else line)
    path = folder / f"{device.id}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _scaled(line: str, factor: float) -> str:
    words = line.split(" ")
    for i, word in enumerate(words):
        if word in ("value", "low", "high"):
            number = words[i + 2].rstrip(",")
            words[i + 2] = words[i + 2].replace(number, f"{float(number) * factor:.6g}")
    return " ".join(words)


def main(runs_csv: str) -> None:
    """Print the error of each device, with the device file's cores and with those of its relatives."""
    runs = [run for run in importers.read(Path(runs_csv)) if run.kind == "in_ram" and not run.unsupported]
    everything = [catalog.load(name) for name in catalog.names()]
    as_is, held_out = defaultdict(list), defaultdict(list)
    for row in validate(runs).rows:
        as_is[row.device].append(_error(row))
    with tempfile.TemporaryDirectory() as folder:
        for device in (d for d in everything if d.id in as_is):
            path = without_runs(device, everything, Path(folder))
            own = [run for run in runs if _is(run.device, device.id)]
            if path is not None:
                held_out[device.id] = [_error(row) for row in validate(own, device=str(path)).rows]
    print(f"{'device':28} runs  as is  held out")
    for name, errors in sorted(held_out.items()):
        print(f"{name:28} {len(errors):4} {median(as_is[name]):6.1%} {median(errors):9.1%}")
    medians = [median(errors) for errors in held_out.values()]
    every = [error for errors in held_out.values() for error in errors]
    print(f"held out: median of runs {median(every):.1%}, median of devices {median(medians):.1%}")


def _error(row: Comparison) -> float:
    return abs(row.predicted_ms / row.measured_ms - 1)


def _is(name: str, device_id: str) -> bool:
    try:
        return catalog.find(name).stem == device_id
    except UnknownNameError:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
