"""Weight types of models quantized outside llama.cpp, in safetensors: AWQ and GPTQ int4, and int8.

Linear layers are quantized, embeddings, head, norms, routers and biases stay FP16: what AutoAWQ, AutoGPTQ and
llm-compressor write by default; engines for phones quantize embeddings and head, too. Experts are
counted as one stacked tensor, as in GGUF.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from simio.formats.names import classify
from simio.models.attention import Spec
from simio.records.weight_types import weight_type

#: quant → type of the linear layers. ``int4`` is AWQ's layout: group 128, FP16 scale, packed 4-bit zero point.
#: ``int4_g64`` has groups of 64 with 32 bits for scale and zero point (MLX) or an FP32 scale (colibrì); ``int4_all``
#: and ``int8_all`` are what engines for phones export, ``int4_head8`` Meta's quantized Llama 3.2; ``vq3`` is what WASTE
#: makes: experts by residual vector quantization, all other matrices in 4 bits.
GROUPED_TYPES = {
    "awq": "AWQ4", "gptq": "GPTQ4", "int4": "AWQ4", "int8": "INT8", "int4_all": "AWQ4", "int8_all": "INT8",
    "int4_head8": "AWQ4", "int4_g64": "INT4_G64", "vq3": "VQ3_TRUNK",
}  # fmt: skip

#: quant → type of embedding and head, which the others leave in FP16. Sources: ExecuTorch's
#: examples/models/llama/README.md (8da4w quantizes every linear layer, embeddings by an option); the model card of
#: Llama 3.2 for SpinQuant and QLoRA (8 bits a weight for both); Llama 3.2 3B for LiteRT is 3.22 GB, a byte a weight;
#: MLX quantizes embeddings by default.
_TABLES = {
    "int4_all": "AWQ4", "int8_all": "INT8", "int4_head8": "INT8", "int4_g64": "INT4_G64", "vq3": "VQ3_TRUNK",
}  # fmt: skip

_GROUP = 128
_BLOCKS = ("INT4_G64", "VQ3", "VQ3_TRUNK")
_QUANTIZED_ROLES = ("attention", "mlp", "expert")
_KEPT = ("_norm.", "ssm_conv1d", "shortconv.conv.", "rope_", "tid2eid")


def grouped_types(specs: Sequence[Spec], quant: str) -> list[str]:
    """The weight type of each of ``specs`` under ``quant``, a key of GROUPED_TYPES."""
    return [_type(name, shape, quant) for name, shape in specs]


def _type(name: str, shape: tuple[int, ...], quant: str) -> str:
    if _is_linear(name, shape):
        experts = quant == "vq3" and classify(name).role == "expert"
        return "VQ3" if experts else GROUPED_TYPES[quant]
    return _TABLES[quant] if quant in _TABLES and _is_table(name, shape) else "F16"


def grouped_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Stored bytes of a linear layer ``(…, n_out, n_in)``: codes, FP16 scales and, for int4, packed zero points.

    int4: ``n_in·n_out/2 + ⌈n_in/128⌉·n_out·(2 + 1/2)`` (AWQ, arXiv 2306.00978; GPTQ, arXiv 2210.17323);
    int8: one FP16 scale per output channel; others by their blocks.
    """
    n_columns, n_rows = shape[-1], prod(shape[:-1])
    if dtype == "INT8":
        return n_rows * (n_columns + 2)
    if dtype in _BLOCKS:
        kind = weight_type(dtype)
        return n_rows * -(-n_columns // kind.block_weights) * kind.block_bytes
    n_groups = -(-n_columns // _GROUP)
    return (n_rows * n_columns + 5 * n_groups * n_rows) // 2


def _is_table(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and classify(name).role in ("embedding", "head")


def _is_linear(name: str, shape: tuple[int, ...]) -> bool:
    if len(shape) < 2 or shape[-2] == 1 or any(part in name for part in _KEPT):
        return False
    return name.endswith(".weight") and classify(name).role in _QUANTIZED_ROLES
