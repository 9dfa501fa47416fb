"""Computed sizes against published ones: exact file sizes, bits per weight, and every size of the measured runs."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import median

import pytest

from simio.errors import UnknownNameError
from simio.models import preset, resolve_name
from simio.records.model import Model

#: Size in bytes of files on Hugging Face, as their publishers list them.
EXACT = {
    "llama-2-7b:q4_0": 3_825_807_040,  # TheBloke/Llama-2-7B-GGUF
    "llama-2-7b:q4_k_m": 4_081_004_224,  # TheBloke/Llama-2-7B-GGUF
    "mistral-7b:q4_k_m": 4_368_439_584,  # TheBloke/Mistral-7B-Instruct-v0.2-GGUF
    "llama-3.1-8b:q4_k_m": 4_920_739_232,  # bartowski/Meta-Llama-3.1-8B-Instruct-GGUF
    "llama-3.2-1b:q4_k_m": 807_694_464,  # bartowski/Llama-3.2-1B-Instruct-GGUF
    "llama-3.2-3b:q4_k_m": 2_019_377_696,  # bartowski/Llama-3.2-3B-Instruct-GGUF
    "qwen2.5-1.5b:q4_k_m": 986_048_768,  # bartowski/Qwen2.5-1.5B-Instruct-GGUF
    "deepseek-r1-distill-qwen-1.5b:q4_k_m": 1_117_320_736,  # bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF
    "qwen3-30b-a3b:q4_k_m": 18_556_686_912,  # Qwen/Qwen3-30B-A3B-GGUF
    "qwen3.6-35b-a3b:q4_k_m": 21_166_757_888,  # Infatoshi/Qwen3.6-35B-A3B-GGUF
    "gpt-oss-20b:mxfp4": 12_109_566_560,  # ggml-org/gpt-oss-20b-GGUF
    "lfm2-8b-a1b:q4_k_m": 5_044_779_712,  # LiquidAI/LFM2-8B-A1B-GGUF
    "lfm2-24b-a2b:q4_k_m": 14_415_473_952,  # LiquidAI/LFM2-24B-A2B-GGUF
    "ling-mini-2.0:q4_k_m": 9_911_575_072,  # inclusionAI/Ling-mini-2.0-GGUF
    "qwen1.5-moe-a2.7b:q4_k_m": 9_496_238_048,  # duyntnet/Qwen1.5-MoE-A2.7B-Chat-imatrix-GGUF
    "granite-4.0-h-tiny:q4_k_m": 4_230_976_352,  # ibm-granite/granite-4.0-h-tiny-GGUF
    "granite-4.0-h-small:q4_k_m": 19_476_621_984,  # granite-4.0-h-small-Q4_K_M.gguf as one list of downloads has it
}

#: Sizes of files whose publisher's recipe, rounding or split of the KV projection is not exactly the type's mixture.
NEAR = {
    "deepseek-v2-lite:q4_k_m": 10_364_416_736,  # mradermacher/DeepSeek-V2-Lite-GGUF, one attn_kv_b instead of two
    "glm-4.7-flash:q4_k_m": 18_312_339_776,  # unsloth/GLM-4.7-Flash-GGUF
    "ernie-4.5-21b-a3b:q4_k_m": 13_331_015_456,  # unsloth/ERNIE-4.5-21B-A3B-PT-GGUF
    "hunyuan-a13b:q4_k_m": 45.38 * 2**30,  # "file size" in the log at ggml-org/llama.cpp pull request 14425
    "llama-4-scout-17b-16e:q4_k_m": 60.86 * 2**30,  # llama-bench's "llama4 17Bx16E (Scout) Q4_K - Medium"
}

#: llama.cpp, tools/quantize/README.md, the table for Llama-3.1-8B.
BITS_PER_WEIGHT = {
    "iq1_s": 2.0042, "iq1_m": 2.1460, "iq2_xxs": 2.3824, "iq2_xs": 2.5882, "iq2_s": 2.7403, "iq2_m": 2.9294,
    "iq3_xxs": 3.2548, "iq3_xs": 3.4977, "iq3_s": 3.6606, "iq3_m": 3.7628, "q2_k_s": 2.9697, "q2_k": 3.1593,
    "q3_k_s": 3.6429, "q3_k_l": 4.2979, "q4_k_s": 4.6672, "q4_k_m": 4.8944, "q5_k_s": 5.5704, "q5_k_m": 5.7036,
    "q6_k": 6.5633, "q8_0": 8.5008, "f16": 16.0005,
}  # fmt: skip

#: What the figure of a row counts. PocketPal's benchmark (its note says "loaded weight buffers") counts tensors without
#: the file's metadata, and a tied embedding twice: once as embedding, once as output head.
FILE, LOADED, TWICE, GIB = "file", "loaded buffers", "embedding stored twice", "file in GiB"
POCKETPAL = {
    "deepseek-r1-distill-qwen-1.5b", "gemma-3-1b", "gemma-4-e2b", "lfm2.5-1.2b-instruct", "phi-3.5-mini", "phi-4-mini",
    "qwen2.5-1.5b", "qwen3-1.7b", "qwen3.5-0.8b", "qwen3.5-2b", "smollm2-1.7b",
}  # fmt: skip
COUNTS = {
    ("Qwen 2.5 3B", "Q8_0"): TWICE,  # Qwen/Qwen2.5-3B-Instruct-GGUF carries output.weight beside token_embd.weight
    ("gpt-oss-120b", "Q4_K_M (MXFP4 experts)"): GIB,  # 62.77 GB
}
#: Rows whose label means another quantization than the name alone.
MEANS = {
    ("Llama 2 13B", "Q4 (ollama default)"): "q4_0",  # Ollama's default for the models of 2023
    ("DeepSeek-V4-Flash (Q4)", "Q4"): "mxfp4",  # the published FP4 experts, kept
}

_GGML_2023 = "ggml of March 2023: Q4_0 blocks of 20 bytes with an FP32 scale"
_PACK = "an engine's own container, not a weight layout simio has"
_UNSLOTH = "Unsloth's own recipe: more bits for some tensors than the type's mixture"
_RECIPE = "its publisher gave some tensors more bits than the type's mixture"
_VQ = "counted in GiB, and its trunk has 8-bit parts"
EXCLUDED: dict[tuple[str, str, str], str] = {
    ("LLaMA 7B", "q4_0 (ggml)", "4.0"): _GGML_2023,
    ("LLaMA 13B", "q4_0 (ggml)", "7.8"): _GGML_2023,
    ("LLaMA 30B", "q4_0 (ggml)", "20"): _GGML_2023,
    ("LLaMA 65B", "q4_0 (ggml)", "38.5"): _GGML_2023,
    ("LLaMA-7B", "q4_0", "4.2"): _GGML_2023,
    ("LLaMA-13B", "q4_0", "7.9"): _GGML_2023,
    ("Llama-2-7B", "W4", "3.7"): "T-MAC's bit-plane packing, without group zero points",
    ("Llama 3 8B", "Q40", "6.32"): "distributed-llama keeps the embedding in F32",
    ("Llama 3.2 3B", "q8", "3.223"): "LiteRT: int8 embedding too, one scale a channel",
    ("Llama 3.2 1B", "QAT+LoRA 4-bit", "1.182"): "ExecuTorch: int8 embedding, LoRA adapters beside the weights",
    ("Llama 3.2 1B", "SpinQuant 4-bit g32 (8da4w)", "1.136"): "ExecuTorch: int8 embedding, group 32",
    ("Llama 3.2 3B", "QAT+LoRA 4-bit", "2.652"): "ExecuTorch: int8 embedding, LoRA adapters beside the weights",
    ("Llama 3.2 3B", "SpinQuant 4-bit g32 (8da4w)", "2.553"): "ExecuTorch: int8 embedding, group 32",
    ("Qwen3-30B-A3B-Instruct-2507", "Q3_K_S 2.70bpw (Byteshape)", "10.29"): "Byteshape's mixture of 2.70 bits",
    ("Qwen3-Coder-Next", "4bit", "46"): "MLX: group 64 with FP16 scale and bias, embedding quantized too",
    ("Qwen3.5-0.8B", "Q8_K_XL", "1.09"): _UNSLOTH,
    ("Qwen3.5-35B-A3B", "UD-Q4_K_XL", "19.17"): _UNSLOTH,
    ("Qwen3.6-35B-A3B", "Q4_K_M", "22.3"): f"{_RECIPE}; llama-quantize's own file has 21.17 GB (EXACT)",
    ("Qwen3.5-35B-A3B", "tiered 4bit hot/2bit cold", "13.4"): _PACK,
    ("Qwen3.5-397B-A17B", "2bit experts", "120"): _PACK,
    ("Qwen3.5-397B-A17B", "4bit experts, LZ4-compressed on disk", "175"): "compressed on disk",
    ("DeepSeek-R1-UD-IQ1_S", "IQ1_S", "130"): f"{_UNSLOTH} (dense layers and attention at 4 and 6 bits)",
    ("DeepSeek-V4-Flash", "q2 (2-bit experts)", "81"): "ds4: IQ2_XXS and Q2_K experts, the rest as published",
    ("GLM-5.2", "int4", "370"): _PACK,
    ("GLM-5.2", "int4", "429"): _PACK,
    ("GLM-5.2", "int4 gs64", "429.3"): _PACK,
    ("Kimi K3 (2.78T MoE)", "3-bit residual VQ experts + 4/8-bit trunk", "982"): _VQ,
    ("Kimi K3 (2.78T MoE)", "VQ4P experts", "982"): _VQ,
    ("Kimi-Linear 48B-A3B", "3-bit residual VQ experts + 4/8-bit trunk", "17"): _VQ,
    ("Kimi-Linear 48B-A3B", "3-bit residual VQ experts + 4/8-bit trunk", "19"): _VQ,
    ("125B-A6B MoE", "", "106.6"): "not a named public architecture",
    **{
        (name, quant, size): f"{_RECIPE} (the Q6_K file is larger than Q6_K throughout)"
        for name, sizes in {
            "qwen3.5-0.8b": {"Q2_K": "0.636", "Q3_K_M": "0.691", "Q4_K_M": "0.755", "Q5_K_M": "0.823", "Q6_K": "0.865"},
            "qwen3.5-2b": {"Q2_K": "1.407", "Q3_K_M": "1.559", "Q4_K_M": "1.736", "Q5_K_M": "1.913", "Q6_K": "2.037"},
        }.items()
        for quant, size in sizes.items()
    },
}  # fmt: skip

_MEASURED = Path(__file__).parents[2].parent / "shared" / "measured"


@pytest.mark.parametrize("name", EXACT)
def test_the_size_of_a_published_file_is_computed_to_a_hundredth_of_a_percent(name: str) -> None:
    assert preset(name).n_bytes == pytest.approx(EXACT[name], rel=1e-4)


@pytest.mark.parametrize("name", NEAR)
def test_the_size_of_a_file_made_by_a_recipe_is_computed_to_three_percent(name: str) -> None:
    assert preset(name).n_bytes == pytest.approx(NEAR[name], rel=0.03)


@pytest.mark.parametrize("quant", BITS_PER_WEIGHT)
def test_every_file_type_has_the_bits_per_weight_of_the_table_of_llama_cpp(quant: str) -> None:
    assert preset(f"llama-3.1-8b:{quant}").bits_per_weight == pytest.approx(BITS_PER_WEIGHT[quant], abs=6e-5)


@pytest.mark.parametrize(("quant", "published"), [("iq4_xs", 4.4597), ("iq4_nl", 4.6818)])
def test_four_bit_i_quants_are_those_made_with_an_importance_matrix(quant: str, published: float) -> None:
    """The table's were made without: the first eighth of the down projections had Q5_K."""
    model = preset(f"llama-3.1-8b:{quant}")
    wider = 4 * 4096 * 14336 * (176 / 256 - {"iq4_xs": 136 / 256, "iq4_nl": 18 / 32}[quant])
    bits = model.bits_per_weight + 8 * wider / model.n_weights
    assert bits == pytest.approx(published, abs=6e-5)


def test_the_sizes_of_the_measured_runs_are_reproduced(capsys: pytest.CaptureFixture[str]) -> None:
    if not _MEASURED.is_dir():
        pytest.skip("the measured runs are not beside this checkout")
    errors = {}
    for name, quant, size in _sized_rows():
        if (name, quant, size) in EXCLUDED:
            continue
        model = preset(f"{resolve_name(name)[0]}:{MEANS.get((name, quant), quant)}")
        errors[name, quant, size] = _counted(model, name, quant) / (float(size) * 1e9) - 1
    with capsys.disabled():
        print(_listing(errors))
    assert len(errors) >= 90
    assert median(map(abs, errors.values())) <= 0.01
    assert max(map(abs, errors.values())) <= 0.04


def test_no_exclusion_is_stale() -> None:
    if not _MEASURED.is_dir():
        pytest.skip("the measured runs are not beside this checkout")
    assert set(EXCLUDED) <= set(_sized_rows())


def test_a_row_is_excluded_only_where_its_size_would_not_fit() -> None:
    """An exclusion that is not needed would hide that the preset is right."""
    needless = []
    for name, quant, size in EXCLUDED:
        try:
            model = preset(f"{resolve_name(name)[0]}:{quant}")
        except UnknownNameError:
            continue
        if abs(_counted(model, name, quant) / (float(size) * 1e9) - 1) <= 0.01:
            needless.append((name, quant, size))
    assert needless == []


def _sized_rows() -> list[tuple[str, str, str]]:
    rows = set()
    for file in ("names.csv", "runs.csv"):
        with (_MEASURED / file).open(newline="", encoding="utf-8") as lines:
            rows |= {(r["model"], r["quant"], r["file_gb"]) for r in csv.DictReader(lines) if r["file_gb"]}
    return sorted(rows)


def _counted(model: Model, name: str, quant: str) -> float:
    kind = LOADED if name in POCKETPAL else COUNTS.get((name, quant), FILE)
    tensors = sum(tensor.n_bytes for tensor in model.tensors)
    copy = next(t.n_bytes for t in model.tensors if t.name == "token_embd.weight")
    again = copy if model.architecture.tied_embeddings else 0
    return {
        FILE: model.n_bytes,
        LOADED: tensors + again,
        TWICE: model.n_bytes + again,
        GIB: model.n_bytes / 1.073741824,
    }[kind]


def _listing(errors: dict[tuple[str, str, str], float]) -> str:
    lines = [
        f"  {name:32s} {quant:34.34s} {size:>7s} GB {error:+8.2%}" for (name, quant, size), error in errors.items()
    ]
    lines += [
        f"  {name:32s} {quant:34.34s} {size:>7s} GB  not compared: {why}"
        for (name, quant, size), why in EXCLUDED.items()
    ]
    absolute = sorted(map(abs, errors.values()))
    summary = f"  {len(errors)} sizes: median error {median(absolute):.2%}, worst {absolute[-1]:.2%}"
    return "\n" + "\n".join([*lines, f"{summary}; {len(EXCLUDED)} excluded"])
