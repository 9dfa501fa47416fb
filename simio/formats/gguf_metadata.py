"""Architecture facts from GGUF metadata.

Key names are those of ``gguf.constants.Keys``; their meaning is that of llama.cpp's ``llama-hparams.cpp``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simio.formats.damage import damaged
from simio.formats.gguf_header import Array
from simio.records.model import Architecture, KvLayer, Tensor

_MAX_LAYERS = 4096
_STATE_BYTES = 4  # recurrent states are FP32 (llama.cpp, llama_memory_recurrent)

#: One layer in p is full where the file gives a window but no pattern (``load_swa_pattern`` in llama.cpp's models).
_PERIODS = {
    "gemma2": 2, "gpt-oss": 2, "modern-bert": 3, "afmoe": 4, "cohere2": 4, "cohere2moe": 4, "exaone4": 4,
    "exaone-moe": 4, "llama4": 4, "olmo2": 4, "smallthinker": 4, "gemma3n": 5, "gemma3": 6, "gemma-embedding": 6,
    "plamo3": 8,
}  # fmt: skip
#: Families whose full layer opens the period instead of closing it.
_FULL_FIRST = ("modern-bert", "cohere2moe", "smallthinker")
#: Llama 4 attends in chunks of a length that its files may leave out.
_WINDOWS = {"llama4": 8192}

_RECURRENT = re.compile(r"^blk\.(\d+)\.(?:ssm_|shortconv)")


@dataclass(frozen=True, slots=True)
class Facts:
    """Typed access to ``{architecture}.{key}``; ``path`` for the error messages."""

    metadata: dict[str, Any]
    path: Path

    @property
    def family(self) -> str:
        """``general.architecture``, or nothing."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""

    def count(self, key: str) -> int:
        """A count ≥ 0; the largest where the file has one per layer; 0 where it has none."""
        return max(self._values(key), default=0)

    def per_layer(self, key: str, n_layers: int, default: int = 0) -> list[int]:
        """One count per layer, whether the file has one for all or one for each."""
        values = self._values(key)
        if not isinstance(self.metadata.get(f"{self.family}.{key}"), Array):
            return (values or [default]) * n_layers
        if len(values) < n_layers:
            raise damaged(self.path, f"metadata '{self.family}.{key}' lists {len(values)} of {n_layers} layers")
        return values[:n_layers]

    def has(self, key: str) -> bool:
        """Whether the file states ``key``."""
        return f"{self.family}.{key}" in self.metadata

    def _values(self, key: str) -> list[int]:
        value = self.metadata.get(f"{self.family}.{key}")
        if value is None:
            return []
        values = list(value.items or ()) if isinstance(value, Array) else [value]
        if not all(isinstance(v, int) and 0 <= v < 2**31 for v in values):
            raise damaged(self.path, f"metadata '{self.family}.{key}' = {values[:8]!r} is not a count")
        return [int(v) for v in values]


def architecture(facts: Facts, tensors: tuple[Tensor, ...]) -> Architecture:
    """The facts the metadata state, 0 for the rest. Raises ``ModelFileError`` for impossible values."""
    n_layers, d_model, n_heads = facts.count("block_count"), facts.count("embedding_length"), _heads(facts)
    if n_layers > _MAX_LAYERS:
        raise damaged(facts.path, f"{n_layers} layers are more than any model has")
    return Architecture(
        family=facts.family,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=facts.count("attention.head_count_kv") or n_heads,
        head_dim=facts.count("attention.key_length") or (d_model // n_heads if n_heads else 0),
        d_ff=facts.count("feed_forward_length") or facts.count("expert_feed_forward_length"),
        vocab_size=_vocab_size(facts),
        n_experts=facts.count("expert_count"),
        n_experts_used=facts.count("expert_used_count"),
        context_length=facts.count("context_length"),
        kv_layers=_kv_layers(facts, n_layers, tensors),
    )


def _heads(facts: Facts) -> int:
    return facts.count("attention.head_count")


def _vocab_size(facts: Facts) -> int:
    tokens = facts.metadata.get("tokenizer.ggml.tokens")
    return facts.count("vocab_size") or (tokens.n_items if isinstance(tokens, Array) else 0)


def _kv_layers(facts: Facts, n_layers: int, tensors: tuple[Tensor, ...]) -> tuple[KvLayer, ...]:
    slides = _sliding(facts, n_layers)
    window = _window(facts)
    values = _values(facts, n_layers, slides)
    first_shared = n_layers - facts.count("attention.shared_kv_layers")
    state_bytes = _state_bytes(facts)
    recurrent = {int(found[1]) for t in tensors if (found := _RECURRENT.match(t.name))}
    return tuple(
        KvLayer(
            values[i] if i < first_shared else 0,
            window if slides[i] and values[i] and i < first_shared else None,
            state_bytes if i in recurrent else 0,
        )
        for i in range(n_layers)
    )


def _values(facts: Facts, n_layers: int, slides: list[bool]) -> list[int]:
    """Values per token and layer: latent + rotary key under MLA, else keys and values of every KV head."""
    latent = facts.count("attention.kv_lora_rank")
    if latent:
        return [latent + facts.count("rope.dimension_count")] * n_layers
    n_heads = _heads(facts)
    even = facts.count("embedding_length") // n_heads if n_heads else 0
    full = _key_and_value(facts, "", even, even)
    sliding = _key_and_value(facts, "_swa", *full)
    n_kv_heads = facts.per_layer("attention.head_count_kv", n_layers, n_heads)
    return [n * sum(sliding if slides[i] else full) for i, n in enumerate(n_kv_heads)]


def _key_and_value(facts: Facts, suffix: str, key: int, value: int) -> tuple[int, int]:
    """Lengths of one key and one value head, with the defaults for what the file leaves out."""
    return (
        facts.count(f"attention.key_length{suffix}") or key,
        facts.count(f"attention.value_length{suffix}") or value,
    )


def _window(facts: Facts) -> int:
    key = "attention.sliding_window"
    return facts.count(key) if facts.has(key) else _WINDOWS.get(facts.family, 0)


def _sliding(facts: Facts, n_layers: int) -> list[bool]:
    """Which layers attend to a window only. Phi-3 and Llama files carry a window that llama.cpp does not apply."""
    if not _window(facts):
        return [False] * n_layers
    key = "attention.sliding_window_pattern"
    if isinstance(facts.metadata.get(f"{facts.family}.{key}"), Array):
        return [bool(flag) for flag in facts.per_layer(key, n_layers)]
    period = facts.count(key) or _PERIODS.get(facts.family, 1)
    full = 0 if facts.family in _FULL_FIRST else period - 1
    return [i % period != full for i in range(n_layers)]


def _state_bytes(facts: Facts) -> int:
    """Constant state of a recurrent layer: the convolution's tail and the state matrix (``n_embd_r``, ``n_embd_s``)."""
    if facts.has("shortconv.l_cache"):
        return facts.count("embedding_length") * max(0, facts.count("shortconv.l_cache") - 1) * _STATE_BYTES
    inner, state = facts.count("ssm.inner_size"), facts.count("ssm.state_size")
    tail = max(0, facts.count("ssm.conv_kernel") - 1) * (inner + 2 * facts.count("ssm.group_count") * state)
    return (tail + inner * state) * _STATE_BYTES
