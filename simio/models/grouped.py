"""Weight types of models quantized outside llama.cpp, in safetensors: AWQ and GPTQ int4, and int8.

Linear layers are quantized, embeddings, head, norms, routers and biases stay FP16: what AutoAWQ, AutoGPTQ and
llm-compressor write by default. Experts are counted as one stacked tensor, as in GGUF.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from simio.formats.names import classify
from simio.models.attention import Spec
from simio.records.weight_types import weight_type

#: quant → type of the linear layers. ``int4`` is AWQ's layout: group 128, FP16 scale, packed 4-bit zero point.
#: ``int4_g64`` has groups of 64 with 32 bits for scale and zero point (MLX) or an FP32 scale (colibrì);
#: ``vq3`` is what WASTE makes: experts by residual vector quantization, all other matrices in 4 bits.
GROUPED_TYPES = {
    "awq": "AWQ4", "gptq": "GPTQ4", "int4": "AWQ4", "int8": "INT8", "int4_g64": "INT4_G64", "vq3": "VQ3_TRUNK",
}  # fmt: skip

_GROUP = 128
_BLOCKS = ("INT4_G64", "VQ3", "VQ3_TRUNK")
_QUANTIZED_ROLES = ("attention", "mlp", "expert")
_KEPT = ("_norm.", "ssm_conv1d", "shortconv.conv.", "rope_", "tid2eid")


def grouped_types(specs: Sequence[Spec], quant: str) -> list[str]:
    """The weight type of each of ``specs`` under ``quant``, a key of GROUPED_TYPES."""
    linear = GROUPED_TYPES[quant]
    if quant == "vq3":
        return [_vector_quantized(name, shape, linear) for name, shape in specs]
    return [linear if _is_linear(name, shape) else "F16" for name, shape in specs]


def _vector_quantized(name: str, shape: tuple[int, ...], trunk: str) -> str:
    """WASTE quantizes embeddings and head as well: its trunk of Kimi-Linear takes 988 MB (docs/ENGINE.md)."""
    if classify(name).role == "expert" and _is_linear(name, shape):
        return "VQ3"
    return trunk if _is_linear(name, shape) or _is_table(name, shape) else "F16"


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
