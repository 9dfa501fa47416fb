"""In which order a decoder uses its tensors: the order in which a runtime that streams weights wants to read them.

One table gives each name its *use*: the name llama.cpp gives the tensor, without layer, expert and ``.weight``
(``attn_q``, ``ffn_down_exps``, ``attn_q.bias``). Names of the ``transformers`` library lead to the same uses.
"""

from __future__ import annotations

import re
from functools import lru_cache

from simio.records.model import Model, Tensor

#: What comes before the layers, in a layer and after them: the order of llama.cpp's graphs of Llama and Qwen.
_BEFORE = ("token_embd", "position_embd", "rope_freqs")
_IN_LAYER = (
    "attn_norm", "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_q_norm", "attn_k_norm", "attn_sub_norm",
    "attn_output", "ffn_norm", "ffn_gate_inp", "ffn_gate", "ffn_up", "ffn_sub_norm", "ffn_down", "ffn_gate_exps",
    "ffn_up_exps", "ffn_down_exps",
)  # fmt: skip
_AFTER = ("output_norm", "output")
_RANK = {use: rank for rank, use in enumerate((*_BEFORE, *_IN_LAYER, *_AFTER))}
_BEHIND = 1 << 30  # a layer number behind all layers

#: Module names of the ``transformers`` library (Llama, Mistral, Mixtral, Qwen, BitNet, GPT-2) → use.
_TRANSFORMERS = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.experts.gate_proj": "ffn_gate", "mlp.experts.up_proj": "ffn_up", "mlp.experts.down_proj": "ffn_down",
    "block_sparse_moe.experts.w1": "ffn_gate", "block_sparse_moe.experts.w3": "ffn_up",
    "block_sparse_moe.experts.w2": "ffn_down",
    "self_attn.attn_sub_norm": "attn_sub_norm", "mlp.ffn_sub_norm": "ffn_sub_norm",
    "wte": "token_embd", "wpe": "position_embd", "ln_1": "attn_norm", "ln_2": "ffn_norm", "ln_f": "output_norm",
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip

_HEAD = re.compile(
    r"^(?:blk\.\d+\.|(?:transformer\.)?h\.\d+\.|transformer\.(?=w[tp]e\.|ln_f\.)"
    r"|(?:(?:language_)?model\.)*(?:layers\.\d+\.)?)"
)
_EXPERT = re.compile(r"\.\d+(?=\.|$)")


def use_of(tensor: Tensor) -> str:
    """What the decoder uses ``tensor`` for: ``attn_q``, ``ffn_down_exps``, ``attn_q.bias``; its own name if unknown.

    >>> _use("model.layers.3.mlp.experts.7.down_proj.weight"), _use("blk.3.attn_q.bias")
    ('ffn_down', 'attn_q.bias')
    """
    return _use(tensor.name)


@lru_cache(maxsize=65536)
def _use(name: str) -> str:
    module, _, parameter = _EXPERT.sub("", _HEAD.sub("", name, count=1)).rpartition(".")
    if not module:
        return name
    use = _TRANSFORMERS.get(module, module)
    return use if parameter == "weight" else f"{use}.{parameter}"


def execution_order(model: Model) -> list[int]:
    """The numbers of ``model.tensors`` in the order they are used: tables, layer by layer, the head.

    In a layer: attention (norm, q, k, v, output), then the MLP (norm, gate, up, down) or router and experts, each
    expert after the other. A bias follows its weight. Unknown names keep their order, at the end of their layer or,
    outside the layers, before them.
    """
    keys = [_key(tensor) for tensor in model.tensors]
    return sorted(range(len(keys)), key=keys.__getitem__)  # stable


def _key(tensor: Tensor) -> tuple[int, int, int, int, bool]:
    """Layer, stage (0 known, 1 experts of their own, 2 unknown), expert, rank of the use, whether it is a bias."""
    use, _, parameter = use_of(tensor).partition(".")
    rank = _RANK.get(use)
    layer = tensor.layer if tensor.layer is not None else _BEHIND if use in _AFTER else -1
    if rank is None:
        return layer, 2, -1, 0, False
    if tensor.expert is None:
        return layer, 0, -1, rank, bool(parameter)
    return layer, 1, tensor.expert, rank, bool(parameter)
