"""Every preset: complete, cited, built under every quantization, and with the published number of parameters."""

from __future__ import annotations

import re
import tomllib

import pytest
from gguf.constants import TENSOR_NAMES

from simio.errors import UnknownNameError
from simio.models import facts, preset, preset_names, quant_names
from simio.models.families import FAMILIES
from simio.models.metadata import BYTES_PER_TOKEN
from simio.models.shapes import tensor_specs
from simio.paths import data_dir
from simio.records.model import ROLES
from simio.records.weight_types import WEIGHT_TYPES

#: Parameters of the language model as its publisher gives them. [10⁹]
PARAMETERS = {
    "llama-7b": 6.74, "llama-13b": 13.02, "llama-30b": 32.53, "llama-65b": 65.29,  # arXiv 2302.13971, table 2 and files
    "llama-2-70b": 68.98, "llama-3.1-8b": 8.03, "llama-3.1-70b": 70.55, "llama-3.1-405b": 405.85,
    "llama-3.2-1b": 1.24, "llama-3.2-3b": 3.21, "mistral-7b": 7.24, "mistral-small-24b": 23.57, "mixtral-8x7b": 46.70,
    "tinyllama-1.1b": 1.10, "smollm2-135m": 0.1345, "smollm2-360m": 0.3618, "smollm2-1.7b": 1.71, "smollm3-3b": 3.08,
    "qwen1.5-0.5b": 0.464, "qwen1.5-1.8b": 1.84, "qwen1.5-7b": 7.72, "qwen2-72b": 72.71, "qwen2.5-0.5b": 0.494,
    "qwen2.5-1.5b": 1.54, "qwen2.5-3b": 3.09, "qwen2.5-7b": 7.62, "qwen2.5-14b": 14.77, "qwen2.5-32b": 32.76,
    "qwen3-0.6b": 0.596, "qwen3-4b": 4.02, "qwen3-8b": 8.19, "qwen3-14b": 14.77, "qwen3-32b": 32.76,
    "qwen3-30b-a3b": 30.53, "qwen3-235b-a22b": 235.09, "qwen3-coder-next": 79.67, "qwen3.5-27b": 26.9,
    "qwen3.5-35b-a3b": 34.66, "qwen3.5-397b-a17b": 396.3, "gemma-2b": 2.51, "gemma-7b": 8.54, "gemma-2-2b": 2.61,
    "gemma-2-9b": 9.24, "gemma-2-27b": 27.23, "gemma-3-270m": 0.268, "gemma-3-1b": 1.00, "gemma-3-4b": 3.88,
    "gemma-3-12b": 11.77, "gemma-3-27b": 27.01, "gemma-4-26b-a4b": 25.2, "gemma-4-31b": 30.7, "phi-2": 2.78,
    "phi-3.5-mini": 3.82, "phi-4": 14.66, "phi-4-mini": 3.84, "phi-3.5-moe": 41.87, "gpt-oss-20b": 20.91,
    "gpt-oss-120b": 116.83, "gpt2": 0.124, "gpt2-xl": 1.558, "gpt-neox-20b": 20.55, "pythia-6.9b": 6.86,
    "opt-6.7b": 6.66, "opt-30b": 29.97, "persimmon-8b": 9.4, "falcon-7b": 7.22, "olmo-2-7b": 7.30, "olmoe-1b-7b": 6.92,
    "lfm2-1.2b": 1.17, "lfm2-8b-a1b": 8.34, "lfm2-24b-a2b": 23.84, "smallthinker-21b-a3b": 21.5, "glm-4.5-air": 106.85,
    "glm-5.2": 743.4, "deepseek-v2-lite": 15.71, "deepseek-v3": 671.03, "deepseek-v4-flash": 284.3, "kimi-k2": 1026.4,
    "kimi-linear-48b-a3b": 49.12, "kimi-k3": 2780.0,
    "deepseek-v2": 235.74, "glm-4.7-flash": 29.94, "minimax-m2": 228.69, "dots.llm1": 142.77, "hunyuan-a13b": 80.39,
    "qwen1.5-moe-a2.7b": 14.3, "llama-4-scout-17b-16e": 107.77,
}  # fmt: skip

#: The families the issue names, with one preset each that must be there.
REQUIRED = """
    llama-7b llama-2-7b llama-3-8b llama-3.1-405b llama-3.2-1b llama-3.2-3b mistral-7b mistral-small-24b
    mixtral-8x7b tinyllama-1.1b smollm2-135m smollm2-360m smollm2-1.7b smollm3-3b qwen-1.8b qwen1.5-0.5b
    qwen1.5-1.8b qwen1.5-7b qwen2-0.5b qwen2-1.5b qwen2-7b qwen2-72b qwen2.5-0.5b qwen2.5-72b qwen3-0.6b
    qwen3-32b qwen3-30b-a3b qwen3.5-0.8b qwen3.5-2b qwen3.5-4b qwen3.5-9b qwen3.5-35b-a3b qwen3.6-35b-a3b
    qwen3.5-397b-a17b qwen3-coder-next gemma-2b gemma-7b gemma-2-2b gemma-2-9b gemma-2-27b gemma-3-270m
    gemma-3-1b gemma-3-4b gemma-3-12b gemma-3-27b gemma-3n-e2b gemma-3n-e4b gemma-4-e2b gemma-4-e4b
    gemma-4-26b-a4b phi-2 phi-3-mini phi-3.5-mini phi-4 phi-4-mini phi-3.5-moe gpt-oss-20b gpt-oss-120b gpt2
    gpt-neox-20b opt-125m opt-30b falcon-7b olmo-2-7b olmoe-1b-7b bitnet-3b redpajama-3b persimmon-8b
    stablelm-3b lfm2.5-8b-a1b lfm2-24b-a2b deepseek-v2-lite deepseek-v3 deepseek-v4-flash glm-4.5-air glm-5.2
    kimi-k2 kimi-k3 kimi-linear-48b-a3b smallthinker-4b-a0.6b smallthinker-21b-a3b
    deepseek-v2 glm-4.7-flash ernie-4.5-21b-a3b minimax-m2 llama-4-scout-17b-16e ling-mini-2.0 qwen1.5-moe-a2.7b
    hunyuan-a13b dots.llm1 granite-4.0-h-small granite-4.0-h-tiny
""".split()  # noqa: SIM905


def test_the_models_people_ask_for_have_a_preset() -> None:
    assert set(REQUIRED) <= set(preset_names())
    assert len(preset_names()) >= 40


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_cites_its_source_and_belongs_to_a_known_family(name: str) -> None:
    known = facts(name)
    is_trace = known.source.startswith("traces/") and (data_dir("traces").parent / known.source).is_dir()
    assert is_trace or re.match(r"https://(huggingface\.co|arxiv\.org)/", known.source)
    assert known.family in FAMILIES
    assert known.tokenizer in BYTES_PER_TOKEN
    assert known.default_quant in quant_names()


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_built_under_every_quantization(name: str) -> None:
    layers = facts(name).n_layers
    for quant in quant_names():
        model = preset(f"{name}:{quant}")
        assert model.name == f"{name}:{quant}"
        assert 0 < sum(tensor.n_bytes for tensor in model.tensors) < model.n_bytes
        assert {tensor.role for tensor in model.tensors} <= set(ROLES)
        assert {tensor.layer for tensor in model.tensors} == {None, *range(layers)}
        assert {tensor.dtype for tensor in model.tensors} <= set(WEIGHT_TYPES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    assert preset(name).n_weights / 1e9 == pytest.approx(PARAMETERS[name], rel=0.005)


@pytest.mark.parametrize("name", preset_names())
def test_tensors_carry_the_names_of_gguf(name: str) -> None:
    """opt and persimmon have no converter any more, deepseek4 and kimi-k3 are younger than the gguf package."""
    if facts(name).family in ("opt", "persimmon", "deepseek4", "kimi-k3"):
        pytest.skip("not a family of the gguf package")
    known = {template.replace("{bid}", "#") for template in TENSOR_NAMES.values()}
    found = {re.sub(r"^blk\.\d+\.", "blk.#.", tensor) for tensor, _ in tensor_specs(facts(name))}
    bare = {re.sub(r"\.(weight|bias|scale)$", "", tensor) for tensor in found}
    assert bare <= known


def test_tensors_stand_in_the_order_llama_quantize_writes_them() -> None:
    names = [tensor.name for tensor in preset("llama-3.1-8b").tensors]
    assert names[:4] == ["output.weight", "output_norm.weight", "rope_freqs.weight", "token_embd.weight"]
    assert names[4:7] == ["blk.0.attn_k.weight", "blk.0.attn_norm.weight", "blk.0.attn_output.weight"]
    assert names[-1] == "blk.31.ffn_up.weight"


def test_granite_4_has_as_many_tensors_as_its_file() -> None:
    """gguf-dump of unsloth/granite-4.0-h-tiny-GGUF, in danbev/learning-ai, notes/granite-model.md."""
    assert len(preset("granite-4.0-h-tiny").tensors) == 666


def test_stacked_experts_are_counted_and_their_shape_has_the_output_axis_first() -> None:
    experts = {t.name: t for t in preset("qwen3-30b-a3b").tensors if t.role == "expert" and t.layer == 0}
    down = experts["blk.0.ffn_down_exps.weight"]
    assert down.shape == (128, 2048, 768)
    assert down.n_stacked == 128
    assert down.n_weights == 128 * 2048 * 768


def test_without_a_quantization_the_preset_chooses() -> None:
    assert preset("llama-3.2-3b").name == "llama-3.2-3b:q4_k_m"
    assert preset("gpt-oss-20b").name == "gpt-oss-20b:mxfp4"


def test_a_preset_says_that_it_is_one() -> None:
    model = preset("llama-3.2-3b:q8_0")
    assert (model.source, model.format, model.files) == ("preset", "preset", ())
    assert all(tensor.streams == () for tensor in model.tensors)


def test_the_digest_follows_the_tensors_and_nothing_else() -> None:
    assert preset("llama-3.2-3b:q4_k_m").digest == preset("Llama 3.2 3B:Q4_K_M").digest
    assert preset("llama-3.2-3b:q4_k_m").digest != preset("llama-3.2-3b:q4_k_s").digest
    assert preset("qwen3.5-35b-a3b:q4_0").digest == preset("qwen3.6-35b-a3b:q4_0").digest  # one architecture


def test_a_reconstructed_preset_tells_what_was_inferred() -> None:
    reconstructed = [name for name in preset_names() if facts(name).confidence == "reconstructed"]
    assert reconstructed
    for name in reconstructed:
        assert any("reconstructed" in note and "infer" in note for note in preset(name).notes)


def test_mxfp4_of_a_model_without_experts_says_so() -> None:
    assert any("experts" in note for note in preset("llama-3.2-3b:mxfp4").notes)


def test_facts_of_an_unknown_preset_name_the_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'llama-3\.2-4b'") as caught:
        facts("llama-3.2-4b")
    assert "llama-3.2-3b" in caught.value.hint


def test_the_alias_index_points_at_presets_that_exist() -> None:
    from simio.models import names

    aliases = tomllib.loads((names._HERE / "aliases.toml").read_text(encoding="utf-8"))
    assert set(aliases) <= set(preset_names())
