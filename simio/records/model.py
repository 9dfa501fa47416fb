"""What a model is: tensors in file order and the facts of its architecture. No bytes of weights, no seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Every role a tensor can have. ``other`` is reported to the user.
ROLES = ("embedding", "attention", "mlp", "expert", "router", "norm", "head", "other")


@dataclass(frozen=True, slots=True)
class Stream:
    """One run of bytes in a weights file: all of a plain tensor, or one part (codes, scales …) of a quantized one."""

    name: str  # "data" for a plain tensor; "codes", "scales", "zeros", "g_idx", "absmax", "quant_map" …
    dtype: str  # storage type of the elements: "F16", "I32", "U8", a ggml block type …
    shape: tuple[int, ...]
    file_index: int  # index into Model.files
    offset: int  # from the start of that file [bytes]
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One logical weight tensor.

    ``dtype`` names the weight layout: ``F32 F16 BF16 F8_E4M3 F8_E5M2 I8 U8 I32 …``, a ggml type (``Q4_K``, ``Q8_0``,
    ``MXFP4`` …) or a grouped layout (``GPTQ4``, ``AWQ4``, ``BNB_NF4``, ``BNB_FP4``, ``BNB_INT8``, ``INT8``, ``INT4``).
    ``shape`` is the logical shape, row-major with the output axis first: ``(n_out, n_in)``, or
    ``(n_experts, n_out, n_in)`` where experts are stacked.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str  # one of ROLES
    layer: int | None
    expert: int | None  # expert index where every expert is its own tensor
    n_stacked: int  # experts stacked in this tensor; 1 otherwise
    n_weights: int  # logical weights (packed codes unpacked)
    n_bytes: int  # stored bytes over all streams
    streams: tuple[Stream, ...] = ()  # empty for presets: there is no file

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per logical weight, scales included."""
        return 8 * self.n_bytes / self.n_weights if self.n_weights else 0.0


@dataclass(frozen=True, slots=True)
class KvLayer:
    """What one layer keeps per token in the KV cache.

    ``n_values`` values per token (2·n_kv_heads·head_dim; kv_lora_rank + rope_dim under MLA), at most ``window`` tokens
    when the attention slides, plus ``fixed_bytes`` of constant state (linear attention, convolution).
    """

    n_values: int
    window: int | None = None
    fixed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """The facts of an architecture that time and memory depend on. Zero or None = not known."""

    family: str  # "llama", "qwen3moe" … (general.architecture of GGUF)
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    n_experts: int = 0  # routed experts per layer
    n_experts_used: int = 0  # top-k
    context_length: int = 0
    tied_embeddings: bool = False
    kv_layers: tuple[KvLayer, ...] = ()  # one per layer


@dataclass(frozen=True, slots=True)
class Model:
    """A model without its bytes. ``n_bytes`` is the size of the weights file(s), header included."""

    name: str
    source: str  # "file" or "preset"
    format: str  # "gguf", "safetensors", "preset"
    digest: str  # identifies the content; for presets, of the computed tensor list
    n_bytes: int
    architecture: Architecture
    tensors: tuple[Tensor, ...]
    files: tuple[str, ...] = ()  # absolute paths; empty for presets
    notes: tuple[str, ...] = field(default=())  # things the user should know: unknown names, guessed facts

    @property
    def n_weights(self) -> int:
        """Logical parameters."""
        return sum(tensor.n_weights for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per logical weight over all tensors."""
        return 8 * sum(tensor.n_bytes for tensor in self.tensors) / max(1, self.n_weights)


def kv_bytes(architecture: Architecture, n_tokens: int, bytes_per_value: float = 2.0) -> float:
    """Bytes of KV cache after ``n_tokens``, over all layers. [bytes]

    ``Σ_layers n_values · min(n_tokens, window) · bytes_per_value + fixed_bytes`` — FP16 by default.
    """
    total = 0.0
    for layer in architecture.kv_layers:
        cells = n_tokens if layer.window is None else min(n_tokens, layer.window)
        total += layer.n_values * cells * bytes_per_value + layer.fixed_bytes
    return total
