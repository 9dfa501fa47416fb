"""Quantized weights inside safetensors: several stored arrays are one logical tensor with its byte streams.

One row of ``LAYOUTS`` per way of packing. Sources: AutoGPTQ and GPTQModel (``qlinear``), AutoAWQ (``WQLinear``),
bitsandbytes (``functional.QuantState``), compressed-tensors (``pack_quantized``), MLX (``mlx.nn.QuantizedLinear``),
the gpt-oss checkpoints (``gate_up_proj_blocks``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simio.formats.damage import damaged
from simio.formats.tensors import in_file_order, logical_tensor, plain_tensor
from simio.formats.weights import read_bytes
from simio.records.model import Stream, Tensor

#: part name → its stream: "codes", "scales" …
Parts = dict[str, Stream]
#: dtype and logical shape, output axis first
Described = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Packing:
    """What the layouts need besides the arrays: the files (small parts are read) and the declared quantization."""

    files: Sequence[Any]  # paths, indexed by Stream.file_index
    config: dict[str, Any]  # quantization_config of config.json, or empty

    def read(self, stream: Stream) -> bytes:
        """All of a small part."""
        if stream.n_bytes > 65536:
            raise self.wrong(stream, f"has {stream.n_bytes} bytes where a short description is expected")
        return read_bytes(self.files[stream.file_index], stream.offset, stream.n_bytes)

    def wrong(self, stream: Stream, what: str) -> Exception:
        """The error for arrays that do not fit each other."""
        return damaged(self.files[stream.file_index], f"'{stream.name}' {list(stream.shape)} {what}")

    def declared(self, key: str, default: int) -> int:
        """A positive integer of the quantization config."""
        value = self.config.get(key)
        return value if isinstance(value, int) and value > 0 else default


def _describe_gptq_or_awq(parts: Parts, packing: Packing) -> Described:
    """GPTQ packs 32-bit words along the input axis, AWQ along the output axis; ``scales`` is (n_groups, n_out)."""
    codes, scales = parts["codes"], parts["scales"]
    if len(codes.shape) != 2 or len(scales.shape) != 2 or 0 in codes.shape + scales.shape:
        raise packing.wrong(codes, "is no matrix of packed codes with a matrix of scales")
    n_out = scales.shape[1]
    bits = packing.declared("bits", packing.declared("w_bit", 4))
    if "zeros" in parts and len(parts["zeros"].shape) == 2:
        bits = 32 * parts["zeros"].shape[1] // n_out
    if bits not in (2, 3, 4, 8):
        raise packing.wrong(codes, f"packs {bits} bits a weight; 2, 3, 4 and 8 are known")
    if codes.shape[1] == n_out:
        return f"GPTQ{bits}", (n_out, codes.shape[0] * 32 // bits)
    if codes.shape[1] * 32 == n_out * bits:
        return f"AWQ{bits}", (n_out, codes.shape[0])
    raise packing.wrong(codes, f"fits neither GPTQ nor AWQ packing of {n_out} outputs in {bits} bits")


def _describe_bnb_4bit(parts: Parts, packing: Packing) -> Described:
    """The quantization state is JSON stored as bytes; it carries the logical shape and ``nf4`` or ``fp4``."""
    state_stream = parts["quant_state"]
    try:
        state = json.loads(packing.read(state_stream))
        shape, kind = tuple(int(n) for n in state["shape"]), str(state["quant_type"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise packing.wrong(state_stream, f"is no bitsandbytes quantization state ({error!r})") from error
    fits = min(shape, default=0) > 0 and (math.prod(shape) + 1) // 2 == parts["codes"].n_bytes
    if kind not in ("nf4", "fp4") or not fits:
        raise packing.wrong(state_stream, f"says {kind} {list(shape)}, which the codes do not fit")
    return f"BNB_{kind.upper()}", shape


def _describe_same_shape(dtype: str | None) -> Callable[[Parts, Packing], Described]:
    """One stored element per weight; ``dtype`` None keeps the storage type."""
    return lambda parts, packing: (dtype or parts["codes"].dtype, parts["codes"].shape)


def _describe_pack_quantized(parts: Parts, packing: Packing) -> Described:
    """compressed-tensors: int32 words along the input axis; ``weight_shape`` holds (n_out, n_in)."""
    codes = parts["codes"]
    raw = packing.read(parts["shape"])
    width = 8 if parts["shape"].dtype == "I64" else 4
    shape = tuple(int.from_bytes(raw[i : i + width], "little") for i in range(0, len(raw), width))
    if len(shape) != 2 or len(codes.shape) != 2 or shape[0] != codes.shape[0] or not shape[1]:
        raise packing.wrong(codes, f"does not fit its weight_shape {list(shape)}")
    bits = 32 * codes.shape[1] // shape[1]
    return _int_dtype(bits, codes, packing), shape


def _describe_mlx(parts: Parts, packing: Packing) -> Described:
    """MLX: uint32 words along the input axis, one scale and one bias per group (64 weights by default)."""
    codes, scales = parts["codes"], parts["scales"]
    if codes.shape[:-1] != scales.shape[:-1] or not codes.shape or not scales.shape[-1]:
        raise packing.wrong(codes, f"does not fit its scales {list(scales.shape)}")
    n_in = scales.shape[-1] * packing.declared("group_size", 64)
    return _int_dtype(32 * codes.shape[-1] // n_in, codes, packing), (*codes.shape[:-1], n_in)


def _describe_mxfp4(parts: Parts, packing: Packing) -> Described:
    """gpt-oss: blocks of 16 bytes hold 32 FP4 codes, one shared exponent each: (…, n_out, n_blocks, 16)."""
    codes, scales = parts["codes"], parts["scales"]
    if len(codes.shape) < 3 or codes.shape[-1] != 16 or codes.shape[:-1] != scales.shape:
        raise packing.wrong(codes, f"does not fit its scales {list(scales.shape)}")
    return "MXFP4", (*codes.shape[:-2], codes.shape[-2] * 32)


def _int_dtype(bits: int, codes: Stream, packing: Packing) -> str:
    if bits not in (2, 3, 4, 5, 6, 8):
        raise packing.wrong(codes, f"packs {bits} bits a weight, which is not known")
    return f"INT{bits}"


@dataclass(frozen=True, slots=True)
class Layout:
    """``codes`` is the suffix of the array that names the tensor; ``parts`` the suffixes of its companions."""

    codes: str
    dtypes: tuple[str, ...]  # storage types of the codes
    needs: tuple[str, ...]  # parts without which the layout does not apply
    parts: tuple[tuple[str, str], ...]  # (suffix, part name)
    describe: Callable[[Parts, Packing], Described]
    logical: str = ".weight"  # suffix of the logical tensor's name


_SCALED = ((".weight_scale", "scales"), (".weight_scale_inv", "scales"), (".input_scale", "input_scale"))

LAYOUTS = (
    Layout(
        ".qweight", ("I32",), ("scales",),
        ((".qzeros", "zeros"), (".scales", "scales"), (".g_idx", "g_idx")), _describe_gptq_or_awq,
    ),
    Layout(
        ".weight", ("U8", "F16", "BF16", "F32"), ("quant_state", "absmax"),
        (
            (".weight.absmax", "absmax"), (".weight.quant_map", "quant_map"),
            (".weight.nested_absmax", "nested_absmax"), (".weight.nested_quant_map", "nested_quant_map"),
            (".weight.quant_state.bitsandbytes__nf4", "quant_state"),
            (".weight.quant_state.bitsandbytes__fp4", "quant_state"),
        ),
        _describe_bnb_4bit,
    ),
    Layout(
        ".weight", ("I8",), ("scales",),
        ((".SCB", "scales"), (".weight_format", "weight_format")), _describe_same_shape("BNB_INT8"),
    ),
    Layout(
        ".weight_packed", ("I32",), ("scales", "shape"),
        (
            (".weight_scale", "scales"), (".weight_zero_point", "zeros"), (".weight_g_idx", "g_idx"),
            (".weight_shape", "shape"),
        ),
        _describe_pack_quantized,
    ),
    Layout(".weight", ("I8",), ("scales",), (*_SCALED, (".weight_zero_point", "zeros")), _describe_same_shape("INT8")),
    Layout(".weight", ("F8_E4M3", "F8_E5M2"), ("scales",), _SCALED, _describe_same_shape(None)),
    Layout(".weight", ("U32",), ("scales",), ((".scales", "scales"), (".biases", "zeros")), _describe_mlx),
    Layout("_blocks", ("U8",), ("scales",), (("_scales", "scales"),), _describe_mxfp4, logical=""),
)  # fmt: skip


def assemble(streams: Sequence[Stream], packing: Packing, n_experts: int) -> tuple[Tensor, ...]:
    """All logical tensors of ``streams`` (named as stored) in file order; what no layout claims is a plain tensor.

    Raises ``ModelFileError`` when arrays that belong together do not fit each other.
    """
    by_name = {stream.name: stream for stream in streams}
    tensors: list[Tensor] = []
    claimed: set[str] = set()
    for stream in streams:
        if match := _match(stream, by_name):
            layout, parts = match
            tensors.append(_packed_tensor(layout, parts, by_name, packing, n_experts))
            claimed.update(part.name for part in parts.values())
    plain = (stream for stream in streams if stream.name not in claimed)
    return in_file_order([*tensors, *(plain_tensor(stream, n_experts) for stream in plain)])


def _match(codes: Stream, by_name: dict[str, Stream]) -> tuple[Layout, Parts] | None:
    """The first layout that ``codes`` and its companions fulfil."""
    for layout in LAYOUTS:
        if codes.name.endswith(layout.codes) and codes.dtype in layout.dtypes:
            stem = codes.name.removesuffix(layout.codes)
            parts = {"codes": codes}
            parts |= {part: by_name[stem + suffix] for suffix, part in layout.parts if stem + suffix in by_name}
            if all(part in parts for part in layout.needs):
                return layout, parts
    return None


def _packed_tensor(
    layout: Layout, parts: Parts, by_name: dict[str, Stream], packing: Packing, n_experts: int
) -> Tensor:
    codes = parts["codes"]
    name = codes.name.removesuffix(layout.codes) + layout.logical
    if name != codes.name and name in by_name:
        raise packing.wrong(codes, f"stands beside '{name}', the same weights unpacked")
    dtype, shape = layout.describe(parts, packing)
    streams = tuple(replace(stream, name=part) for part, stream in parts.items())
    return logical_tensor(name, shape, dtype, streams, n_experts)
