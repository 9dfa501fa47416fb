"""GPTQ, AWQ, bitsandbytes and the other packed layouts become one tensor with its byte streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simio.errors import ModelFileError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.records.model import Tensor

STEM = "model.layers.0.mlp.down_proj"
N_OUT, N_IN, N_GROUPS = 64, 256, 2

Write = Callable[..., Path]


def _state(kind: str = "nf4", shape: tuple[int, ...] = (N_OUT, N_IN)) -> tuple[Any, ...]:
    text = json.dumps({"quant_type": kind, "blocksize": 64, "dtype": "bfloat16", "shape": shape}).encode()
    return "U8", [len(text)], text


LAYOUTS: dict[str, tuple[dict[str, tuple[Any, ...]], dict[str, Any], str, set[str]]] = {
    "gptq 4 bit": (
        {
            "qweight": ("I32", [N_IN // 8, N_OUT]), "qzeros": ("I32", [N_GROUPS, N_OUT // 8]),
            "scales": ("F16", [N_GROUPS, N_OUT]), "g_idx": ("I32", [N_IN]),
        },
        {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ4", {"codes", "zeros", "scales", "g_idx"},
    ),
    "gptq 8 bit": (
        {
            "qweight": ("I32", [N_IN // 4, N_OUT]), "qzeros": ("I32", [N_GROUPS, N_OUT // 4]),
            "scales": ("F16", [N_GROUPS, N_OUT]), "g_idx": ("I32", [N_IN]),
        },
        {}, "GPTQ8", {"codes", "zeros", "scales", "g_idx"},
    ),
    "gptq without zero points": (
        {"qweight": ("I32", [N_IN // 8, N_OUT]), "scales": ("F16", [N_GROUPS, N_OUT])},
        {"quantization_config": {"bits": 4}}, "GPTQ4", {"codes", "scales"},
    ),
    "awq": (
        {
            "qweight": ("I32", [N_IN, N_OUT // 8]), "qzeros": ("I32", [N_GROUPS, N_OUT // 8]),
            "scales": ("F16", [N_GROUPS, N_OUT]),
        },
        {}, "AWQ4", {"codes", "zeros", "scales"},
    ),
    "bitsandbytes nf4, nested": (
        {
            "weight": ("U8", [N_OUT * N_IN // 2, 1]), "weight.absmax": ("U8", [N_OUT * N_IN // 64]),
            "weight.quant_map": ("F32", [16]), "weight.nested_absmax": ("F32", [1]),
            "weight.nested_quant_map": ("F32", [256]), "weight.quant_state.bitsandbytes__nf4": _state(),
        },
        {}, "BNB_NF4",
        {"codes", "absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state"},
    ),
    "bitsandbytes fp4": (
        {
            "weight": ("U8", [N_OUT * N_IN // 2, 1]), "weight.absmax": ("F32", [N_OUT * N_IN // 64]),
            "weight.quant_map": ("F32", [16]), "weight.quant_state.bitsandbytes__fp4": _state("fp4"),
        },
        {}, "BNB_FP4", {"codes", "absmax", "quant_map", "quant_state"},
    ),
    "bitsandbytes int8": (
        {"weight": ("I8", [N_OUT, N_IN]), "SCB": ("F32", [N_OUT]), "weight_format": ("U8", [])},
        {}, "BNB_INT8", {"codes", "scales", "weight_format"},
    ),
    "compressed-tensors int4": (
        {
            "weight_packed": ("I32", [N_OUT, N_IN // 8]), "weight_scale": ("BF16", [N_OUT, N_GROUPS]),
            "weight_shape": ("I64", [2], N_OUT.to_bytes(8, "little") + N_IN.to_bytes(8, "little")),
        },
        {}, "INT4", {"codes", "scales", "shape"},
    ),
    "int8 with a scale per row": (
        {"weight": ("I8", [N_OUT, N_IN]), "weight_scale": ("F32", [N_OUT, 1])}, {}, "INT8", {"codes", "scales"},
    ),
    "fp8 in blocks": (
        {"weight": ("F8_E4M3", [N_OUT, N_IN]), "weight_scale_inv": ("F32", [1, 2])}, {}, "F8_E4M3", {"codes", "scales"},
    ),
    "mlx 4 bit": (
        {
            "weight": ("U32", [N_OUT, N_IN // 8]), "scales": ("F16", [N_OUT, N_IN // 64]),
            "biases": ("F16", [N_OUT, N_IN // 64]),
        },
        {"quantization": {"group_size": 64, "bits": 4}}, "INT4", {"codes", "scales", "zeros"},
    ),
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path, safetensors_bytes: Callable[..., bytes]) -> Write:
    """Write a directory with the arrays of one module, beside a plain norm."""

    def build(arrays: dict[str, tuple[Any, ...]], config: dict[str, Any]) -> Path:
        named = {f"{STEM}.{suffix}": array for suffix, array in arrays.items()}
        named["model.norm.weight"] = ("F16", [N_OUT])
        (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(named))
        facts = {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4}
        (tmp_path / "config.json").write_text(json.dumps({**facts, **config}))
        return tmp_path

    return build


def _packed(path: Path) -> Tensor:
    return next(tensor for tensor in open_model(path).tensors if tensor.role == "mlp")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_packed_layout_is_one_tensor_with_its_logical_shape(layout: str, write: Write) -> None:
    arrays, config, dtype, streams = LAYOUTS[layout]
    path = write(arrays, config)
    tensor = _packed(path)
    assert tensor.name == f"{STEM}.weight"
    assert (tensor.dtype, tensor.shape, tensor.n_weights) == (dtype, (N_OUT, N_IN), N_OUT * N_IN)
    assert {stream.name for stream in tensor.streams} == streams
    assert len(open_model(path).tensors) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_byte_of_a_packed_layout_is_lost_or_counted_twice(layout: str, write: Write) -> None:
    arrays, config, *_ = LAYOUTS[layout]
    model = open_model(write(arrays, config))
    spans = sorted((s.offset, s.offset + s.n_bytes) for tensor in model.tensors for s in tensor.streams)
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] == model.n_bytes


def test_gptq_bits_per_weight_include_scales_zeros_and_order(write: Write) -> None:
    arrays, config, *_ = LAYOUTS["gptq 4 bit"]
    n_bytes = N_IN * N_OUT // 2 + N_GROUPS * N_OUT // 2 + N_GROUPS * N_OUT * 2 + N_IN * 4
    assert _packed(write(arrays, config)).bits_per_weight == 8 * n_bytes / (N_IN * N_OUT)


def test_mxfp4_experts_of_gpt_oss_are_stacked_tensors(tmp_path: Path, safetensors_bytes: Callable[..., bytes]) -> None:
    stem = "model.layers.0.mlp.experts.down_proj"
    arrays = {f"{stem}_blocks": ("U8", [4, 32, 2, 16]), f"{stem}_scales": ("U8", [4, 32, 2])}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(arrays))
    (tensor,) = open_model(tmp_path).tensors
    assert (tensor.name, tensor.dtype, tensor.shape) == (stem, "MXFP4", (4, 32, 64))
    assert (tensor.n_stacked, tensor.role) == (4, "expert")
    assert tensor.bits_per_weight == 4.25


def test_the_streams_of_a_packed_tensor_can_be_read(write: Write) -> None:
    arrays, config, *_ = LAYOUTS["bitsandbytes nf4, nested"]
    model = open_model(write(arrays, config))
    tensor = next(t for t in model.tensors if t.role == "mlp")
    state = next(stream for stream in tensor.streams if stream.name == "quant_state")
    with WeightsReader(model) as weights:
        assert json.loads(weights.read(state, 0, state.n_bytes))["shape"] == [N_OUT, N_IN]


def test_an_unpacked_copy_beside_the_codes_is_refused(write: Write) -> None:
    arrays, config, *_ = LAYOUTS["awq"]
    with pytest.raises(ModelFileError, match="unpacked"):
        open_model(write({**arrays, "weight": ("F16", [N_OUT, N_IN])}, config))


MISFITS: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "gptq scales of another width": ("gptq 4 bit", {"scales": ("F16", [N_GROUPS, N_OUT + 8])}),
    "gptq scales that are a vector": ("gptq 4 bit", {"scales": ("F16", [N_OUT])}),
    "gptq with impossible bits": ("gptq 4 bit", {"qzeros": ("I32", [N_GROUPS, N_OUT])}),
    "awq codes of another width": ("awq", {"qweight": ("I32", [N_IN, N_OUT // 8 + 1])}),
    "nf4 state that is no JSON": (
        "bitsandbytes nf4, nested", {"weight.quant_state.bitsandbytes__nf4": ("U8", [4], b"\x00\x01{]")},
    ),
    "nf4 state without a shape": (
        "bitsandbytes nf4, nested", {"weight.quant_state.bitsandbytes__nf4": ("U8", [2], b"{}")},
    ),
    "nf4 state of another shape": (
        "bitsandbytes nf4, nested", {"weight.quant_state.bitsandbytes__nf4": _state(shape=(3, 5))},
    ),
    "nf4 state of unknown kind": (
        "bitsandbytes nf4, nested", {"weight.quant_state.bitsandbytes__nf4": _state("nf3")},
    ),
    "nf4 state as large as weights": (
        "bitsandbytes nf4, nested", {"weight.quant_state.bitsandbytes__nf4": ("U8", [70_000])},
    ),
    "compressed-tensors with another shape": (
        "compressed-tensors int4", {"weight_shape": ("I64", [2], bytes(16))},
    ),
    "mlx scales of another height": ("mlx 4 bit", {"scales": ("F16", [N_OUT // 2, 4])}),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_arrays_that_do_not_fit_each_other_are_refused(case: str, write: Write) -> None:
    layout, changed = MISFITS[case]
    arrays, config, *_ = LAYOUTS[layout]
    path = write({**arrays, **changed}, config)
    with pytest.raises(ModelFileError, match=r"model\.safetensors") as caught:
        open_model(path)
    assert STEM in caught.value.message
    assert caught.value.hint
