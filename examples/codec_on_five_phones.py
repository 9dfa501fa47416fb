"""Which codec for Llama-3.1-8B on five phones? RAM for 3 GB of the weights, the rest streamed for every token.

A codec is only as good as the odds that it beats raw weights on the same phone, draw by draw.
"""

from __future__ import annotations

import simio
from simio.errors import InfeasibleError

PHONES = ("pixel5", "pixel8", "galaxy-s22", "galaxy-s24-ultra", "oneplus15r")
CODECS = ("zstd:1", "fields(zstd:1)", "byteplane(zstd:1)")

for quant in ("bf16", "q8_0", "q4_k_m"):
    print(f"\nllama-3.1-8b:{quant:10}{'raw':>12}" + "".join(f"{codec:>26}" for codec in CODECS))
    for phone in PHONES:
        scenario = simio.Scenario(
            device=phone, model=f"llama-3.1-8b:{quant}", runtime="stream", ram_bytes=3 * 10**9, n_tokens=16, draws=100
        )
        cells, raw = [], simio.predict(scenario, suggestions=False, draws=0).tokens_per_s
        for codec in CODECS:
            try:
                found = simio.compare({"codec": codec}, {"codec": "raw"}, **scenario.to_json())
            except InfeasibleError:
                cells.append("no")
                continue
            odds = found.odds[0]
            verdict = "pays" if odds.share > 0.9 else "does not" if odds.share < 0.1 else "perhaps"
            cells.append(f"{odds.ratio:.2f}× in {100 * odds.share:.0f} % {verdict}")
        print(f"  {phone:20}{raw:>7.3f} tok/s" + "".join(f"{cell:>26}" for cell in cells))
