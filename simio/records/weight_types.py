"""How weights of each stored type are packed, and which compute kernel they use. A test holds this against ``gguf``."""

from __future__ import annotations

from dataclasses import dataclass

from simio.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class WeightType:
    """``block_bytes`` hold ``block_weights`` weights; ``gemv_class`` keys the rates of a device file."""

    block_weights: int
    block_bytes: int
    gemv_class: str

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per weight, scales included."""
        return 8 * self.block_bytes / self.block_weights


#: The kernels a device file may give rates for.
GEMV_CLASSES = (
    "f32", "f16", "bf16", "fp8", "int8", "int4", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "q3_k", "q2_k",
    "iq4", "iq3", "iq2", "mxfp4",
)  # fmt: skip

_T = WeightType

#: Source of the block sizes: ggml-common.h; safetensors types are one element a block.
WEIGHT_TYPES: dict[str, WeightType] = {
    "F64": _T(1, 8, "f32"),
    "F32": _T(1, 4, "f32"),
    "F16": _T(1, 2, "f16"),
    "BF16": _T(1, 2, "bf16"),
    "F8_E4M3": _T(1, 1, "fp8"),
    "F8_E5M2": _T(1, 1, "fp8"),
    "I64": _T(1, 8, "int8"),
    "U64": _T(1, 8, "int8"),
    "I32": _T(1, 4, "int8"),
    "U32": _T(1, 4, "int8"),
    "I16": _T(1, 2, "int8"),
    "U16": _T(1, 2, "int8"),
    "I8": _T(1, 1, "int8"),
    "U8": _T(1, 1, "int8"),
    "BOOL": _T(1, 1, "int8"),
    "Q4_0": _T(32, 18, "q4_0"),
    "Q4_1": _T(32, 20, "q4_0"),
    "Q5_0": _T(32, 22, "q5_k"),
    "Q5_1": _T(32, 24, "q5_k"),
    "Q8_0": _T(32, 34, "q8_0"),
    "Q8_1": _T(32, 40, "q8_0"),
    "Q2_K": _T(256, 84, "q2_k"),
    "Q3_K": _T(256, 110, "q3_k"),
    "Q4_K": _T(256, 144, "q4_k"),
    "Q5_K": _T(256, 176, "q5_k"),
    "Q6_K": _T(256, 210, "q6_k"),
    "Q8_K": _T(256, 292, "q8_0"),
    "IQ1_S": _T(256, 50, "iq2"),
    "IQ1_M": _T(256, 56, "iq2"),
    "IQ2_XXS": _T(256, 66, "iq2"),
    "IQ2_XS": _T(256, 74, "iq2"),
    "IQ2_S": _T(256, 82, "iq2"),
    "IQ3_XXS": _T(256, 98, "iq3"),
    "IQ3_S": _T(256, 110, "iq3"),
    "IQ4_NL": _T(32, 18, "iq4"),
    "IQ4_XS": _T(256, 136, "iq4"),
    "TQ1_0": _T(256, 54, "q2_k"),
    "TQ2_0": _T(256, 66, "q2_k"),
    "MXFP4": _T(32, 17, "mxfp4"),
    "NVFP4": _T(64, 36, "mxfp4"),
    "Q1_0": _T(128, 18, "q2_k"),
    "F8_E8M0": _T(1, 1, "fp8"),
    "F8_E4M3FNUZ": _T(1, 1, "fp8"),
    "F8_E5M2FNUZ": _T(1, 1, "fp8"),
    "F4": _T(2, 1, "mxfp4"),
    "F6_E2M3": _T(4, 3, "fp8"),
    "F6_E3M2": _T(4, 3, "fp8"),
    "C64": _T(1, 8, "f32"),
    # Layouts of logical tensors in safetensors: group 128, an FP16 scale and a zero point of the codes' width (GPTQ,
    # AWQ papers); two groups a block, so that bytes are whole.
    "GPTQ2": _T(512, 137, "int4"),
    "GPTQ3": _T(1024, 411, "int4"),
    "GPTQ4": _T(256, 133, "int4"),
    "GPTQ8": _T(128, 131, "int8"),
    "AWQ2": _T(512, 137, "int4"),
    "AWQ3": _T(1024, 411, "int4"),
    "AWQ4": _T(256, 133, "int4"),
    "AWQ8": _T(128, 131, "int8"),
    "BNB_NF4": _T(64, 36, "int4"),
    "BNB_FP4": _T(64, 36, "int4"),
    "BNB_INT8": _T(1, 1, "int8"),
    "INT8": _T(1, 1, "int8"),
    "INT4_G64": _T(64, 36, "int4"),
    # WASTE: 6656 experts of Kimi-Linear, 7.08 million weights each, are 16.53 GiB (docs/ENGINE.md of
    # github.com/sqliteai/waste), a record of Kimi K3, 33 million, 11.83 MiB; multiplied through look-up tables as the
    # codebook types of GGUF. Its trunk has 4.25 bits a weight.
    "VQ3": _T(256, 96, "iq2"),
    "VQ3_TRUNK": _T(64, 34, "int4"),
    "INT6": _T(4, 3, "int8"),
    "INT5": _T(8, 5, "int8"),
    "INT4": _T(2, 1, "int4"),
    "INT3": _T(8, 3, "int4"),
    "INT2": _T(4, 1, "int4"),
}


def weight_type(dtype: str) -> WeightType:
    """The packing of ``dtype``; raises ``UnknownNameError`` for a type simio does not know."""
    try:
        return WEIGHT_TYPES[dtype]
    except KeyError:
        raise UnknownNameError("weight type", dtype, WEIGHT_TYPES) from None
