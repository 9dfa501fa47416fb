"""The facts of one published architecture, read from one preset file.

A preset file (``presets/<id>.toml``) repeats what the model's own config.json says, in simio's words, and cites it.
Unknown keys, missing keys and wrong types are refused with ``file: key``, so that a misspelt fact cannot pass unseen.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from simio.errors import ModelFileError

#: ``published``: from the model's own config. ``reconstructed``: inferred, and the note says what.
CONFIDENCES = ("published", "reconstructed")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in the feed-forward layers from ``first_dense`` on."""

    count: int
    used: int
    d_ff: int
    d_ff_shared: int = 0  # width of all shared experts together; 0 = none
    first_dense: int = 0  # leading layers with a plain feed-forward of width Facts.d_ff
    latent: int = 0  # routed experts work in a space of this width (Kimi K3); 0 = d_model
    native_type: str = ""  # the type experts are published in and never requantized from ("MXFP4")


@dataclass(frozen=True, slots=True)
class Mla:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the KV cache holds ``kv_lora_rank`` + rope dims."""

    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int = 0  # 0 = the query is not compressed
    output_gate: bool = False


@dataclass(frozen=True, slots=True)
class Indexer:
    """The lightning indexer of DeepSeek sparse attention: chooses the tokens attention reads."""

    n_heads: int
    head_dim: int
    full_layers: tuple[int, ...] = ()  # layers with an indexer of their own; empty = those the layer kind says


@dataclass(frozen=True, slots=True)
class Window:
    """Sliding-window attention. Every ``full_every``-th layer sees everything; 0 = no layer does."""

    size: int
    full_every: int = 0
    full_first: bool = False  # the full layer is the first of its group, not the last


@dataclass(frozen=True, slots=True)
class Linear:
    """Linear attention with a state of fixed size on the layers between those of full attention."""

    kind: str  # "gated-delta" (Qwen3-Next, Qwen3.5) or "kda" (Kimi Linear, arXiv 2510.26692)
    n_k_heads: int
    n_v_heads: int
    head_dim: int
    conv_kernel: int
    full_every: int = 4  # every k-th layer is full attention
    last_full: bool = False  # the last layer is full attention too
    full_rank_gate: bool = False  # KDA: one output-gate matrix instead of two low-rank ones


@dataclass(frozen=True, slots=True)
class ShortConv:
    """Gated short convolutions (LFM2) on every layer not listed in ``attention_layers``."""

    kernel: int
    attention_layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mamba:
    """Mamba-2 state spaces (arXiv 2405.21060) on every layer not listed in ``attention_layers`` (Granite 4.0 H)."""

    n_heads: int
    head_dim: int
    d_state: int
    n_groups: int
    conv_kernel: int
    attention_layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GlobalAttention:
    """Gemma 4: the layers of full attention have their own head size and, where given, their own KV heads."""

    head_dim: int
    n_kv_heads: int = 0  # 0 = as in the sliding layers
    k_is_v: bool = False  # the full layers use the keys as values: no attn_v


@dataclass(frozen=True, slots=True)
class PerLayer:
    """Gemma 3n and Gemma 4 E2B/E4B: a token table per layer, and layers that reuse the KV cache of earlier ones."""

    d_embedding: int
    vocab_size: int
    n_shared_kv: int = 0  # the last n layers keep no keys and values of their own
    double_wide: bool = False  # those layers have a feed-forward twice as wide
    n_altup: int = 0  # Gemma 3n: parallel residual streams
    laurel_rank: int = 0


@dataclass(frozen=True, slots=True)
class Compressed:
    """DeepSeek-V4: keys = values of one head, compressed by the ratio of the layer, beside a short sliding window."""

    q_lora_rank: int
    o_lora_rank: int
    o_groups: int
    ratios: tuple[int, ...]  # per layer: 0 = window only, 4 = with an indexer, 128
    hash_layers: int  # leading layers whose experts follow from the token id
    hyper_connections: int


@dataclass(frozen=True, slots=True)
class Facts:
    """One architecture. Widths in elements, ``d_ff`` of the plain feed-forward layers, sizes of a published model."""

    id: str
    name: str
    family: str  # general.architecture of GGUF; a key of families.FAMILIES
    source: str  # URL of the config.json or the paper
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    context_length: int
    tied_embeddings: bool
    tokenizer: str = "bpe"  # a key of metadata.BYTES_PER_TOKEN
    confidence: str = "published"
    note: str = ""
    default_quant: str = "q4_k_m"
    n_positions: int = 0  # rows of a learned position table
    rope_factors: int = 0  # rotary scaling factors stored with the weights
    qk_norm: bool = False  # only where the family has members with and without
    qkv_bias: bool = False
    experts: Experts | None = None
    mla: Mla | None = None
    indexer: Indexer | None = None
    window: Window | None = None
    linear: Linear | None = None
    short_conv: ShortConv | None = None
    mamba: Mamba | None = None
    global_attention: GlobalAttention | None = None
    per_layer: PerLayer | None = None
    compressed: Compressed | None = None


def load(path: Path) -> Facts:
    """Read one preset file; raises ``ModelFileError`` naming ``file: key`` when it breaks the schema."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path.name}: not a TOML file: {error}") from None
    facts = _build(Facts, {"id": path.stem, **table}, path.name)
    if facts.confidence not in CONFIDENCES:
        raise ModelFileError(f"{path.name}: confidence '{facts.confidence}'", f"one of {', '.join(CONFIDENCES)}")
    if facts.confidence == "reconstructed" and not facts.note:
        raise ModelFileError(f"{path.name}: reconstructed without a note", "say in 'note' what was inferred")
    return facts


def _build(kind: type[T], table: dict[str, Any], where: str) -> T:
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table.keys() - fields.keys():
        raise ModelFileError(f"{where}: unknown key '{key}'", f"known: {', '.join(fields)}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in table]
    if missing:
        raise ModelFileError(f"{where}: missing '{missing[0]}'", "every preset needs it")
    hints = get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(hint, value, where)
    if hint == tuple[int, ...] and isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(value)
    if type(value) is hint:
        return value
    raise ModelFileError(f"{where} = {value!r} has the wrong type", "see simio/models/facts.py for the schema")
