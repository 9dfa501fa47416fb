"""Small decoders in containers: what `simio run` is tried on."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import decoders

from simio import catalog
from simio.codecs import parse
from simio.container.codec_choice import CodecChoice
from simio.container.packing import pack
from simio.container.profile import sizes_of_container
from simio.container.reading import Container
from simio.formats.opening import open_model
from simio.plan.layout import Layout, multiplied_names
from simio.predict.point import plan_of
from simio.predict.resolve import complete
from simio.records.model import Tensor
from simio.records.plan import Plan
from simio.records.scenario import Scenario
from simio.records.tensor_plan import RESIDENCIES, TensorPlan
from simio.runtime.generated import generate, shape_of
from simio.runtime.places import Places
from simio.runtime.running import Ran, reference, run
from simio.runtime.schedule import request_of

PROMPT = (1, 5, 9)
N_TOKENS = 5

_SHAPE = {"d_model": 256, "d_ff": 512, "vocab_size": 512, "n_heads": 8, "n_kv_heads": 2, "head_dim": 32}
_GENERATED = {
    "f16": "llama-3.1-8b:f16", "q4_k": "mistral-7b:q4_k_m", "tied q8_0": "llama-3.2-1b:q8_0",
    "tied bf16": "qwen3-0.6b:bf16",
}  # fmt: skip
_MIXTURE = decoders.Shape("qwen3moe", n_layers=3, n_experts=6, has_head_norms=True)
MODELS = (*_GENERATED, "stacked experts", "single experts")
DENSE = tuple(name for name in MODELS if "experts" not in name)
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
def placed_container(name: str, rows: tuple[TensorPlan, ...], chunk_bytes: int = 16384) -> Path:
    """That model packed by a plan."""
    path = _folder() / f"{name}-{abs(hash(rows)):x}-{chunk_bytes}.simio".replace(" ", "-")
    codecs = {row.tensor: parse(row.codec) for row in rows}
    pack(model_file(name), path, CodecChoice(parse("raw"), codecs, plan=rows), chunk_bytes=chunk_bytes)
    return path


def plan_rows(name: str, choose: Callable[[int, Tensor], tuple[str, str]]) -> tuple[TensorPlan, ...]:
    """A plan of that model: ``choose`` gives codec and residency of every tensor that is multiplied."""
    model = open_model(model_file(name))
    used = [tensor for tensor in model.tensors if tensor.name in multiplied_names(model)]
    return tuple(TensorPlan(t.name, t.dtype.lower(), *choose(number, t)) for number, t in enumerate(used))


def mixed_plan(name: str) -> tuple[TensorPlan, ...]:
    """Every place, two codecs and raw, in turns that do not go together."""
    return plan_rows(name, lambda n, _: (("zstd:1", "lz4:1", "raw")[n % 3], RESIDENCIES[n // 2 % 3]))


@cache
def expected(name: str, prompt: Sequence[int] = PROMPT, n_tokens: int = N_TOKENS) -> tuple[int, ...]:
    """The tokens of that model with all weights in RAM."""
    return reference(container(name), prompt, n_tokens)


def run_it(path: Path, prompt: Sequence[int] = PROMPT, **choices: Any) -> Ran:
    """A run in this process."""
    fields = {"n_tokens": N_TOKENS, "ram_bytes": 1 << 30, "prompt_tokens": len(prompt)} | choices
    return run(Scenario("host", str(path), **fields), prompt)


def planned(path: Path, ran: Ran) -> tuple[Plan, Layout]:
    """What simio plans for the settings that the measurement states."""
    with Container.open(path) as opened:
        profile = sizes_of_container(opened)
    scenario = Scenario("host-epyc-zen3", str(path), **ran.measurement.known, draws=0)
    resolved = complete(scenario, catalog.load(scenario.device), profile)
    return plan_of(resolved), resolved.layout


def read_per_token(plan: Plan) -> list[int]:
    """Bytes from storage of every decoded token."""
    passes = [plan.passes[index] for index in plan.order[plan.n_setup :]]
    return [sum(fetch.link_bytes for step in p.steps for fetch in step.fetches) for p in passes]


def row_bytes(path: Path, tokens: Sequence[int]) -> list[int]:
    """What the rows of ``tokens`` take to read: their chunks."""
    with Container.open(path) as opened:
        places = Places(opened)
        table = places.matrix(places.table)
        spans = [places.covering(table.name, token * table.row_bytes, table.row_bytes)[0] for token in tokens]
        return [request_of(opened, numbers).n_bytes for numbers in spans]
