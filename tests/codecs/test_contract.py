"""Every registered codec and filter fulfils the contract of ``simio.codecs.base``."""

import subprocess
import sys

import pytest

from simio import codecs, registry
from simio.codecs import parse
from simio.codecs.fields import LAYOUTS, block_bytes, columns
from simio.errors import UnknownNameError, UsageError
from simio.records.weight_types import WEIGHT_TYPES, weight_type
from simio.testing import check_codec

SAMPLES = {
    "raw": ["raw"],
    "lz4": ["lz4", "lz4:9"],
    "zstd": ["zstd", "zstd:1", "zstd:-5"],
    "brotli": ["brotli:1"],
    "huffman": ["huffman", "huffman:4096"],
    "rans": ["rans", "rans:768", "rans:4096"],
    "byteplane": ["byteplane(zstd:1)", "byteplane(fields(lz4:1))", "byteplane(byteplane(zstd:1))"],
    "fields": ["fields(zstd:1)", "fields(raw)", "fields(rans)"],
}


def test_every_registered_codec_is_in_this_suite():
    assert sorted(SAMPLES) == codecs.names() == registry.names("codecs")


@pytest.mark.parametrize("text", [text for texts in SAMPLES.values() for text in texts])
def test_codec_fulfils_the_contract(text):
    check_codec(parse(text))


@pytest.mark.parametrize("dtype", sorted(LAYOUTS))
def test_field_layout_covers_each_byte_of_a_quant_block_once(dtype):
    block = list(range(block_bytes(dtype)))
    assert dtype not in WEIGHT_TYPES or len(block) == weight_type(dtype).block_bytes
    assert sorted(byte for column in columns(dtype) for byte in block[column]) == block


@pytest.mark.parametrize(("text", "name"), [("zstd", "zstd:3"), ("lz4", "lz4:1"), (" brotli ", "brotli:5")])
def test_a_codec_without_level_takes_its_default(text, name):
    assert parse(text).name == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zstd:99", "no level 99"),
        ("zstd:0", "no level 0"),
        ("zstd:fast", "not a whole number"),
        ("zstd:1.5", "not a whole number"),
        ("zstd:", "not a whole number"),
        ("lz4:0", "no level 0"),
        ("lz4:13", "no level 13"),
        ("brotli:12", "no level 12"),
        ("raw:1", "has no level"),
        ("huffman:8", "huffman cannot have a table per 8 bytes"),
        ("rans:255", "a table per 255 bytes"),
        ("rans:1001", "a table per 1001 bytes"),
        ("rans:-1", "a table per -1 bytes"),
        ("rans:row", "not a whole number"),
        ("byteplane", "needs a codec"),
        ("byteplane:1", "needs a codec"),
        ("byteplane()", "malformed"),
        ("zstd(lz4)", "not a filter"),
        ("byteplane(zstd:1", "malformed"),
        ("byteplane+zstd:1", "malformed"),
        ("", "malformed"),
        ("byteplane(" * 3000 + "zstd" + ")" * 3000, "more than 8 filters"),
    ],
)
def test_a_malformed_codec_is_refused_with_what_and_how(text, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(("text", "close"), [("zst:1", "zstd"), ("byteplan(zstd:1)", "byteplane"), ("Lz4", "lz4")])
def test_an_unknown_codec_names_the_close_ones(text, close):
    with pytest.raises(UnknownNameError) as caught:
        parse(text)
    assert close in caught.value.hint


def test_importing_codecs_loads_no_compression_library():
    libraries = ("zstandard", "lz4", "brotli", "numba", "numpy")
    code = f"import sys, simio.codecs; print([m for m in {libraries} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )
