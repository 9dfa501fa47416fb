"""rANS and Huffman against what theory says they store."""

import contextlib
import heapq
import sys

import numpy as np
import pytest

from simio.codecs import parse
from simio.codecs.entropy import byte_counts, byte_entropy, streams_entropy
from simio.errors import MissingPackageError, ModelFileError
from simio.quant.packing import pack, unpack

N = 1 << 18
#: What a table may add to a chunk: 256 frequencies of 16 bits, states, lengths.
TABLE_BYTES = 2 * 256 + 8 * 8 + 32


def rounded(values: np.ndarray) -> bytes:
    return np.clip(np.rint(values), -127, 127).astype(np.int8).tobytes()


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ternary(n: int = N) -> bytes:
    """Codes of BitNet's rule on Gaussian weights, one a byte: ``clip(round(w / mean|w|), -1, 1)``."""
    w = rng().standard_normal(n)
    return np.clip(np.rint(w / np.abs(w).mean()), -1, 1).astype(np.int8).tobytes()


DISTRIBUTIONS = {
    "int8 per channel": rounded(rng().standard_normal(N) * 33),
    "int8 with outliers": rounded(rng().standard_t(2, N) * 2),
    "int4, two a byte": pack(np.clip(np.rint(rng().standard_normal(N) * 2), -7, 7).astype(np.uint8) & 15, 4).tobytes(),
    "ternary": ternary(),
    "one byte in fifty": (rng().random(N) < 0.02).tobytes(),
    "one rare byte of 100": bytes(np.where(rng().random(N) < 0.001, rng().integers(0, 100, N), 7).astype(np.uint8)),
    "all bytes alike": rng().bytes(N),
    "a single byte": bytes(N),
}


def mean_code_bits(counts: np.ndarray) -> float:
    """Mean length of Huffman's code words: every merge adds a bit to all that lies below it. [bits per symbol]"""
    heap = [int(n) for n in counts if n]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total / int(counts.sum())


@pytest.mark.parametrize("raw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_rans_stores_the_entropy_and_a_table(raw):
    bound = byte_entropy(raw) * len(raw) / 8
    assert bound <= len(parse("rans").compress(raw)) <= 1.01 * bound + TABLE_BYTES


@pytest.mark.parametrize("raw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_rans_is_as_small_as_the_ans_of_constriction(raw):
    """Bamler 2022, arXiv 2201.01741: 24-bit frequencies, 32-bit words."""
    constriction = pytest.importorskip("constriction")
    counts = byte_counts(raw)
    used = np.flatnonzero(counts)
    if len(used) < 2:
        pytest.skip("constriction wants two symbols")
    index = np.zeros(256, np.int32)
    index[used] = np.arange(len(used))
    model = constriction.stream.model.Categorical(counts[used] / counts.sum(), perfect=False)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(index[np.frombuffer(raw, np.uint8)], model)
    theirs = coder.num_bits() / 8
    assert len(parse("rans").compress(raw)) == pytest.approx(theirs, rel=0.005, abs=TABLE_BYTES)


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_huffman_stores_the_mean_length_of_its_code_words(name):
    raw = DISTRIBUTIONS[name]
    code_words = mean_code_bits(byte_counts(raw)) * len(raw) / 8
    assert len(parse("huffman").compress(raw)) == pytest.approx(code_words, rel=1e-4, abs=TABLE_BYTES)


def test_rans_beats_huffman_on_ternary_codes_by_what_whole_bits_cost():
    raw = ternary()
    in_theory = mean_code_bits(byte_counts(raw)) / byte_entropy(raw)
    measured = len(parse("huffman").compress(raw)) / len(parse("rans").compress(raw))
    assert in_theory > 1.02
    assert measured == pytest.approx(in_theory, abs=0.005)


def test_where_one_byte_is_nearly_all_huffman_still_spends_a_bit():
    raw = DISTRIBUTIONS["one byte in fifty"]
    assert len(parse("huffman").compress(raw)) > len(raw) / 8
    assert len(parse("rans").compress(raw)) < 0.15 * len(raw) / 8


def test_a_table_per_row_pays_where_rows_differ_and_costs_itself_where_they_do_not():
    rows = rng().standard_normal((64, 4096))
    differing = rounded(rows * np.exp2(np.linspace(0, 5, 64))[:, None])
    alike = rounded(rows * 8)
    one, per_row = parse("rans"), parse("rans:4096")
    assert len(per_row.compress(differing)) < 0.95 * len(one.compress(differing))
    assert len(one.compress(alike)) < len(per_row.compress(alike)) < 1.03 * len(one.compress(alike))
    of_rows = streams_entropy([differing[i : i + 4096] for i in range(0, len(differing), 4096)])
    assert of_rows <= 8 * len(per_row.compress(differing)) / len(differing) < 1.03 * of_rows


@pytest.mark.parametrize("n_bytes", [1, 7, 8, 9, 255, 256, 257, 767, 768, 769, 1535, 1537, 65535, 65536, 65537])
@pytest.mark.parametrize("text", ["rans", "rans:256", "rans:768", "huffman", "huffman:256"])
def test_every_length_comes_back(text, n_bytes):
    codec = parse(text)
    for raw in (rounded(rng().standard_normal(n_bytes) * 3), b"\xff" * n_bytes, rng().bytes(n_bytes)):
        assert codec.decompress(codec.compress(raw), n_bytes) == raw


def damages(stored: bytes, n: int) -> list[bytes]:
    """Flipped bits, cuts, additions and noise."""
    r, found = rng(), []
    for i in range(n):
        at, damaged = int(r.integers(len(stored))), bytearray(stored)
        if i % 4 == 0:
            damaged[at] ^= 1 << int(r.integers(8))
        elif i % 4 == 1:
            del damaged[at:]
        elif i % 4 == 2:
            damaged += r.bytes(int(r.integers(1, 20)))
        else:
            damaged[at : at + 50] = r.bytes(len(damaged[at : at + 50]))
        found.append(bytes(damaged))
    return found


@pytest.mark.parametrize("text", ["rans", "rans:768", "huffman"])
def test_damage_raises_the_one_error_or_gives_as_many_bytes_as_asked_for(text):
    codec, raw = parse(text), rounded(rng().standard_normal(5003) * 4)
    inputs = damages(codec.compress(raw), 2000) + [rng().bytes(n) for n in range(600)]
    found = 0
    for stored in inputs:
        try:
            assert len(codec.decompress(stored, len(raw))) == len(raw)
        except ModelFileError:
            found += 1
    assert found > 0.8 * len(inputs)


def test_the_states_of_rans_find_damage_without_a_checksum():
    codec, raw = parse("rans"), rounded(rng().standard_normal(5003) * 4)
    stored, missed = bytearray(codec.compress(raw)), 0
    for at in range(0, len(stored) - len(raw) % 8):
        stored[at] ^= 0x10
        with contextlib.suppress(ModelFileError):
            missed += codec.decompress(bytes(stored), len(raw)) != raw
        stored[at] ^= 0x10
    assert missed < 0.005 * len(stored)


def test_rans_without_numba_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "simio.codecs.rans", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingPackageError) as caught:
        parse("rans")
    assert "numba" in str(caught.value)
    assert caught.value.hint == "pip install numba"


def test_packed_3_bit_codes_are_no_letters_but_three_streams_of_them_nearly_are():
    codes = np.clip(np.rint(rng().standard_normal(N)), -3, 3).astype(np.int8).view(np.uint8) + np.uint8(4) & np.uint8(7)
    packed = pack(codes, 3).tobytes()
    of_codes = byte_entropy(codes.tobytes())
    split = parse("fields(rans)").for_layout("INT3")
    bits = {"packed": 3 / 8 * byte_entropy(packed), "split": 3 / 8 * streams_entropy(split.streams(packed))}
    assert bits["packed"] > 1.15 * of_codes
    assert bits["split"] < 1.06 * of_codes
    stored = split.compress(packed)
    assert len(stored) == pytest.approx(bits["split"] * N / 8, abs=3 * TABLE_BYTES)
    assert np.array_equal(unpack(np.frombuffer(split.decompress(stored, len(packed)), np.uint8), 3, N), codes)
