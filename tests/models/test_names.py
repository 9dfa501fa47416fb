"""What people write resolves to a preset; what names no public architecture does not."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import pytest

from simio.errors import UnknownNameError
from simio.models import names, preset, preset_names, resolve_name

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
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_name_is_understood_however_it_is_spelled(text: str) -> None:
    assert resolve_name(text) == SPELLINGS[text]


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
