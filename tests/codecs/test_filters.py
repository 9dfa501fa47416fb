"""What the filters do to real weights, and the raw fallback."""

from pathlib import Path

import numpy as np
import pytest

from simio.codecs import parse
from simio.codecs.chunk import compress_chunk, decompress_chunk
from simio.codecs.entropy import byte_entropy, streams_entropy
from simio.codecs.fields import columns
from simio.errors import ModelFileError

SHARED = Path(__file__).parents[2].parent / "shared" / "models"
GPT2 = SHARED / "gpt2-124m-attn-fp32be/decoder4/att.query.w.dat"
GPT_NEO = SHARED / "gpt-neo-125m-attn-bf16-in-fp32be/decoder1/att.query.w.dat"


def real_weights(path: Path) -> np.ndarray:
    if not path.is_file():
        pytest.skip("needs the shared real weights")
    return np.fromfile(path, ">f4").astype("<f4")


def bf16(weights: np.ndarray) -> bytes:
    return (weights.view("<u4") >> 16).astype("<u2").tobytes()


def test_byteplane_puts_the_exponents_of_bf16_into_the_first_plane():
    values = np.array([1.0, -1.0, 2.0, 0.5, 0.0], "<f4")
    planes = parse("byteplane(raw)").for_layout("BF16").streams(bf16(values))
    assert bytes(planes[0]) == bytes([127, 127, 128, 126, 0])
    assert bytes(planes[1]) == bytes([0, 1, 0, 0, 0])  # mantissa, then the sign as lowest bit


def test_byteplane_orders_the_planes_of_f32_from_exponent_to_sign():
    word = np.array([0b1_10000001_01000000000000000000001], "<u4")
    planes = parse("byteplane(raw)").for_layout("F32").streams(word.tobytes())
    assert [bytes(plane)[0] for plane in planes[:4]] == [0b10000001, 0b01000000, 0, 0b00000011]


def test_byteplane_makes_real_bf16_weights_as_small_as_published():
    """ZipNN, arXiv 2411.05239, table III: Llama-3.1 BF16 is 68.8 % after an exponent split and zstd, 77.7 % without."""
    raw = bf16(real_weights(GPT_NEO))
    split = parse("byteplane(zstd:1)").for_layout("BF16")
    stored, plain = len(split.compress(raw)) / len(raw), len(parse("zstd:1").compress(raw)) / len(raw)
    assert stored == pytest.approx(0.688, abs=0.03)
    assert plain == pytest.approx(0.777, abs=0.04)
    assert stored >= streams_entropy(split.streams(raw)) / 8


def test_byteplane_leaves_integer_weights_to_its_inner_codec():
    codec = parse("byteplane(zstd:1)")
    assert codec.for_layout("I8") == codec.for_layout("Q4_K") == parse("zstd:1")


def test_filters_compose_so_that_each_layout_gets_the_one_that_applies():
    codec = parse("byteplane(fields(zstd:1))")
    assert codec.for_layout("F16").name == "byteplane(zstd:1)"
    assert codec.for_layout("Q4_K").name == "fields(zstd:1)"


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_fields_gather_the_scales_of_real_quant_blocks(dtype):
    gguf = pytest.importorskip("gguf")
    blocks = gguf.quants.quantize(real_weights(GPT2).reshape(-1, 768), gguf.GGMLQuantizationType[dtype])
    raw = blocks.tobytes()
    codec = parse("fields(zstd:3)").for_layout(dtype)
    scale_low, scale_high = codec.streams(raw)[:2]
    block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]][1]
    assert bytes(scale_low) == raw[0::block_bytes]
    assert bytes(scale_high) == raw[1::block_bytes]
    assert byte_entropy(scale_high) < 5 < byte_entropy(scale_low)
    assert len(codec.compress(raw)) < len(parse("zstd:3").compress(raw))
    assert codec.decompress(codec.compress(raw), len(raw)) == raw


@pytest.mark.parametrize("dtype", ["Q4_K", "Q6_K", "MXFP4", "IQ4_XS"])
def test_fields_keep_the_bytes_of_a_cut_off_quant_block(dtype):
    raw = np.random.default_rng(0).bytes(1000)
    codec = parse("fields(zstd:1)").for_layout(dtype)
    assert len(codec.streams(raw)) == len(columns(dtype)) + 1
    assert len(codec.streams(raw)[-1]) > 0
    assert codec.decompress(codec.compress(raw), len(raw)) == raw


def test_a_chunk_that_does_not_shrink_is_stored_raw():
    noise = np.random.default_rng(0).bytes(10_000)
    stored = compress_chunk(parse("zstd:1"), noise)
    assert stored == noise
    assert decompress_chunk(parse("zstd:1"), stored, len(noise)) == noise


def test_a_noisy_plane_costs_its_own_size_and_no_more():
    rng = np.random.default_rng(0)
    raw = (rng.standard_normal(100_000) * 0.02).astype("<f4").tobytes()
    codec = parse("byteplane(lz4:1)").for_layout("F32")
    assert len(codec.compress(raw)) <= len(raw) + 4 * 5  # five stream lengths


@pytest.mark.parametrize("text", ["byteplane(zstd:1)", "byteplane(raw)"])
@pytest.mark.parametrize("damage", [lambda s: s[:3], lambda s: s[:-1], lambda s: s + b"x", lambda s: b"\xff" * len(s)])
def test_damaged_planes_are_reported(text, damage):
    codec = parse(text).for_layout("BF16")
    raw = bytes(2000)
    with pytest.raises(ModelFileError, match="damaged"):
        codec.decompress(damage(codec.compress(raw)), len(raw))
