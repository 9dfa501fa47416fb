"""Share out the RAM an app gets: KV cache and buffers first, then staging, pinned weights and the weight cache."""

from __future__ import annotations

from simio.errors import InfeasibleError
from simio.records.model import Architecture, kv_bytes
from simio.records.scenario import Scenario
from simio.units import format_bytes

#: KV cells are allocated and attended in blocks of this many tokens (llama.cpp pads n_kv, llama-kv-cache.cpp).
KV_BLOCK_TOKENS = 256


def padded_context(n_tokens: int) -> int:
    """``n_tokens`` rounded up to whole KV blocks."""
    return -(-n_tokens // KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS


def kv_cache_bytes(scenario: Scenario, architecture: Architecture) -> int:
    """The KV cache allocated for the whole run. [bytes]"""
    cells = padded_context(scenario.context_tokens or scenario.prompt_tokens + scenario.n_tokens)
    return round(kv_bytes(architecture, cells, scenario.kv_bytes_per_value))


def buffer_bytes(scenario: Scenario, architecture: Architecture) -> int:
    """Activations of one prefill batch and one row of logits, in FP32. [bytes] Own estimate.

    ``4 · (batch · (4·d_model + 2·d_ff) + vocab)``
    """
    batch = min(scenario.prompt_tokens, scenario.batch_tokens)
    per_token = 4 * architecture.d_model + 2 * architecture.d_ff
    return 4 * (batch * per_token + architecture.vocab_size)


def require(needed_bytes: float, available_bytes: float, what: str, hint: str) -> None:
    """Raise ``InfeasibleError`` when ``what`` does not fit."""
    if needed_bytes > available_bytes:
        short = format_bytes(needed_bytes - max(0.0, available_bytes))
        raise InfeasibleError(f"{what} needs {format_bytes(needed_bytes)} of RAM, {short} more than is left", hint)
