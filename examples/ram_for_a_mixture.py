"""How much RAM does Qwen3-30B-A3B need on a 12 GB phone? 18.6 GB of experts, of which a token uses a tenth.

Experts are streamed from flash; what RAM there is keeps the most recently used ones. The last column is what a step of
the cache brings. Beyond what the phone can give, a larger cache is paid back in page faults.
"""

from __future__ import annotations

import simio

QUESTION = simio.Scenario(device="oneplus15r", model="qwen3-30b-a3b:q4_k_m", runtime="stream", n_tokens=64, draws=100)
GIB = 1 << 30

print(f"{'cache':>9}{'RAM':>10}{'hits':>8}{'read/token':>12}{'tokens/s':>10}   80 % interval   gain")
before = 0.0
for halves in (0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16):
    cache = {"cache_policy": "none"} if halves == 0 else {"cache_bytes": halves * GIB // 2}
    found = simio.predict(QUESTION, suggestions=False, **cache)
    gain = f"{100 * (found.tokens_per_s / before - 1):+5.0f} %" if before else ""
    before = found.tokens_per_s
    print(
        f"{halves / 2:>5} GiB{found.peak_ram_bytes / 1e9:>7.2f} GB{100 * (found.cache_hit_ratio or 0):>6.1f} %"
        f"{found.bytes_per_token / 1e6:>9.0f} MB{found.tokens_per_s:>10.2f}"
        f"{f'{found.interval.low:.2f} – {found.interval.high:.2f}':>16}{gain:>8}"
    )
