"""Does compressing BF16 weights pay on eMMC, UFS 3.1, UFS 4.0 and NVMe? Llama-3.2-3B, all of it read for every token.

BF16 loses a third under byteplane(zstd:1). Whether that is worth it is a race of storage against decompression:
closed form (pipelined), and simulated with everything else that a token waits for.
"""

from __future__ import annotations

import simio

STORAGE = {"eMMC": "rock5b", "UFS 3.1": "galaxy-s22", "UFS 4.0": "oneplus12", "NVMe": "rk3588-board"}

print(
    f"{'storage':9}{'device':15}{'reads':>10}{'decompresses':>15}{'pays below':>13}{'closed form':>13}{'simulated':>11}"
)
for storage, device in STORAGE.items():
    study = simio.break_even(
        device=device, model="llama-3.2-3b:bf16", codec="byteplane(zstd:1)", pinned_bytes=0, ram_bytes=2 * 10**9,
        n_tokens=16,
    )  # fmt: skip
    gain = study.simulated_gain
    verdict = f"pays {gain:.2f}×" if gain > 1.02 else "do not bother" if gain < 0.98 else "no difference"
    print(
        f"{storage:9}{device:15}{study.storage / 1e9:>5.2f} GB/s{study.decompress / 1e9:>10.2f} GB/s"
        f"{(study.over_storage.break_even or 0) / 1e9:>8.2f} GB/s{study.gain:>12.2f}×{gain:>10.2f}×  {verdict}"
    )
