"""Small decoders in containers: what `simio run` is tried on."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import decoders

from simio.container.codec_choice import CodecChoice
from simio.container.packing import pack
from simio.records.scenario import Scenario
from simio.runtime.generated import generate, shape_of
from simio.runtime.running import Ran, reference, run

PROMPT = (1, 5, 9)
N_TOKENS = 5

_SHAPE = {"d_model": 256, "d_ff": 512, "vocab_size": 512, "n_heads": 8, "n_kv_heads": 2, "head_dim": 32}
_GENERATED = {
    "f16": "llama-3.1-8b:f16", "q4_k": "mistral-7b:q4_k_m", "tied q8_0": "llama-3.2-1b:q8_0",
    "tied bf16": "qwen3-0.6b:bf16",
}  # fmt: skip
_MIXTURE = decoders.Shape("qwen3moe", n_layers=3, n_experts=6, has_head_norms=True)
MODELS = (*_GENERATED, "stacked experts", "single experts")
PLAN = {"blk.0.*": "lz4:1", "blk.1.attn_*": "byteplane(zstd:1)", "blk.1.ffn_down.weight": "raw"}


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="simio-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def model_file(name: str) -> Path:
    """One of ``MODELS``: a GGUF file, or a directory of the transformers library."""
    path = _folder() / name.replace(" ", "-")
    if name in _GENERATED:
        path = path.with_suffix(".gguf")
        generate(shape_of(_GENERATED[name], 2, _SHAPE), path)
    elif name == "stacked experts":
        path = path.with_suffix(".gguf")
        arrays, width = decoders.random_arrays(_MIXTURE), _MIXTURE.d_ff
        decoders.write_gguf(path, _MIXTURE, arrays, "Q8_0", expert_feed_forward_length=width)
    else:
        shape = decoders.Shape("llama", n_layers=2, n_experts=5)
        decoders.write_transformers(path, shape, decoders.random_arrays(shape), "mixtral")
    return path


@cache
def container(name: str, codec: str = "zstd:1", chunk_bytes: int = 16384) -> Path:
    """That model packed with ``codec``, or with ``PLAN`` where codec is ``plan``."""
    choice = CodecChoice.everywhere("zstd:1" if codec == "plan" else codec)
    if codec == "plan":
        known = {t: c for t, c in PLAN.items() if name in _GENERATED}
        choice = CodecChoice(choice.default, {t: CodecChoice.everywhere(c).default for t, c in known.items()})
    path = _folder() / f"{name}-{codec}-{chunk_bytes}.simio".replace(" ", "-").replace(":", "")
    pack(model_file(name), path, choice, chunk_bytes=chunk_bytes)
    return path


@cache
def expected(name: str, prompt: Sequence[int] = PROMPT, n_tokens: int = N_TOKENS) -> tuple[int, ...]:
    """The tokens of that model with all weights in RAM."""
    return reference(container(name), prompt, n_tokens)


def run_it(path: Path, prompt: Sequence[int] = PROMPT, **choices: Any) -> Ran:
    """A run in this process."""
    fields = {"n_tokens": N_TOKENS, "ram_bytes": 1 << 30, "prompt_tokens": len(prompt)} | choices
    return run(Scenario("host", str(path), **fields), prompt)
