"""Chunks and histograms do not depend on how streams arrive; sums are those of direct computation."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_weights import gaussian

from simio.codecs import parse
from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk
from simio.codecs.entropy import byte_entropy, symbol_entropy
from simio.quant import parse as layout
from simio.study.tally import Chunks, Tally, code_symbols, stream_layout

W = gaussian((256, 512))


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=6))
def test_chunks_are_those_of_the_whole(data, cuts):
    chunks = Chunks("Q8_0", 500)  # 14 blocks of 34 bytes
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = []
    for start, end in pairwise(places):
        found += map(bytes, chunks.add(memoryview(data)[start:end]))
    found += chunks.end()
    assert found == [data[at : at + 476] for at in range(0, len(data), 476)]


def tallied(quantizer, codecs, w=W, chunk_bytes=4096):
    tally = Tally(quantizer, codecs, chunk_bytes)
    streams = quantizer.quantize(w)
    tally.count_codes(streams, w.shape)
    tally.add(streams)
    return tally.end(w.size), streams


def test_sizes_are_those_of_chunks_compressed_one_by_one():
    codec = parse("zstd:1")
    outcome, streams = tallied(layout("int8:channel"), [codec])
    for key, stream in streams.items():
        raw = stream.tobytes()
        chunks = [raw[at : at + 4096] for at in range(0, len(raw), 4096)]
        stored = [len(compress_chunk(codec, chunk)) for chunk in chunks]
        shrunk = [len(c) for c, n in zip(chunks, stored, strict=True) if n < len(c)]
        facts = outcome.facts["zstd:1"][key]
        assert (outcome.raw[key], facts.stored, facts.compressed) == (len(raw), sum(stored), sum(shrunk))
        assert facts.bound == pytest.approx(byte_entropy(raw) * len(raw) / 8)


def test_the_bound_of_a_filter_is_that_of_its_planes():
    filtered = parse("byteplane(zstd:1)")
    outcome, streams = tallied(layout("bf16"), [parse("zstd:1"), filtered], chunk_bytes=1 << 20)
    raw = streams["data"].tobytes()
    planes = filtered.for_layout("BF16").streams(raw)
    apart = sum(byte_entropy(bytes(plane)) * len(plane) for plane in planes) / 8
    assert outcome.facts[filtered.name]["data"].bound == pytest.approx(apart)
    assert outcome.facts["zstd:1"]["data"].bound == pytest.approx(byte_entropy(raw) * len(raw) / 8)
    assert apart < 0.95 * byte_entropy(raw) * len(raw) / 8


@dataclass(frozen=True)
class HighAndLow(Codec):
    """Sees the high and the low half of each byte apart, without being a filter."""

    @property
    def name(self):
        return "highlow"

    @property
    def library_version(self):
        return "1"

    def compress(self, raw):
        return bytes(raw)

    def decompress(self, stored, raw_bytes):
        return bytes(stored)

    def streams(self, raw):
        data = np.frombuffer(raw, np.uint8)
        return (data >> 4).tobytes(), (data & 15).tobytes()


def test_a_codec_that_splits_by_itself_has_a_bound_of_its_own():
    outcome, _ = tallied(layout("int8:tensor"), [HighAndLow(), parse("raw")])
    assert outcome.facts["highlow"]["codes"].bound != outcome.facts["raw"]["codes"].bound


@pytest.mark.parametrize(
    "name", ["int8:tensor", "int8:channel", "int4:group32", "int3:group128", "int2:group64:affine"]
)
def test_the_entropy_is_that_of_the_codes(name):
    quantizer = layout(name)
    outcome, streams = tallied(quantizer, [parse("raw")])
    codes = quantizer.symbols(streams, W.shape)["codes"]
    assert outcome.entropy_bits == pytest.approx(symbol_entropy(codes), abs=1e-9)


def test_floats_are_their_own_codes():
    outcome, streams = tallied(layout("bf16"), [parse("raw")])
    assert outcome.entropy_bits == pytest.approx(symbol_entropy(streams["data"].view(np.uint16)), abs=1e-9)
    halves = layout("f32").quantize(W)["data"].view(np.uint16)
    outcome, _ = tallied(layout("f32"), [parse("raw")])
    assert outcome.entropy_bits == pytest.approx(symbol_entropy(halves[::2]) + symbol_entropy(halves[1::2]), abs=1e-9)


def test_the_codes_of_blocks_are_their_fields_without_scales():
    names = [name for name, _ in code_symbols(layout("q4_k"), layout("q4_k").quantize(W), W.shape)]
    assert [name.split()[0] for name in names] in (["codes"], ["qs"])
    outcome, streams = tallied(layout("q8_0"), [parse("raw")])
    codes = streams["data"].view(np.uint8).reshape(-1, 34)[:, 2:]
    assert outcome.entropy_bits == pytest.approx(symbol_entropy(codes), abs=1e-9)


@pytest.mark.parametrize(
    ("quant", "dtype", "key", "said"),
    [("q4_k", np.uint8, "data", "Q4_K"), ("bf16", np.uint8, "data", "BF16"), ("int8:tensor", np.uint8, "codes", "U8"),
     ("int8:tensor", np.float32, "scales", "F32"), ("int4:group32", np.float16, "scales", "F16"),
     ("int8:tensor", np.uint16, "codes", "U16")],
)  # fmt: skip
def test_codecs_are_told_what_a_stream_holds(quant, dtype, key, said):
    assert stream_layout(layout(quant), key, np.zeros(4, dtype)) == said
