"""The forward pass of Llama-like decoders: Llama, Mistral, Qwen 2 and 3, and their mixtures of experts.

Prefill of a prompt and decode of a token are the same code on a matrix of ``n_tokens`` rows. Weights are asked for in
the order of :mod:`simio.formats.execution_order`, always: whoever streams them may count on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np

from simio.errors import ModelFileError, UsageError
from simio.formats.execution_order import use_of
from simio.records.model import Model
from simio.runtime import kernels
from simio.runtime.arithmetic import KvCache, attention, rms_norm, rotate, softmax, swiglu
from simio.runtime.hyperparameters import Hyperparameters
from simio.runtime.matrices import Matrix, RowBlock, Weights, matrix_of
from simio.runtime.scratch import FloatArray


class Decoder:
    """A model that is being run; a context manager. One text at a time: :meth:`reset` begins another.

    ``n_threads`` threads share the row blocks of every part; the results are the same for any number. BLAS must be
    limited to one thread meanwhile (``kernels.one_blas_thread``).
    """

    def __init__(self, model: Model, shape: Hyperparameters, weights: Weights, n_threads: int = 1) -> None:
        self.shape = shape
        self._weights = weights
        self._tensors = _Names(model)
        self._threads = _Threads(n_threads)
        self._frequencies = self._scaled_frequencies()
        self.reset()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.close()

    def reset(self) -> None:
        """Forget the text so far."""
        self._caches = [KvCache(self.shape.n_kv_heads, self.shape.head_dim) for _ in range(self.shape.n_layers)]

    @property
    def n_positions(self) -> int:
        """Tokens of the text so far."""
        return self._caches[0].n_positions

    @property
    def kv_bytes(self) -> int:
        """RAM that the KV cache holds."""
        return sum(cache.n_bytes for cache in self._caches)

    def append(self, tokens: Sequence[int]) -> FloatArray:
        """Append ``tokens`` to the text; their states behind the last layer, ``(n_tokens, d_model)``.

        Raises ``UsageError`` for no tokens, for ids outside of the vocabulary and for more than the context holds.
        """
        self._check(tokens)
        x = self._weights.embedding_rows(tokens)
        for layer, cache in enumerate(self._caches):
            x = x + self._attention(layer, cache, x)
            x = x + self._feed_forward(layer, x)
        return x

    def feed(self, tokens: Sequence[int]) -> FloatArray:
        """Append ``tokens``; the logits ``(vocab_size,)`` of what follows the last of them. Errors as of ``append``."""
        x = self.append(tokens)
        last = rms_norm(x[-1:], self._small("output_norm"), self.shape.norm_eps)
        logits: FloatArray = self._linear("output", last)[0]
        return logits

    def next_token(self, tokens: Sequence[int]) -> int:
        """Append ``tokens``; the most likely token to follow, the lowest id of equals."""
        return int(np.argmax(self.feed(tokens)))

    def _check(self, tokens: Sequence[int]) -> None:
        vocab, context = self.shape.vocab_size, self.shape.context_length
        if not len(tokens):
            raise UsageError("there are no tokens to continue", "give a prompt, or the token that begins a text")
        wrong = [token for token in tokens if not 0 <= token < vocab]
        if wrong:
            raise UsageError(f"token {wrong[0]} is not in the vocabulary of {vocab}")
        if context and self.n_positions + len(tokens) > context:
            raise UsageError(f"the model's context holds {context} tokens", "use a shorter prompt or fewer new tokens")

    def _attention(self, layer: int, cache: KvCache, x: FloatArray) -> FloatArray:
        shape, n_tokens = self.shape, len(x)
        normed = rms_norm(x, self._small("attn_norm", layer), shape.norm_eps)
        q = self._linear("attn_q", normed, layer).reshape(n_tokens, shape.n_heads, shape.head_dim)
        k = self._linear("attn_k", normed, layer).reshape(n_tokens, shape.n_kv_heads, shape.head_dim)
        v = self._linear("attn_v", normed, layer).reshape(n_tokens, shape.n_kv_heads, shape.head_dim)
        if self._tensors.has("attn_q_norm", layer):
            q = rms_norm(q, self._small("attn_q_norm", layer), shape.norm_eps)
            k = rms_norm(k, self._small("attn_k_norm", layer), shape.norm_eps)
        positions = np.arange(cache.n_positions, cache.n_positions + n_tokens)
        cache.append(rotate(k, positions, self._frequencies, shape.rope_style), v)
        mixed = attention(rotate(q, positions, self._frequencies, shape.rope_style), cache)
        return self._linear("attn_output", mixed.reshape(n_tokens, -1), layer)

    def _feed_forward(self, layer: int, x: FloatArray) -> FloatArray:
        normed = rms_norm(x, self._small("ffn_norm", layer), self.shape.norm_eps)
        if self._tensors.has("ffn_gate_inp", layer):
            return self._mixture(layer, normed)
        hidden = swiglu(self._linear("ffn_gate", normed, layer), self._linear("ffn_up", normed, layer))
        return self._linear("ffn_down", hidden, layer)

    def _mixture(self, layer: int, x: FloatArray) -> FloatArray:
        """Each token's top-k experts, weighted by the softmax of the router; experts in ascending order."""
        share = softmax(x @ self._small("ffn_gate_inp", layer).T)
        top = np.argsort(-share, axis=1, kind="stable")[:, : self.shape.n_experts_used]
        weight = np.take_along_axis(share, top, axis=1)
        if self.shape.normalize_experts:
            weight = weight / weight.sum(axis=1, keepdims=True)
        chosen = [int(expert) for expert in np.unique(top)]
        self._weights.experts(layer, chosen)
        out = np.zeros_like(x)
        for expert in chosen:
            rows, rank = np.nonzero(top == expert)
            mine = x[rows]
            hidden = swiglu(self._expert("ffn_gate", mine, layer, expert), self._expert("ffn_up", mine, layer, expert))
            out[rows] += self._expert("ffn_down", hidden, layer, expert) * weight[rows, rank][:, None]
        return out

    def _expert(self, use: str, x: FloatArray, layer: int, expert: int) -> FloatArray:
        if not self._tensors.has(f"{use}_exps", layer):
            return self._linear(use, x, layer, expert)
        matrix = self._tensors.matrix(f"{use}_exps", layer)
        return self._multiply(matrix, self._weights.expert_parts(matrix.name, expert), x, expert)

    def _linear(self, use: str, x: FloatArray, layer: int | None = None, expert: int | None = None) -> FloatArray:
        matrix = self._tensors.matrix(use, layer, expert)
        out = self._multiply(matrix, self._weights.parts(matrix.name), x)
        bias = f"{use}.bias"
        return out + self._small(bias, layer) if self._tensors.has(bias, layer) else out

    def _multiply(
        self, matrix: Matrix, parts: Iterator[Sequence[RowBlock]], x: FloatArray, expert: int = 0
    ) -> FloatArray:
        """``x Wᵀ``, part by part as the weights arrive."""
        x = np.ascontiguousarray(x, np.float32)
        out = np.empty((len(x), matrix.n_rows), np.float32)
        scales = self._weights.scales(matrix.name)
        if scales is not None and matrix.n_stacked > 1:
            scales = scales.reshape(matrix.n_stacked, -1)[expert]

        def one(block: RowBlock) -> None:
            rows = slice(block.first_row, block.first_row + block.n_rows)
            own = scales if scales is None or scales.size == 1 else scales.reshape(matrix.n_rows, -1)[rows]
            kernels.matmul(matrix.dtype, block.data, block.n_rows, matrix.n_cols, x, out[:, rows], own)

        for part in parts:
            self._threads.share(one, part)
            del part  # its memory is free before the next part comes
        return out

    def _small(self, use: str, layer: int | None = None) -> FloatArray:
        return self._weights.small(self._tensors.name(use, layer))

    def _scaled_frequencies(self) -> FloatArray:
        """Llama 3.1 files carry a divisor for every frequency (``rope_freqs``)."""
        frequencies = self.shape.rope_frequencies()
        return frequencies / self._small("rope_freqs") if self._tensors.has("rope_freqs", None) else frequencies


class _Names:
    """Which tensor of the model has which use."""

    def __init__(self, model: Model) -> None:
        self._model = model.name
        self._tensors = {(use_of(t), t.layer, t.expert): t for t in model.tensors}
        self._matrices: dict[tuple[str, int | None, int | None], Matrix] = {}
        table = self._tensors.get(("token_embd", None, None))
        if table is not None:
            self._tensors.setdefault(("output", None, None), table)  # tied

    def has(self, use: str, layer: int | None) -> bool:
        return (use, layer, None) in self._tensors

    def name(self, use: str, layer: int | None, expert: int | None = None) -> str:
        tensor = self._tensors.get((use, layer, expert))
        if tensor is None:
            where = "" if layer is None else f" of layer {layer}"
            raise ModelFileError(f"{self._model}: has no {use}{where}", "only Llama-like decoders can be run")
        return tensor.name

    def matrix(self, use: str, layer: int | None, expert: int | None = None) -> Matrix:
        key = (use, layer, expert)
        if key not in self._matrices:
            self.name(*key)
            self._matrices[key] = matrix_of(self._tensors[key])
        return self._matrices[key]


class _Threads:
    """``n`` threads that work off a list together; the calling thread is one of them."""

    def __init__(self, n: int) -> None:
        if n < 1:
            raise UsageError(f"{n} compute threads cannot compute", "use at least 1")
        self._n = n
        self._pool = ThreadPoolExecutor(n - 1, thread_name_prefix="compute") if n > 1 else None

    def share(self, work: Callable[[RowBlock], None], blocks: Sequence[RowBlock]) -> None:
        waiting = iter(blocks)

        def all_waiting() -> None:
            for block in waiting:
                work(block)

        n_helpers = min(self._n, len(blocks)) - 1
        helpers = [self._pool.submit(all_waiting) for _ in range(n_helpers)] if self._pool else []
        all_waiting()
        for helper in helpers:
            helper.result()

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()
