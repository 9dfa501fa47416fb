"""Tiny random decoders as model files, and what they should compute, in float64."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

VOCAB = 96


@dataclass(frozen=True)
class Shape:
    """A tiny decoder; ``n_experts`` > 0 makes its MLPs mixtures."""

    family: str = "llama"
    n_layers: int = 2
    d_model: int = 64
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 16
    d_ff: int = 96
    n_experts: int = 0
    n_used: int = 2
    has_bias: bool = False
    has_head_norms: bool = False
    is_tied: bool = False
    theta: float = 10000.0
    eps: float = 1e-5
    arrays: dict[str, np.ndarray] = field(default_factory=dict, compare=False)


def random_arrays(s: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor by its GGUF name, float32; experts stacked."""
    rng = np.random.default_rng(seed)
    matrices: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, s.d_model)}
    norms = {"output_norm.weight": s.d_model}
    for layer in range(s.n_layers):
        b = f"blk.{layer}."
        q, kv = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
        matrices |= {b + "attn_q.weight": (q, s.d_model), b + "attn_k.weight": (kv, s.d_model)}
        matrices |= {b + "attn_v.weight": (kv, s.d_model), b + "attn_output.weight": (s.d_model, q)}
        norms |= {b + "attn_norm.weight": s.d_model, b + "ffn_norm.weight": s.d_model}
        if s.has_head_norms:
            norms |= {b + "attn_q_norm.weight": s.head_dim, b + "attn_k_norm.weight": s.head_dim}
        stack = (s.n_experts,) if s.n_experts else ()
        end = "_exps.weight" if s.n_experts else ".weight"
        matrices |= {b + "ffn_gate" + end: (*stack, s.d_ff, s.d_model), b + "ffn_up" + end: (*stack, s.d_ff, s.d_model)}
        matrices |= {b + "ffn_down" + end: (*stack, s.d_model, s.d_ff)}
        if s.n_experts:
            matrices[b + "ffn_gate_inp.weight"] = (s.n_experts, s.d_model)
        if s.has_bias:
            norms |= {b + "attn_q.bias": q, b + "attn_k.bias": kv, b + "attn_v.bias": kv}
    if not s.is_tied:
        matrices["output.weight"] = (VOCAB, s.d_model)
    arrays = {n: rng.standard_normal(shape) / np.sqrt(shape[-1]) * 1.5 for n, shape in matrices.items()}
    arrays |= {n: rng.normal(0.0 if n.endswith("bias") else 1.0, 0.2, size) for n, size in norms.items()}
    return {n: a.astype(np.float32) for n, a in arrays.items()}


def write_gguf(path: Path, s: Shape, arrays: dict[str, np.ndarray], dtype: str = "F32", **more: Any) -> None:
    """A GGUF file whose matrices are stored as ``dtype``; ``arrays`` become what the file holds."""
    import gguf

    writer = gguf.GGUFWriter(path, s.family)
    writer.add_block_count(s.n_layers)
    writer.add_embedding_length(s.d_model)
    writer.add_head_count(s.n_heads)
    writer.add_head_count_kv(s.n_kv_heads)
    writer.add_key_length(s.head_dim)
    writer.add_value_length(s.head_dim)
    writer.add_feed_forward_length(s.d_ff)
    writer.add_context_length(128)
    writer.add_vocab_size(VOCAB)
    writer.add_layer_norm_rms_eps(s.eps)
    writer.add_rope_freq_base(s.theta)
    if s.n_experts:
        writer.add_expert_count(s.n_experts)
        writer.add_expert_used_count(s.n_used)
    for name, value in more.items():
        getattr(writer, f"add_{name}")(value)
    kind = gguf.GGMLQuantizationType[dtype]
    for name, array in arrays.items():
        is_matrix = array.ndim > 1 and "gate_inp" not in name
        data = gguf.quants.quantize(array, kind) if is_matrix else array
        if is_matrix:
            arrays[name] = gguf.quants.dequantize(data, kind).reshape(array.shape)
        writer.add_tensor(name, data, raw_dtype=kind if is_matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_HF = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def write_transformers(path: Path, s: Shape, arrays: dict[str, np.ndarray], model_type: str) -> None:
    """A directory as the transformers library saves it; experts one by one under the names of ``model_type``."""
    from safetensors.numpy import save_file

    path.mkdir()
    mixtral = model_type == "mixtral"
    stored: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not name.startswith("blk."):
            outer = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
            stored[outer.get(name, "lm_head.weight")] = array
            continue
        _, layer, use, parameter = name.split(".")
        b = f"model.layers.{layer}."
        if use == "ffn_gate_inp":
            stored[b + ("block_sparse_moe.gate.weight" if mixtral else "mlp.gate.weight")] = array
        elif use.endswith("_exps"):
            short = use.removesuffix("_exps")
            for e, one in enumerate(array):
                w = {"ffn_gate": "w1", "ffn_up": "w3", "ffn_down": "w2"}[short]
                proj = _HF[short].removeprefix("mlp.")
                where = f"block_sparse_moe.experts.{e}.{w}" if mixtral else f"mlp.experts.{e}.{proj}"
                stored[f"{b}{where}.weight"] = np.ascontiguousarray(one)
        else:
            stored[f"{b}{_HF[use]}.{parameter}"] = array
    save_file(stored, path / "model.safetensors")
    config = {
        "model_type": model_type, "num_hidden_layers": s.n_layers, "hidden_size": s.d_model,
        "num_attention_heads": s.n_heads, "num_key_value_heads": s.n_kv_heads, "head_dim": s.head_dim,
        "intermediate_size": s.d_ff, "vocab_size": VOCAB, "rms_norm_eps": s.eps, "rope_theta": s.theta,
        "max_position_embeddings": 128, "norm_topk_prob": True, "tie_word_embeddings": s.is_tied,
    }  # fmt: skip
    if s.n_experts:
        config |= {"num_local_experts": s.n_experts, "num_experts_per_tok": s.n_used, "moe_intermediate_size": s.d_ff}
    (path / "config.json").write_text(json.dumps(config))


def expected_logits(s: Shape, arrays: dict[str, np.ndarray], tokens: list[int], neighbours: bool) -> np.ndarray:
    """Logits after the last of ``tokens``: the textbook, on all positions at once, float64."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    x = w["token_embd.weight"][tokens]
    for layer in range(s.n_layers):
        own = {n.removeprefix(f"blk.{layer}."): a for n, a in w.items() if n.startswith(f"blk.{layer}.")}
        x = x + _attend(s, own, _norm(x, own["attn_norm.weight"], s.eps), neighbours)
        x = x + _feed(s, own, _norm(x, own["ffn_norm.weight"], s.eps))
    return _norm(x[-1], w["output_norm.weight"], s.eps) @ w.get("output.weight", w["token_embd.weight"]).T


def _norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def _project(own: dict[str, np.ndarray], use: str, x: np.ndarray) -> np.ndarray:
    return x @ own[use + ".weight"].T + own.get(use + ".bias", 0.0)


def _turn(x: np.ndarray, s: Shape, neighbours: bool) -> np.ndarray:
    """Each pair is a complex number that is multiplied by exp(i·position·frequency)."""
    n = s.head_dim
    turn = np.exp(1j * np.arange(len(x))[:, None] * s.theta ** (-np.arange(0, n, 2) / n))[:, None]
    if neighbours:
        z = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)
    z = (x[..., : n // 2] + 1j * x[..., n // 2 :]) * turn
    return np.concatenate([z.real, z.imag], axis=-1)


def _attend(s: Shape, own: dict[str, np.ndarray], x: np.ndarray, neighbours: bool) -> np.ndarray:
    n = len(x)
    q = _project(own, "attn_q", x).reshape(n, s.n_heads, s.head_dim)
    k = _project(own, "attn_k", x).reshape(n, s.n_kv_heads, s.head_dim)
    v = _project(own, "attn_v", x).reshape(n, s.n_kv_heads, s.head_dim)
    if s.has_head_norms:
        q, k = _norm(q, own["attn_q_norm.weight"], s.eps), _norm(k, own["attn_k_norm.weight"], s.eps)
    q, k = _turn(q, s, neighbours), _turn(k, s, neighbours)
    out = np.zeros_like(q)
    for t in range(n):
        for head in range(s.n_heads):
            kv = head // (s.n_heads // s.n_kv_heads)
            score = np.exp(k[: t + 1, kv] @ q[t, head] / np.sqrt(s.head_dim))
            out[t, head] = score / score.sum() @ v[: t + 1, kv]
    return _project(own, "attn_output", out.reshape(n, -1))


def _feed(s: Shape, own: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    if not s.n_experts:
        return _mlp(x, own["ffn_gate.weight"], own["ffn_up.weight"], own["ffn_down.weight"])
    out = np.zeros_like(x)
    for t, row in enumerate(x):
        score = np.exp(own["ffn_gate_inp.weight"] @ row)
        chosen = np.argsort(score)[-s.n_used :]
        for e in chosen:
            mlp = _mlp(
                row, own["ffn_gate_exps.weight"][e], own["ffn_up_exps.weight"][e], own["ffn_down_exps.weight"][e]
            )
            out[t] += score[e] / score[chosen].sum() * mlp
    return out


def _mlp(x: np.ndarray, gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    g = x @ gate.T
    return (g / (1 + np.exp(-g)) * (x @ up.T)) @ down.T
