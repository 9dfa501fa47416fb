"""What a tensor is for, read off its name: role, layer and expert.

Names come in two families: those of Hugging Face checkpoints (``model.layers.3.mlp.down_proj.weight``; the module
paths of the ``transformers`` library) and those of GGUF (``blk.3.ffn_down.weight``; ``gguf-py/gguf/constants.py`` of
llama.cpp). One ordered table serves both: the first row that matches decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class TensorName:
    """What a name says: ``role`` is one of ``simio.records.model.ROLES``; layer and expert count from 0."""

    role: str
    layer: int | None
    expert: int | None


#: Where the layer and the expert index stand, and any index.
_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blk|blocks|block)\.(\d{1,4})(?:\.|$)")
_INDEX = re.compile(r"\.\d+(?=\.)")
_EXPERT = re.compile(r"(?:(?<!shared_)experts|ffn_(?:gate|up|down))\.(\d{1,5})(?:\.|$)")

#: Names longer than this are noise from a damaged file.
_MAX_NAME = 1000

#: Parts beside the language model: vision and audio towers, their projectors, multi-token-prediction heads.
_BESIDE = re.compile(
    r"(?:^|\.)(?:vision\w*|visual|image_\w+|audio\w*|speech\w*|multi_?modal\w*|mm_\w+|embed_vision|embed_audio"
    r"|mtp|mmproj)\.|^(?:v|a|mm)\."
)

#: What follows the module's own name: the parameter, or a byte stream of a quantized one.
_PARAMETER = re.compile(
    r"\.(?:weight|bias|gamma|beta|scale|scales|qweight|qzeros|g_idx|SCB|weight_(?:scale|zero_point|packed|shape)\w*"
    r"|input_scale|biases)(?:\.\S+)?$"
)

#: role → pattern, searched case-insensitively in the module's name (parameter removed); the first match decides.
_ROLES: tuple[tuple[str, str], ...] = (
    # Buffers saved with the weights: causal masks, rotary tables, position ids. No runtime reads them.
    ("other", r"(?:^|\.)(?:attn|(?:self_)?attention)\.(?:masked_)?bias$|inv_freq|position_ids$|nextn\."),
    # Multi-token prediction of DeepSeek 3 and GLM, which plain decoding does not run.
    ("other", r"(?:^|\.)(?:eh_proj|enorm|hnorm|shared_head)(?:\.|$)"),
    # Norms, by the last part of the name only (dbrx keeps its attention under "norm_attn_norm").
    ("norm", r"norm\w*$"),
    ("norm", r"(?:^|\.)(?:(?:\w+_)?ln(?:_\w+|\d)?|layer_scalar|layer_output_scale|layer_norm\w*)$"),
    # Gemma 3n: alternating updates and learned residuals are dense layers; its "router" does not choose experts.
    ("mlp", r"altup|laurel"),
    # Choice of experts, and the gate of a shared expert.
    ("router", r"ffn_gate_inp|exp_probs_b|e_score_correction|expert_bias$|shared_expert_gate"),
    ("router", r"(?:^|[._])router(?:_bias)?(?:\.|$)"),
    ("router", r"(?:mlp|moe|block_sparse_moe|feed_forward|ffn|mixer|layers\.\d+)\.gate(?:\.|$)"),
    # Shared experts run for every token, like a plain MLP; routed ones only when chosen.
    ("mlp", r"shared?_expert|shared_mlp|shexp"),
    ("expert", r"(?<!language_)experts?(?:\.|$|_)|_(?:ch)?exps|ffn_(?:gate|up|down)\.\d+"),
    ("expert", r"(?:^|\.)moe\.(?:gate|up|down)_proj|block_sparse_moe\.(?:in|out)put_linear"),
    # The output side.
    ("head", r"lm_head|for_head$|^head(?:\.|$)|^(?:model\.)?output$|embed_out|output_layer$|^dense_[23]"),
    ("head", r"^(?:model\.)?transformer\.ff_out$|project_out$"),
    ("head", r"(?:^|\.)(?:score|(?:pre_)?classifier|pooler|cls|qa_outputs)(?:\.|_out|$)"),
    # Tables read one row at a time. Gemma's per-layer projections are dense, its per-layer tables are not.
    ("mlp", r"per_layer_(?:model_proj|input_gate|projection)|per_layer_model_projection|blk\.\d+\.(?:inp_gate|proj)$"),
    ("embedding", r"embed_tokens|tok(?:en)?_?embeddings?|token_embd|token_types"),
    ("embedding", r"position_embd|embed_positions|embed_in$"),
    ("embedding", r"(?:word|position|token_type|task_type|tok)_embeddings|(?:^|\.)(?:wte|wpe|shared|embeddings?)$"),
    # Sequence mixing of any kind: attention, state space, short convolution, linear attention.
    ("mlp", r"mixer\.(?:up|down|gate)_proj|mixer\.fc|channel_mix|project_in$"),
    ("attention", r"attn|attention|(?:^|\.)att_proj|mixer|mamba|ssm_|time_mix|short_?conv|(?:^|\.)conv(?:1d)?(?:\.|$)"),
    ("attention", r"rope[._](?:freqs|factors)|(?:^|\.)indexer|temporal_block"),
    # Position-wise layers.
    ("mlp", r"mlp|ffn|feed_forward|block_sparse_moe|DenseReluDense|intermediate\.dense|layers?\.\d+\.output\.dense"),
    ("mlp", r"(?:^|\.)(?:fc\d?|fc_in|fc_out|lin\d|ff_proj|ff_out|(?:gate|up|down|gate_up)_proj)$"),
    # Projections that some checkpoints keep directly in the layer (Mamba, OLMo 1).
    ("attention", r"(?:layers|blocks)\.\d+\.(?:[qkvo]_proj|A_log|D|(?:in|out|x|dt)_proj)$"),
)

_TABLE = tuple((role, re.compile(pattern, re.IGNORECASE)) for role, pattern in _ROLES)


def classify(name: str) -> TensorName:
    """Role, layer and expert of the tensor called ``name``; an unknown name has role ``other``.

    A bias, a scale or any byte stream of a quantized weight takes the role of its weight.

    >>> classify("blk.12.ffn_gate_exps.weight")
    TensorName(role='expert', layer=12, expert=None)
    """
    if len(name) > _MAX_NAME:
        return TensorName("other", None, None)
    role, is_beside = _role(_INDEX.sub(".0", name))
    if is_beside:
        return TensorName(role, None, None)
    layer = _LAYER.search(name)
    expert = _EXPERT.search(name) if role == "expert" else None
    return TensorName(role, int(layer[1]) if layer else None, int(expert[1]) if expert else None)


@lru_cache(maxsize=4096)
def _role(name: str) -> tuple[str, bool]:
    """Role, and whether the tensor is beside the language model; indices do not matter, so a model has few cases.

    The row of buffers sees the whole name, because the causal mask ``attn.bias`` ends like a bias; the others see the
    module's name alone.
    """
    if _BESIDE.search(name):
        return "other", True
    if _TABLE[0][1].search(name):
        return "other", False
    module = _PARAMETER.sub("", name)
    return next((role for role, pattern in _TABLE if pattern.search(module)), "other"), False
