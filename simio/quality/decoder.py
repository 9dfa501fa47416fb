"""The forward pass in torch, float32, many texts at once: a function of weights by use, layer by layer.

RMSNorm arXiv 1910.07467, LayerNorm 1607.06450, rotary positions 2104.09864, grouped queries 2305.13245, SwiGLU
2002.05202; the same arithmetic as ``simio.runtime.forward``, except that keys and values stay float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simio.errors import ModelFileError
from simio.quality.backend import Tensor, load_torch
from simio.quality.blueprint import Blueprint
from simio.quality.weights import INPUT_OF
from simio.quant.contract import FloatArray

Weights = Mapping[str, Tensor]

#: Told of every matrix's input: its name (a value of ``INPUT_OF``) and what it is, ``(n_texts, n_tokens, n_in)``.
Tap = Callable[[str, Tensor], None]


@dataclass(slots=True)
class Past:
    """Keys and values of one layer so far, ``(n_texts, n_kv_heads, n_positions, head_dim)``."""

    keys: Tensor = None
    values: Tensor = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, these included."""
        if self.keys is not None:
            torch = load_torch()
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Decoder:
    """The arithmetic of a decoder; weights come with every call. ``rope_freqs`` divides the frequencies (Llama 3.1)."""

    def __init__(self, blueprint: Blueprint, rope_freqs: FloatArray | None = None) -> None:
        self._torch = load_torch()
        self._blueprint = blueprint
        frequencies = blueprint.shape.rope_frequencies()
        self._frequencies = frequencies if rope_freqs is None else frequencies / rope_freqs
        self._turned: tuple[tuple[int, int], Tensor, Tensor] = (0, 0), None, None

    def embed(self, outer: Weights, tokens: Tensor, first: int = 0) -> Tensor:
        """The states ``(n_texts, n_tokens, d_model)`` of ``tokens``, which stand at positions from ``first``."""
        states = outer["token_embd"][tokens]
        if self._blueprint.shape.rope_style == "none":
            states = states + outer["position_embd"][first : first + tokens.shape[1]]
        return states

    def layer(self, weights: Weights, x: Tensor, tap: Tap | None = None, past: Past | None = None) -> Tensor:
        """The states behind a layer. ``past``: its keys and values so far, behind which these tokens stand."""
        x = x + self._attention(weights, x, tap, past)
        normed = self._normed(weights, "ffn_norm", x)
        hidden = self._linear(weights, "ffn_up", normed, tap)
        if "ffn_gate" in weights:
            hidden = self._activated(self._linear(weights, "ffn_gate", normed, None)) * hidden
        else:
            hidden = self._activated(hidden)
        return x + self._linear(weights, "ffn_down", self._sub_normed(weights, "ffn_sub_norm", hidden), tap)

    def final(self, outer: Weights, x: Tensor) -> Tensor:
        """The states as the head multiplies them."""
        return self._normed(outer, "output_norm", x)

    def logits(self, outer: Weights, x: Tensor) -> Tensor:
        """``(n_texts, n_tokens, vocab_size)``; the head is ``output`` or else the token table."""
        use = "output" if "output" in outer else "token_embd"
        return self._linear(outer, use, self.final(outer, x), None)

    def _attention(self, w: Weights, x: Tensor, tap: Tap | None, past: Past | None) -> Tensor:
        shape = self._blueprint.shape
        normed = self._normed(w, "attn_norm", x)
        if "attn_qkv" in w:
            kv = shape.n_kv_heads * shape.head_dim
            fused = self._linear(w, "attn_qkv", normed, tap)
            q, k, v = fused.split([shape.n_heads * shape.head_dim, kv, kv], dim=-1)
        else:
            q = self._linear(w, "attn_q", normed, tap)
            k, v = self._linear(w, "attn_k", normed, None), self._linear(w, "attn_v", normed, None)
        q, k, v = (t.unflatten(-1, (-1, shape.head_dim)).transpose(1, 2) for t in (q, k, v))
        if "attn_q_norm" in w:
            q, k = self._normed(w, "attn_q_norm", q), self._normed(w, "attn_k_norm", k)
        first = past.keys.shape[2] if past is not None and past.keys is not None else 0
        q, k = self._rotated(q, first), self._rotated(k, first)
        if past is not None:
            k, v = past.append(k, v)
        mixed = self._torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=first == 0, enable_gqa=shape.n_heads != shape.n_kv_heads
        )
        mixed = self._sub_normed(w, "attn_sub_norm", mixed.transpose(1, 2).flatten(-2))
        return self._linear(w, "attn_output", mixed, tap)

    def _linear(self, w: Weights, use: str, x: Tensor, tap: Tap | None) -> Tensor:
        if use not in w:
            raise ModelFileError(f"the model has no {use}", "is the file complete?")
        if tap is not None:
            tap(INPUT_OF[use], x)
        return self._torch.nn.functional.linear(x, w[use], w.get(f"{use}.bias"))

    def _normed(self, w: Weights, use: str, x: Tensor) -> Tensor:
        eps = self._blueprint.shape.norm_eps
        if use not in w:
            raise ModelFileError(f"the model has no {use}", "is the file complete?")
        if self._blueprint.has_layer_norm:
            return self._torch.nn.functional.layer_norm(x, x.shape[-1:], w[use], w.get(f"{use}.bias"), eps)
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * w[use]

    def _sub_normed(self, w: Weights, use: str, x: Tensor) -> Tensor:
        return self._normed(w, use, x) if use in w else x

    def _activated(self, x: Tensor) -> Tensor:
        functional, name = self._torch.nn.functional, self._blueprint.activation
        if name.startswith("gelu"):
            return functional.gelu(x, approximate="none" if name == "gelu" else "tanh")
        if name.startswith("relu"):
            return functional.relu(x).square() if name == "relu2" else functional.relu(x)
        return functional.silu(x)

    def _rotated(self, x: Tensor, first: int) -> Tensor:
        """``x (n_texts, n_heads, n_tokens, head_dim)`` turned to the positions from ``first``."""
        style, n = self._blueprint.shape.rope_style, 2 * len(self._frequencies)
        if style == "none":
            return x
        cos, sin = self._turns(first, x.shape[2])
        pair = (slice(0, n, 2), slice(1, n, 2)) if style == "neighbours" else (slice(0, n // 2), slice(n // 2, n))
        a, b, out = x[..., pair[0]], x[..., pair[1]], x.clone()
        out[..., pair[0]] = a * cos - b * sin
        out[..., pair[1]] = a * sin + b * cos
        return out

    def _turns(self, first: int, n_tokens: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine ``(n_tokens, n_pairs)`` at the positions from ``first``; the last asked for are kept."""
        if self._turned[0] != (first, n_tokens):
            angle = np.arange(first, first + n_tokens)[:, None] * self._frequencies.astype(np.float64)
            cos, sin = (self._torch.from_numpy(turn(angle).astype(np.float32)) for turn in (np.cos, np.sin))
            self._turned = (first, n_tokens), cos, sin
        return self._turned[1:]


def through(decoder: Decoder, weights: Weights, states: Tensor, tap: Tap | None = None) -> None:
    """Turn ``states`` into those behind a layer, in place, some texts at a time."""
    for some in states.split(max(1, _BATCH_TOKENS // states.shape[1])):
        some.copy_(decoder.layer(weights, some, tap))


#: Tokens that are computed at once.
_BATCH_TOKENS = 2048


def to_torch(weights: Mapping[str, FloatArray]) -> dict[str, Any]:
    """The same weights as torch tensors over the same memory."""
    torch = load_torch()
    return {use: torch.from_numpy(array) for use, array in weights.items()}
