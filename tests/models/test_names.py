"""What people write resolves to a preset; what names no public architecture does not."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import pytest

from simio.errors import UnknownNameError
from simio.models import names, preset, preset_names, resolve_name
from simio.validate.compare import model_named

_NAMES = Path(__file__).parents[2].parent / "shared" / "measured" / "names.csv"

#: Names of the measured runs that are not a public architecture, and why.
UNRESOLVED = {
    "(unstated)": "the source names no model",
    "unstated": "the source names no model",
    "Gemma 3": "five sizes; the source does not say which",
    "Llama 3-14B": "never published: a shape made for the experiment of the source",
    "Llama 3-45B": "never published: a shape made for the experiment of the source",
    "Llama 3-60B": "never published: a shape made for the experiment of the source",
    "125B-A6B MoE": "the source names a size, not a model",
}

SPELLINGS = {
    "llama-3.2-3b": ("llama-3.2-3b", None),
    "Llama 3.2 3B": ("llama-3.2-3b", None),
    "LLAMA_3.2_3B:Q4_K_M": ("llama-3.2-3b", "q4_k_m"),
    "meta-llama/Llama-3.2-3B-Instruct": ("llama-3.2-3b", None),
    "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M": ("llama-3.2-3b", "q4_k_m"),
    "Llama-3.2-3B-Instruct-Q4_K_M.gguf": ("llama-3.2-3b", "q4_k_m"),
    "Qwen_Qwen3-1.7B-Q4_K_M.gguf": ("qwen3-1.7b", "q4_k_m"),
    "llama3.2:3b-instruct-q4_K_M": ("llama-3.2-3b", "q4_k_m"),
    "qwen3:30b-a3b": ("qwen3-30b-a3b", None),
    "lfm2:24b-a2b:q4_0": ("lfm2-24b-a2b", "q4_0"),
    "Qwen3-30B-A3B-Instruct-2507": ("qwen3-30b-a3b", None),
    "gemma3:4b-it-qat": ("gemma-3-4b", None),
    "Gemma-4-E2B QAT": ("gemma-4-e2b", None),
    "lfm2.5-1.2b-instruct": ("lfm2.5-1.2b", None),
    "DeepSeek R1 14B": ("qwen2.5-14b", None),
    "deepseek-r1:14b": ("qwen2.5-14b", None),
    "DeepSeek-R1-Distill-Llama-70B": ("llama-3.1-70b", None),
    "DeepSeek-R1 671B (1.5-bit)": ("deepseek-v3", None),
    "DeepSeek-R1-UD-IQ1_S": ("deepseek-v3", "iq1_s"),
    "GLM-5.2-UD-Q2_K_XL": ("glm-5.2", "q2_k"),
    "DeepSeek-V4-Flash (Q4)": ("deepseek-v4-flash", "q4_k_m"),
    "Kimi K3 (2.78T MoE)": ("kimi-k3", None),
    "Llama-7B (ReLU)": ("llama-7b", None),
    "TurboSparse-Mistral-7B": ("mistral-7b", None),
    "Vicuna-7B q3f16": ("llama-7b", "q3_k_s"),
    "RedPajama-INCITE-Chat-3B-v1": ("redpajama-3b", None),
    "SmolLM2": ("smollm2-1.7b", None),
    "llama-2-7b:4-bit groupwise (128)": ("llama-2-7b", "int4"),
    "llama-2-7b:W4 / Q4_0": ("llama-2-7b", "q4_0"),
    "llama-3.2-3b:Q4_K_M (ollama default)": ("llama-3.2-3b", "q4_k_m"),
    "opt-6.7b:fp32 compute": ("opt-6.7b", "f32"),
    "qwen3.5-35b-a3b:4bit": ("qwen3.5-35b-a3b", "int4"),
    "DeepSeek-V2-Lite-Chat-Q4_K_M": ("deepseek-v2-lite", "q4_k_m"),
    "DeepSeek-V2-Lite.Q4_K_M.gguf": ("deepseek-v2-lite", "q4_k_m"),
    "DeepSeek-V2-Lite-Chat.i1-IQ4_XS.gguf": ("deepseek-v2-lite", "iq4_xs"),
    "DeepSeek-V2-Lite-Instruct": ("deepseek-v2-lite", None),
    "DeepSeek-Coder-V2-Lite-Instruct": ("deepseek-v2-lite", None),
    "deepseek-v2:16b": ("deepseek-v2-lite", None),
    "mixtral-8x7b-instruct-v0.1.Q4_K_M.gguf": ("mixtral-8x7b", "q4_k_m"),
    "phi-2.Q4_K_M": ("phi-2", "q4_k_m"),
    "gemma-3-4b-it.Q4_0.gguf": ("gemma-3-4b", "q4_0"),
    "gemma-4-26B-A4B-it-UD-Q4_K_XL.gguf": ("gemma-4-26b-a4b", "q4_k_m"),
    "Qwen3-30B-A3B-Thinking-2507-UD-Q4_K_XL-00001-of-00002.gguf": ("qwen3-30b-a3b", "q4_k_m"),
}
#: The mixtures of experts of 2024 and 2025, by the names of their files on Hugging Face.
SPELLINGS |= {
    "DeepSeek-V2.5-1210-Q4_K_M": ("deepseek-v2", "q4_k_m"),
    "DeepSeek-Coder-V2-Instruct-0724": ("deepseek-v2", None),
    "zai-org_GLM-4.7-Flash-Q4_K_M.gguf": ("glm-4.7-flash", "q4_k_m"),
    "GLM-4.7-Flash-UD-Q4_K_XL": ("glm-4.7-flash", "q4_k_m"),
    "ERNIE-4.5-21B-A3B-PT": ("ernie-4.5-21b-a3b", None),
    "baidu_ERNIE-4.5-21B-A3B-PT-Q4_K_M.gguf": ("ernie-4.5-21b-a3b", "q4_k_m"),
    "ERNIE-4.5-21B-A3B-Thinking": ("ernie-4.5-21b-a3b", None),
    "MiniMaxAI_MiniMax-M2.1-Q2_K.gguf": ("minimax-m2", "q2_k"),
    "meta-llama_Llama-4-Scout-17B-16E-Instruct-Q4_K_M.gguf": ("llama-4-scout-17b-16e", "q4_k_m"),
    "llama4:scout": ("llama-4-scout-17b-16e", None),
    "Ring-mini-2.0-Q4_K_M.gguf": ("ling-mini-2.0", "q4_k_m"),
    "Qwen1.5-MoE-A2.7B-Chat.Q4_K_M.gguf": ("qwen1.5-moe-a2.7b", "q4_k_m"),
    "tencent_Hunyuan-A13B-Instruct-Q4_K_M.gguf": ("hunyuan-a13b", "q4_k_m"),
    "dots.llm1.inst.Q4_K_M.gguf": ("dots.llm1", "q4_k_m"),
    "ibm-granite_granite-4.0-h-tiny-Q4_K_M.gguf": ("granite-4.0-h-tiny", "q4_k_m"),
    "granite4:small-h": ("granite-4.0-h-small", None),
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_name_is_understood_however_it_is_spelled(text: str) -> None:
    assert resolve_name(text) == resolve_name(text.upper()) == resolve_name(text.lower()) == SPELLINGS[text]


@pytest.mark.parametrize("tail", ["", "-it", "-Instruct", "-Chat", "-2507", "-Thinking-2507"])
@pytest.mark.parametrize("quant", ["-Q4_K_M", "-UD-Q4_K_XL", ".Q4_K_M", ".i1-Q4_K_M", "-Q4_K_M.gguf", ".Q4_K_M.gguf"])
def test_the_name_of_a_file_means_the_model_in_it_whatever_its_tail(tail: str, quant: str) -> None:
    for model in ("deepseek-v2-lite", "ernie-4.5-21b-a3b", "qwen3-30b-a3b", "dots.llm1", "ling-mini-2.0"):
        assert model_named(f"{model}{tail}{quant}") == f"{model}:q4_k_m"


def test_every_model_of_the_measured_runs_resolves_or_is_known_not_to() -> None:
    if not _NAMES.is_file():
        pytest.skip("the measured runs are not beside this checkout")
    with _NAMES.open(newline="", encoding="utf-8") as lines:
        asked = {row["model"] for row in csv.DictReader(lines)}
    refused = {name for name in asked if not _resolves(name)}
    assert refused == set(UNRESOLVED)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_answers_to_its_own_id(name: str) -> None:
    assert resolve_name(name) == (name, None)
    assert resolve_name(f"{name}:q4_k_s") == (name, "q4_k_s")


def test_no_name_means_two_presets() -> None:
    aliases = tomllib.loads((names._HERE / "aliases.toml").read_text(encoding="utf-8"))
    keys = [names._key(alias) for listed in aliases.values() for alias in listed]
    assert len(keys) == len(set(keys))
    assert not set(keys) & {names._key(name) for name in preset_names()}


def test_no_preset_id_reads_as_a_quantization() -> None:
    assert [name for name in preset_names() if names.split_name(name)[1]] == []


@pytest.mark.parametrize("text", ["llama-3.2-4b", "llama-3.2-4b:q4_k_m", "lama-3.2-3b"])
def test_an_unknown_model_is_answered_with_the_close_ones(text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown model") as caught:
        preset(text)
    assert "llama-3.2-3b" in caught.value.hint


def test_an_unknown_quantization_is_answered_with_the_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown quantization 'q4_k_mm'") as caught:
        preset("llama-3.2-3b:q4_k_mm")
    assert "q4_k_m" in caught.value.hint


@pytest.mark.parametrize("text", ["", " ", ":", ":q4_k_m", "()", "/", "q4_k_m"])
def test_a_name_without_a_model_is_refused(text: str) -> None:
    with pytest.raises(UnknownNameError):
        resolve_name(text)


def _resolves(name: str) -> bool:
    try:
        resolve_name(name)
    except UnknownNameError:
        return False
    return True
