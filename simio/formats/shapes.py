"""What the tensors themselves say about an architecture, where the metadata are silent."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from simio.records.model import Architecture, KvLayer, Tensor

#: The projections whose outputs the KV cache keeps, in Hugging Face and GGUF names.
_KEY = re.compile(r"(?:^|[._])(?:k_proj|attn_k|self\.key|k_lin|wk|key_proj)\.weight$")
_QUERY = re.compile(r"(?:^|[._])(?:q_proj|attn_q|self\.query|q_lin|wq|query_proj)\.weight$")
_HEAD_NORM = re.compile(r"(?:k_norm|attn_k_norm|k_layernorm)\.weight$")
_VALUE = re.compile(r"(?:^|[._])(?:v_proj|attn_v|self\.value|v_lin|wv|value_proj)\.weight$")
_FUSED = re.compile(
    r"(?:^|[._])(?:query_key_value|c_attn|Wqkv|wqkv|qkv_proj|attn_qkv|W_pack|att_proj|(?:attn|attention)\.qkv)\.weight$"
)
#: Multi-head latent attention: the compressed latent and the rotary key of all heads.
_LATENT = re.compile(r"kv_a_proj_with_mqa\.weight$|attn_kv_a_mqa\.weight$")
#: Layers that mix the sequence through a fixed state; a fused projection there feeds the state, not a KV cache.
_STATE = re.compile(r"\.ssm_|\.linear_attn\.|\.mamba\.|\.shortconv\.|\.conv\.")
_DOWN = re.compile(r"(?:down_proj|ffn_down|fc2|dense_4h_to_h|fc_out|\.w2|layer\.\d+\.output\.dense)\.weight$")


def complete(architecture: Architecture, tensors: Iterable[Tensor]) -> tuple[Architecture, tuple[str, ...]]:
    """Fill the zeros of ``architecture`` from tensor shapes; the notes say what was found to disagree or is unknown.

    Layers without a key projection lose their share of the KV cache where other layers have one (hybrid models).
    """
    tensors = tuple(tensors)
    n_found = 1 + max((t.layer for t in tensors if t.layer is not None), default=-1)
    n_layers = architecture.n_layers or n_found
    table = _embedding(tensors)
    filled = replace(
        architecture,
        n_layers=n_layers,
        d_model=architecture.d_model or (table.shape[-1] if table else 0),
        vocab_size=architecture.vocab_size or (table.shape[0] if table else 0),
        d_ff=architecture.d_ff or _d_ff(tensors),
        tied_embeddings=_is_tied(tensors),
    )
    filled = replace(_with_heads(filled, tensors), kv_layers=_kv_layers(filled, tensors))
    return filled, _notes(architecture, n_found)


def _notes(stated: Architecture, n_found: int) -> tuple[str, ...]:
    if stated.n_layers and n_found and n_found != stated.n_layers:
        return (f"the metadata say {stated.n_layers} layers, the tensors are numbered up to {n_found}",)
    return ()


def _embedding(tensors: tuple[Tensor, ...]) -> Tensor | None:
    """The token table: the largest matrix with role embedding (position and type tables are smaller)."""
    tables = [t for t in tensors if t.role == "embedding" and len(t.shape) == 2 and "per_layer" not in t.name]
    return max(tables, key=lambda t: t.n_weights, default=None)


def _is_tied(tensors: tuple[Tensor, ...]) -> bool:
    """The output layer shares the token table: there is a table and no matrix with role head."""
    has_head = any(t.role == "head" and len(t.shape) == 2 for t in tensors)
    return _embedding(tensors) is not None and not has_head


def _d_ff(tensors: tuple[Tensor, ...]) -> int:
    """The widest input of a plain MLP's last matrix."""
    return max(
        (t.shape[-1] for t in tensors if t.role == "mlp" and len(t.shape) == 2 and _DOWN.search(t.name)), default=0
    )


def _with_heads(architecture: Architecture, tensors: tuple[Tensor, ...]) -> Architecture:
    """Heads from a norm per head (Qwen3, Gemma 3), where nothing states them: its length is ``head_dim``."""
    norm = next((t for t in tensors if t.role == "norm" and _HEAD_NORM.search(t.name) and len(t.shape) == 1), None)
    key = next((t for t in tensors if _KEY.search(t.name) and len(t.shape) == 2), None)
    if architecture.n_heads or norm is None or key is None or not norm.n_weights or key.shape[0] % norm.shape[0]:
        return architecture
    head_dim = norm.shape[0]
    query = next((t for t in tensors if _QUERY.search(t.name) and t.layer == key.layer), key)
    return replace(
        architecture, head_dim=head_dim, n_kv_heads=key.shape[0] // head_dim, n_heads=query.shape[0] // head_dim
    )


def _kv_layers(architecture: Architecture, tensors: tuple[Tensor, ...]) -> tuple[KvLayer, ...]:
    found = _values_per_token(tensors, architecture.d_model)
    stated = architecture.kv_layers
    if not stated:
        return tuple(KvLayer(found.get(layer, 0)) for layer in range(architecture.n_layers))
    if not found:
        return stated
    if not any(kv.n_values for kv in stated):
        return tuple(replace(kv, n_values=found.get(i, 0)) for i, kv in enumerate(stated))
    return tuple(kv if i in found else replace(kv, n_values=0, window=None) for i, kv in enumerate(stated))


def _values_per_token(tensors: tuple[Tensor, ...], d_model: int) -> dict[int, int]:
    """Values a token adds to the KV cache, for the layers that have an attention at all."""
    by_layer: dict[int, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        if tensor.layer is not None and tensor.role == "attention":
            by_layer[tensor.layer].append(tensor)
    values = ((layer, _layer_values(inside, d_model)) for layer, inside in by_layer.items())
    return {layer: n for layer, n in values if n is not None}


def _layer_values(tensors: list[Tensor], d_model: int) -> int | None:
    matrices = [t for t in tensors if len(t.shape) == 2]
    latent = next((t for t in matrices if _LATENT.search(t.name)), None)
    if latent:
        return latent.shape[0]
    key = next((t for t in matrices if _KEY.search(t.name)), None)
    if key:
        value = next((t for t in matrices if _VALUE.search(t.name)), key)
        return key.shape[0] + value.shape[0]
    fused = next((t for t in matrices if _FUSED.search(t.name)), None)
    if fused is None or any(_STATE.search(t.name) for t in tensors):
        return None
    return max(0, max(fused.shape) - d_model)  # queries are d_model wide; GPT-2 stores the matrix transposed
