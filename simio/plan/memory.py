"""Share out the RAM an app gets: KV cache and buffers first, then staging, pinned weights and the weight cache."""

from __future__ import annotations

from dataclasses import dataclass

from simio.errors import InfeasibleError
from simio.records.device import Device
from simio.records.model import Architecture, kv_bytes
from simio.records.scenario import Scenario
from simio.units import format_bytes

#: KV cells are allocated and attended in blocks of this many tokens (llama.cpp pads n_kv, llama-kv-cache.cpp).
KV_BLOCK_TOKENS = 256


@dataclass(frozen=True, slots=True)
class System:
    """How a device's system deals with an app's memory. ``of`` reads it from a device."""

    total_bytes: int = 1 << 62  # memory of the device: an app that needs more is killed
    swap_onset_bytes: int = 0  # with less left beside the reserve, the system swaps out what apps hold
    swap_share: float = 0.0  # what of the shortfall it takes from this app

    @classmethod
    def of(cls, device: Device) -> System:
        """The system of ``device``; one whose file does not say when it swaps never does."""
        memory = device.memory
        total = round(memory.total.value)
        if memory.swap_onset is None or memory.swap_share is None:
            return cls(total)
        reserve = memory.reserve.value if memory.reserve else 0.0
        return cls(total, max(0, round(memory.swap_onset.value - reserve)), memory.swap_share.value)

    def swapped_bytes(self, left_bytes: int) -> int:
        """What the system takes of the app's memory when ``left_bytes`` are left: ``σ·max(0, onset − left)`` (P1).

        The rest comes from other apps. On a OnePlus 15R runs to which 604 MiB were left had 1610 major faults a token,
        982 MiB 6 to 1100, 1385 MiB 24, 1981 MiB 7 (github.com/Helldez/BigMoeOnEdge docs/bench-data, commit 2d4f2b1,
        sessions of 2026-07-17 and 07-20; left: RAM available at launch, the usual where that is not known or less,
        without weights in anonymous memory, cache, KV cache and buffers). The first token, left out, has up to 73,000
        more, most of them cheap: 24,000 to 34,000 of Qwen3-30B-A3B come in 0.3 to 0.8 s.

        >>> System(swap_onset_bytes=1000, swap_share=0.25).swapped_bytes(600)
        100
        """
        return round(self.swap_share * max(0, self.swap_onset_bytes - left_bytes))


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
