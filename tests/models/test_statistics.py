"""The stored compression statistics: fallbacks, agreement with published ratios, and the profile built from them."""

from __future__ import annotations

import pytest

from simio.errors import UsageError
from simio.models.statistics import compression_of, document, effective_codec, profile_from_statistics
from simio.records.model import ROLES, Architecture, Model, Tensor
from simio.records.weight_types import WEIGHT_TYPES
from simio.units import MIB


def model(*tensors: Tensor) -> Model:
    facts = Architecture("llama", 1, 64, 1, 1, 64, 256, 1000)
    return Model("test", "preset", "preset", "digest", sum(t.n_bytes for t in tensors), facts, tensors)


def tensor(name: str, dtype: str, n_bytes: int, role: str = "mlp") -> Tensor:
    kind = WEIGHT_TYPES[dtype]
    n_weights = n_bytes // kind.block_bytes * kind.block_weights
    return Tensor(name, (1, n_weights), dtype, role, 0, None, 1, n_weights, n_bytes)


@pytest.mark.parametrize(
    ("dtype", "codec", "published", "tolerance"),
    [
        ("BF16", "zstd:1", 1.287, 0.01),  # ZipNN, arXiv 2411.05239, Table III: Llama-3.1
        ("BF16", "byteplane(zstd:1)", 1.453, 0.01),  # same: exponents apart, zstd
        ("F32", "zstd:1", 1.083, 0.01),  # same: OLMo
        ("F32", "byteplane(zstd:1)", 1.20, 0.01),  # same: BERT, OLMo, wav2vec 1.200–1.205
        ("F16", "byteplane(zstd:1)", 1.19, 0.015),  # ENEC, Table II: Mistral FP16 under ZipNN
        ("F8_E4M3", "zstd:1", 1.205, 0.01),  # arXiv 2508.19263: 83 %
        ("Q8_0", "zstd:1", 1.041, 0.005),  # Q8_0 under deflate 96.1 %
        ("Q4_K", "fields(zstd:3)", 1.052, 0.01),  # llm-compression-limits: best stream codec on Q4_K tensors
        ("TQ2_0", "zstd:1", 1.26, 0.015),  # log2(3) of 2 bits, four ternary values a byte
        ("GPTQ4", "zstd:1", 1.176, 0.02),  # GPTQ group 128 of Qwen2.5-7B, entropy bound 85.0 %
    ],
)
def test_measured_ratios_agree_with_published_ones(dtype, codec, published, tolerance):
    assert compression_of(dtype, "any", codec).ratio == pytest.approx(published, rel=tolerance)


def test_a_measured_row_names_its_weights_and_its_spread():
    found = compression_of("BF16", "attention", "byteplane(zstd:1)")
    assert found.basis == "measured"
    assert any("GPT-Neo" in name for name in found.weights)
    assert found.ratio_low <= found.ratio <= found.ratio_high
    assert found.ratio <= 8 / found.entropy_bits_per_byte  # zstd finds no matches here: order 0 is the bound
    assert found.note == ""


def test_a_filter_that_passes_the_layout_through_is_left_out():
    assert effective_codec("byteplane(zstd:1)", "Q4_K") == "zstd:1"
    assert effective_codec("byteplane(fields(zstd:1))", "Q4_K") == "fields(zstd:1)"
    assert effective_codec("byteplane(fields(zstd:1))", "BF16") == "byteplane(zstd:1)"
    assert effective_codec("fields(lz4:1)", "INT8") == "lz4:1"
    assert effective_codec("fields(zstd:1)", "I8") == "zstd:1"


def test_an_unmeasured_level_takes_the_nearest_of_the_same_codec():
    found = compression_of("Q4_K", "mlp", "fields(zstd:19)")
    assert found.ratio == compression_of("Q4_K", "mlp", "fields(zstd:1)").ratio
    assert "fields(zstd:19) as fields(zstd:1)" in found.note
    assert compression_of("Q4_K", "mlp", "zstd:5").note == "zstd:5 as zstd:3"
    assert compression_of("Q4_K", "mlp", "zstd").ratio == compression_of("Q4_K", "mlp", "zstd:1").ratio


def test_a_role_without_weights_takes_a_similar_one_then_all():
    assert "role expert as mlp" in compression_of("MXFP4", "expert", "zstd:1").note
    assert "role head as embedding" in compression_of("Q6_K", "head", "fields(zstd:1)").note
    assert "role router as any" in compression_of("F32", "router", "zstd:1").note
    assert compression_of("F32", "norm", "zstd:1").note == ""


def test_codebook_layouts_carry_a_published_ratio_with_its_source():
    found = compression_of("IQ2_XXS", "mlp", "zstd:1")
    assert (found.basis, found.ratio) == ("published", 1.008)
    assert "IQ2_XXS codes 99.2 %" in found.note
    assert compression_of("IQ2_XXS", "mlp", "lz4:1").ratio == 1.0


def test_what_nobody_measured_is_taken_as_incompressible():
    for found in (compression_of("Q8_K", "mlp", "zstd:1"), compression_of("Q4_K", "mlp", "shrinkwrap:2")):
        assert (found.ratio, found.basis) == (1.0, "unknown")
        assert "incompressible" in found.note


def test_every_weight_type_role_and_codec_has_an_answer():
    for dtype in WEIGHT_TYPES:
        for role in ROLES:
            for codec in ("raw", "lz4:1", "zstd:3", "brotli:9", "byteplane(zstd:1)", "fields(brotli:5)"):
                found = compression_of(dtype, role, codec)
                assert found.ratio >= 1.0
                assert 0 < found.entropy_bits_per_byte <= 8


def test_chunks_are_whole_quant_blocks_and_add_up():
    profile = profile_from_statistics(model(tensor("w", "Q4_K", 144 * 20_000)), "zstd:1", MIB)
    (compressed,) = profile.tensors
    chunk = MIB // 144 * 144
    assert compressed.raw_bytes == (chunk, chunk, 144 * 20_000 - 2 * chunk)
    assert len(compressed.stored_bytes) == 3
    ratio = compression_of("Q4_K", "mlp", "zstd:1").ratio
    assert profile.ratio == pytest.approx(ratio, rel=1e-5)
    assert all(s <= r for s, r in zip(compressed.stored_bytes, compressed.raw_bytes, strict=True))


def test_a_profile_says_that_it_comes_from_statistics():
    profile = profile_from_statistics(model(tensor("w", "BF16", 4096)), "byteplane(zstd:1)", MIB)
    assert (profile.basis, profile.tensors[0].basis) == ("statistics", "statistics")
    assert profile.decompress is None
    assert profile.host is None
    assert profile.ratio > 1.4


def test_raw_stores_every_byte():
    profile = profile_from_statistics(model(tensor("a", "Q6_K", 210 * 7), tensor("b", "F32", 64)), "raw", MIB)
    assert profile.stored_bytes == profile.raw_bytes == 210 * 7 + 64


def test_a_tensor_smaller_than_a_block_and_one_without_bytes_are_kept():
    profile = profile_from_statistics(model(tensor("a", "F32", 4), tensor("b", "F32", 0)), "zstd:1", 2)
    assert [t.raw_bytes for t in profile.tensors] == [(4,), ()]


def test_a_chunk_size_of_nothing_is_refused():
    with pytest.raises(UsageError, match="chunks of 0 bytes"):
        profile_from_statistics(model(tensor("a", "F32", 4)), "zstd:1", 0)


def test_the_file_names_weights_libraries_host_and_date():
    facts = document()
    assert facts["version"] == 1
    assert len(facts["weights"]) >= 4
    assert facts["host"]
    assert len(facts["date"]) == 10
    assert any("zstandard" in name for name in facts["libraries"])
