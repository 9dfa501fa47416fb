"""How much RAM does Llama-3.1-8B need on a Pixel 8? mmap falls off a cliff; explicit streaming slides down a slope."""

from __future__ import annotations

from simio.predict import evaluate, resolve
from simio.records.scenario import Scenario

print(f"{'RAM':>6}  {'mmap':>12}  {'stream':>12}")
for gigabytes in (2, 3, 4, 4.5, 5, 6):
    row = []
    for runtime in ("mmap", "stream"):
        scenario = Scenario(
            device="pixel8", model="llama-3.1-8b:q4_k_m", runtime=runtime, ram_bytes=round(gigabytes * 10**9)
        )
        row.append(f"{evaluate(resolve(scenario)).tokens_per_s:8.3f} tok/s")
    print(f"{gigabytes:>3} GB  " + "".join(row))
