"""Which codec pays where? Llama-3.1-8B in three layouts on slow and fast storage, all weights streamed every token."""

from __future__ import annotations

from simio.predict import evaluate, resolve
from simio.records.scenario import Scenario

DEVICES = ("rpi5-sd", "pixel8", "nvme-minipc")
CODECS = ("raw", "lz4:1", "zstd:1", "fields(zstd:1)", "byteplane(zstd:1)")


def speed(device: str, quant: str, codec: str) -> float:
    """Tokens per second with 2 GB of RAM and nothing pinned."""
    scenario = Scenario(
        device=device, model=f"llama-3.1-8b:{quant}", runtime="stream", codec=codec, ram_bytes=2 * 10**9, pinned_bytes=0
    )
    return evaluate(resolve(scenario)).tokens_per_s


print(f"{'':24}" + "".join(f"{codec:>19}" for codec in CODECS))
for quant in ("bf16", "q8_0", "q4_k_m"):
    for device in DEVICES:
        raw = speed(device, quant, "raw")
        gains = [speed(device, quant, codec) / raw for codec in CODECS[1:]]
        print(f"{quant:8}{device:16}{raw:>13.4f} tok/s" + "".join(f"{gain:>18.2f}×" for gain in gains))
