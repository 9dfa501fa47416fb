"""What a decoder computes between its matrices: norms, rotary positions, attention over the KV cache, SwiGLU.

RMSNorm: arXiv 1910.07467; rotary positions: arXiv 2104.09864; grouped-query attention: arXiv 2305.13245; SwiGLU:
arXiv 2002.05202. All float32; ``n_tokens`` rows at once.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from simio.runtime.dequantizing import expander
from simio.runtime.scratch import FloatArray, scratch


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """``x / sqrt(mean(x²) + eps) · weight`` over the last axis."""
    mean = np.mean(np.square(x), axis=-1, keepdims=True)
    normed: FloatArray = x * (1 / np.sqrt(mean + np.float32(eps))) * weight
    return normed


def swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """``silu(gate) · up``, with the exponential kept from overflowing."""
    product: FloatArray = gate / (1 + np.exp(np.minimum(-gate, np.float32(88)))) * up
    return product


def softmax(x: FloatArray) -> FloatArray:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    share: FloatArray = e / e.sum(axis=-1, keepdims=True)
    return share


def rotate(x: FloatArray, positions: npt.NDArray[np.int64], frequencies: FloatArray, style: str) -> FloatArray:
    """``x (n_tokens, n_heads, head_dim)`` turned to ``positions``; dimensions beyond the rotated ones stay.

    ``style`` says which dimensions are a pair: ``neighbours`` (2i, 2i+1) or ``halves`` (i, i + n/2).
    """
    angle = positions[:, None].astype(np.float64) * frequencies
    cos, sin = np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]
    n, out = 2 * len(frequencies), x.copy()
    first, second = (slice(0, n, 2), slice(1, n, 2)) if style == "neighbours" else (slice(0, n // 2), slice(n // 2, n))
    a, b = x[..., first], x[..., second]
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out


class KvCache:
    """Keys and values of one layer as float16 ``(n_kv_heads, n_positions, head_dim)``, grown by doubling."""

    def __init__(self, n_kv_heads: int, head_dim: int) -> None:
        self.n_positions = 0
        self._keys = np.zeros((n_kv_heads, 64, head_dim), np.float16)
        self._values = np.zeros_like(self._keys)

    @property
    def n_bytes(self) -> int:
        """RAM held."""
        return self._keys.nbytes + self._values.nbytes

    def append(self, keys: FloatArray, values: FloatArray) -> None:
        """Keep ``(n_tokens, n_kv_heads, head_dim)`` behind what is there."""
        end = self.n_positions + len(keys)
        while end > self._keys.shape[1]:
            self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)], axis=1)
            self._values = np.concatenate([self._values, np.zeros_like(self._values)], axis=1)
        self._keys[:, self.n_positions : end] = keys.transpose(1, 0, 2)
        self._values[:, self.n_positions : end] = values.transpose(1, 0, 2)
        self.n_positions = end

    def keys(self) -> FloatArray:
        """All keys as float32, in this thread's scratch."""
        return _widened("keys", self._keys[:, : self.n_positions])

    def values(self) -> FloatArray:
        """All values as float32, in this thread's scratch."""
        return _widened("kv_values", self._values[:, : self.n_positions])


def attention(queries: FloatArray, cache: KvCache) -> FloatArray:
    """``(n_tokens, n_heads, head_dim)`` queries, the last ``n_tokens`` of the cache's positions → as many outputs.

    Each token sees the positions up to its own.
    """
    keys, values = cache.keys(), cache.values()
    n_kv_heads, n_positions, head_dim = keys.shape
    n_tokens, n_heads, _ = queries.shape
    grouped = queries.reshape(n_tokens, n_kv_heads, n_heads // n_kv_heads, head_dim).transpose(1, 2, 0, 3)
    scores = np.matmul(grouped, keys[:, None].swapaxes(-1, -2)) * np.float32(1 / math.sqrt(head_dim))
    if n_tokens > 1:
        own = np.arange(n_positions - n_tokens, n_positions)
        scores = np.where(np.arange(n_positions) <= own[:, None], scores, np.float32(-np.inf))
    mixed: FloatArray = np.matmul(softmax(scores), values[:, None])
    return mixed.transpose(2, 0, 1, 3).reshape(n_tokens, n_heads, head_dim)


def _widened(name: str, half: npt.NDArray[np.float16]) -> FloatArray:
    wide: FloatArray = scratch(name, half.shape, np.float32)
    for head in range(len(half)):
        rows = half[head].view(np.uint8)
        expander("F16")(rows, wide[head])
    return wide
