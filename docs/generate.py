"""Write docs/commands.md and the prediction shown in README.md, as they are. A test fails when they are out of date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "",
    "predict",
    "sweep",
    "compare",
    "sensitivity",
    "breakeven",
    "inspect",
    "profile",
    "pack",
    "unpack",
    "verify",
    "run",
    "generate",
    "validate",
    "calibrate",
    "study",
    "study compressibility",
    "study joint",
    "models",
    "devices",
    "devices list",
    "devices show",
    "devices check",
)


QUESTION = "predict --device pixel8 --model llama-3.1-8b:q4_k_m"
ROOT = Path(__file__).parent.parent


def simio(*words: str) -> str:
    """What a command prints."""
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    command = [str(Path(sys.executable).with_name("simio")), *words]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in shown.strip().splitlines())


def commands() -> str:
    """The page of commands."""
    parts = ["# Commands\n\nWritten by `python docs/generate.py`.\n"]
    for command in COMMANDS:
        parts.append(f"## simio {command}".rstrip() + f"\n\n```\n{simio(*command.split(), '--help')}\n```\n")
    return "\n".join(parts)


def readme() -> str:
    """README.md with the answer to its first question brought up to date."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    answer = simio(*QUESTION.split())
    shown = rf"(\$ simio {re.escape(QUESTION)}\n).*?(\n```)"
    return re.sub(shown, lambda m: m[1] + answer + m[2], text, count=1, flags=re.DOTALL)


def layouts() -> str:
    """The page of weight layouts: size, streams and sources as the code states them."""
    import numpy as np

    from simio import quant
    from simio.quant.contract import Activations
    from simio.study.layouts import DEFAULT_LAYOUTS, MORE_LAYOUTS
    from simio.testing import random_activations

    shape = (256, 4096)
    w = (0.02 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    inputs: Activations = random_activations(shape[1])
    lines = [_LAYOUTS.strip(), "", "| name | bits/weight | streams | source |", "|---|---|---|---|"]
    for name in (*DEFAULT_LAYOUTS, *MORE_LAYOUTS):
        quantizer = quant.parse(name)
        ready = quantizer.calibrated(inputs) if quantizer.needs_activations else quantizer
        streams = ", ".join(dict.fromkeys(re.sub(r"_?\d+$", "ₙ", key) for key in ready.quantize(w)))
        text = sys.modules[type(quantizer).__module__].__doc__ or ""
        papers = ", ".join(dict.fromkeys(re.findall(r"\b\d{4}\.\d{5}\b|\b1603\.05279\b", text)))
        what = re.split(r"(?<=[.:])\s", text.strip().replace("\n", " "))[0].rstrip(":.")
        row = f"| `{name}` | {quantizer.bits_per_weight((4096, 4096)):.3f} | {streams} | {what}"
        lines.append(row + (f" (arXiv {papers})" if papers else "") + " |")
    return "\n".join(lines) + "\n"


_LAYOUTS = """
# Weight layouts

Written by `python docs/generate.py`. What `simio study compressibility --quant all` looks at; options after the colon
vary. Bits are those stored for a matrix of 4096 × 4096, to the byte, scales and everything else included; streams are
stored, and compressed, apart. Equations and choices stand at the head of each module in `simio/quant/`; one contract
holds for all (`simio.testing.check_quantizer`).

Bad input is refused with an error that names the layout: NaN or infinity, an empty matrix or one without rows, anything
but two dimensions, rows that are no whole number of groups, weights beyond what FP16 scales can hold. float64 is taken
as float32. A matrix, row or group of zeros comes back as zeros; one of equal weights as near as a step allows.
"""


if __name__ == "__main__":
    (ROOT / "docs" / "layouts.md").write_text(layouts(), encoding="utf-8")
    (ROOT / "docs" / "commands.md").write_text(commands(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
