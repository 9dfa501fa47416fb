"""Bits stored, bits of information and divergence of weight layouts on the complete trained decoders there are.

    python benchmarks/quality_scatter.py [--layout int8:channel …] [--model stories260k …] [--tokens 4096] [--json FILE]

A row for every decoder and layout: stored and entropy bits per weight, relative errors, KL(full ‖ quantized) and the
share of weights in rows that zeros filled up to a multiple of the layout's group (the zeros count as stored bits).
Texts are the models' own. Layouts that are not installed are skipped and named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from real_decoders import real_decoders

from simio.formats.opening import open_model
from simio.paths import write_whole
from simio.quality import measure
from simio.records.quality import LayoutQuality, Quality
from simio.report.validation_markdown import section
from simio.study.layouts import DEFAULT_LAYOUTS, MORE_LAYOUTS

#: Scales from coarse to fine, beside what ``simio study compressibility --quant all`` looks at.
GRAINS = tuple(f"int{bits}:{grain}" for bits in (8, 4, 3, 2) for grain in ("tensor", "channel", "group32", "group16"))


#: Named in the picture and listed on the page.
SHOWN = (
    "f32", "f16", "bf16", "f8_e4m3", "int8:tensor", "int8:channel", "q8_0", "q6_k", "q5_k", "q4_k", "int4:tensor",
    "int4:channel", "int4:group32", "nf4", "nvfp4", "int3:channel", "int2:channel", "ternary:absmean", "binary:channel",
    "squeezellm:4bit", "vptq:v8:k256:r256", "gptq:int4:group128", "bitstack:4",
)  # fmt: skip


def known_layouts(wanted: list[str]) -> list[str]:
    """``wanted``, or all there are, each once."""
    return list(dict.fromkeys(wanted or [*DEFAULT_LAYOUTS, *MORE_LAYOUTS, *GRAINS]))


def main() -> None:
    """Print the table, the more divergent layouts last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", nargs="*", default=[], help="layouts; all registered ones unless named")
    parser.add_argument("--model", nargs="*", default=[], help="decoders; all there are unless named")
    parser.add_argument("--tokens", type=int, default=4096, help="of calibration and of evaluation text")
    parser.add_argument("--markdown", type=Path, help="renew the section of this page")
    parser.add_argument("--html", type=Path, help="draw the scatter here")
    parser.add_argument("--json", type=Path, help="write everything, per tensor, here")
    options = parser.parse_args()
    layouts, found = known_layouts(options.layout), []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in real_decoders(Path(folder)):
            if not options.model or name in options.model:
                found.append((name, measure(open_model(path), layouts, n_tokens=options.tokens, pad_rows=True)))
                show(*found[-1])
    if options.markdown:
        page = options.markdown.read_text(encoding="utf-8") if options.markdown.is_file() else ""
        write_whole(options.markdown, section(page, "entropy and KL", listed(found), "# Compressibility"))
    if options.html:
        write_whole(options.html, drawn(found))
    if options.json:
        options.json.write_text(json.dumps({name: asdict(quality) for name, quality in found}, indent=1))


def show(name: str, quality: Quality) -> None:
    """One decoder's table."""
    print(f"\n{name}: perplexity {quality.perplexity:.4f} over {quality.n_tokens} tokens of its own")
    columns = ("stored", "entropy", "weights", "outputs", "KL", "KL p99", "filled")
    print(f"{'layout':24}" + "".join(f"{column:>10}" for column in columns))
    for one in sorted(quality.layouts, key=lambda layout: layout.kl):
        print(f"{one.quantizer:24}{_row(one)}", flush=True)


def listed(found: list[tuple[str, Quality]]) -> str:
    """Markdown: how closely KL follows entropy, and both for some layouts."""
    from scipy.stats import spearmanr

    lines = ["## Entropy and KL of complete decoders", "", "![entropy against KL](entropy-and-kl.png)", ""]
    for name, quality in found:
        held = [one for one in quality.layouts if not one.n_kept]
        rank = spearmanr([one.entropy_bits for one in held], [one.kl for one in held]).statistic
        lines.append(
            f"- {name}: {len(held)} layouts, rank correlation of entropy and KL {rank:.2f}, {quality.n_tokens} tokens"
        )
    lines += ["", "| layout | " + " | ".join(f"{name}: entropy, KL" for name, _ in found) + " |"]
    lines.append("|---|" + "---|" * len(found))
    by_name = [{one.quantizer: one for one in quality.layouts} for _, quality in found]
    for layout in SHOWN:
        cells = [f"{of[layout].entropy_bits:.2f}, {of[layout].kl:.2g}" if layout in of else "–" for of in by_name]
        lines.append(f"| {layout} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _READING])


_READING = """\
Entropy is that of everything stored, in bits per weight; KL(full ‖ quantized) in nats per token of the models' own
text. Rows are filled up to whole groups where they are not (stories260k, craftgpt), which costs bits. Bitllama was
trained ternary: what keeps three levels is exact, what has no zero is not, and entropy says nothing. Craftgpt's weights
are 8-bit codes, so 16-bit floats are exact.
Regenerate: `python benchmarks/quality_scatter.py --tokens 1024 --html FILE --markdown reports/compressibility.md`
"""


def drawn(found: list[tuple[str, Quality]]) -> str:
    """A page with a panel a decoder: entropy of everything stored against KL, a point a layout."""
    from plotly.subplots import make_subplots

    titles = [f"{name}: perplexity {quality.perplexity:.2f}" for name, quality in found]
    figure = make_subplots(rows=-(-len(found) // 2), cols=2, subplot_titles=titles, vertical_spacing=0.09)
    for place, (_, quality) in enumerate(found):
        held = [one for one in quality.layouts if not one.n_kept]
        for filled in (False, True):
            shown = [one for one in held if any(t.padded_to for t in one.tensors) == filled]
            figure.add_scatter(
                x=[one.entropy_bits for one in shown],
                y=[max(one.kl, 1e-9) for one in shown],
                text=[one.quantizer if one.quantizer in SHOWN else "" for one in shown],
                hovertext=[one.quantizer for one in shown],
                mode="markers+text",
                textposition="top center",
                textfont={"size": 8},
                marker={"color": "#1f77b4", "symbol": "circle-open" if filled else "circle"},
                name="rows filled up to whole groups" if filled else "as it is",
                showlegend=place == 0,
                row=place // 2 + 1,
                col=place % 2 + 1,
            )
    figure.update_yaxes(type="log", title="KL(full ‖ quantized), nats per token")
    figure.update_xaxes(title="entropy of everything stored, bits per weight", range=[0, 17])
    figure.update_layout(
        height=1300,
        width=1500,
        template="plotly_white",
        title="The better a layout keeps a decoder, the more there is to store",
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


def _row(one: LayoutQuality) -> str:
    if one.n_kept:
        return f" cannot hold {one.n_kept} weights: {next(t.reason for t in one.tensors if t.reason)}"
    filled = sum(t.n_weights for t in one.tensors if t.padded_to) / one.n_weights
    numbers = (one.weight_error, one.output_error, one.kl, one.kl_p99)
    bits = f"{one.bits_per_weight:10.3f}{one.entropy_bits:10.3f}"
    return bits + "".join(f"{number:10.2e}" for number in numbers) + f"{filled:10.0%}"


if __name__ == "__main__":
    main()
