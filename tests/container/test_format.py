"""The format is what docs/container.md says: an independent reader needs nothing else."""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simio.container.chunk_table import COLUMNS, ENTRY_BYTES
from simio.container.codec_choice import CodecChoice
from simio.container.header import HEADER_BYTES, Header
from simio.container.layout import gaps
from simio.container.packing import pack
from simio.container.reading import Container
from simio.formats.opening import open_model

PAGE = Path(__file__).parents[2] / "docs" / "container.md"


def _rows(heading: str) -> list[tuple[int, int, str]]:
    """(byte, length, name) of the table below a heading of the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return [
        (int(a), int(b), name) for a, b, name in re.findall(r"^\| (\d+) \| (\d+) \| `(\w+)`", section, re.MULTILINE)
    ]


def _read(data: bytes, rows: list[tuple[int, int, str]], base: int = 0) -> dict[str, int]:
    return {name: int.from_bytes(data[base + at : base + at + n], "little") for at, n, name in rows}


def _restored(data: bytes) -> dict[str, bytes]:
    """The packed files, read with nothing but the page (zstd and raw only)."""
    header, entry_rows = _read(data, _rows("Header")), _rows("Chunk table")
    table, at = header["index_offset"], header["index_offset"] + header["n_chunks"] * header["entry_bytes"]
    facts = json.loads(data[at : at + header["facts_bytes"]])
    raws = []
    for number in range(header["n_chunks"]):
        entry = _read(data, entry_rows, table + number * header["entry_bytes"])
        stored = data[entry["offset"] : entry["offset"] + entry["stored_bytes"]]
        padded = -(-len(stored) // header["alignment"]) * header["alignment"]
        assert xxhash.xxh3_64_intdigest(data[entry["offset"] : entry["offset"] + padded]) == entry["stored_xxh3"]
        codec = facts["codecs"][entry["codec"]][0]
        raws.append(stored if codec == "raw" else zstandard.decompress(stored))
        assert xxhash.xxh3_64_intdigest(raws[-1]) == entry["raw_xxh3"]
    files = [bytearray(n_bytes) for n_bytes in facts["files"]["n_bytes"]]
    pieces = facts["pieces"]
    ends = [*pieces["first_chunk"][1:], header["n_chunks"]]
    for file, offset, start, end in zip(pieces["file"], pieces["offset"], pieces["first_chunk"], ends, strict=True):
        raw = b"".join(raws[start:end])
        files[file][offset : offset + len(raw)] = raw
    return {name: bytes(content) for name, content in zip(facts["files"]["name"], files, strict=True)}


def test_an_independent_reader_restores_the_files_from_the_page_alone(source, tmp_path):
    packed = pack(source, tmp_path / "m.simio", CodecChoice.everywhere("zstd:1"), chunk_bytes=8192)
    folder = source if source.is_dir() else source.parent
    assert _restored(packed.path.read_bytes()) == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_page_has_every_field_of_the_header():
    fields = {name: 1000 + i for i, name in enumerate(Header.__dataclass_fields__)}
    found = _read(Header(**fields).to_bytes(), _rows("Header"))
    assert {name: found[name] for name in fields} == fields
    assert (found["header_bytes"], found["alignment"], found["entry_bytes"]) == (4096, 4096, ENTRY_BYTES)
    ends = [0, *(at + n for at, n, _ in _rows("Header"))]
    assert [at for at, _, _ in _rows("Header")] == ends[:-1], "the rows leave no byte out"
    assert ends[-1] == HEADER_BYTES


def test_the_page_has_every_field_of_a_chunk():
    rows = [(COLUMNS.fields[name][1], COLUMNS.fields[name][0].itemsize, name) for name in COLUMNS.names]
    assert _rows("Chunk table") == rows
    assert sum(n for _, n, _ in rows) == ENTRY_BYTES


def test_every_byte_of_the_file_is_in_one_checksummed_region(packed):
    with Container.open(packed.path) as container:
        spans = [container.stored_span(number) for number in range(container.n_chunks)]
        header = container.header
    regions = [(0, HEADER_BYTES), *spans, (header.index_offset, header.index_bytes)]
    assert list(gaps([(start, start + n) for start, n in regions], packed.path.stat().st_size)) == []


def test_an_expert_can_be_read_alone(source, tmp_path):
    pack(source, tmp_path / "m.simio", CodecChoice.everywhere("zstd:1"), chunk_bytes=4096)
    stacked = [tensor for tensor in open_model(source).tensors if tensor.n_stacked > 1]
    with Container.open(tmp_path / "m.simio") as container:
        for tensor in stacked:
            pieces = container.pieces_of(tensor.name)
            assert [piece.expert for piece in pieces if piece.stream == 0] == list(range(tensor.n_stacked))
            assert sum(piece.n_bytes for piece in pieces if piece.expert == 1) == tensor.n_bytes // tensor.n_stacked
            chunks = [n for piece in pieces for n in container.chunks_of(piece)]
            assert chunks == list(range(chunks[0], chunks[0] + len(chunks))), "experts follow each other"
            assert [piece.expert for piece in pieces] == sorted(piece.expert for piece in pieces)
    assert bool(stacked) == any(
        "expert" in tensor.name or "exps" in tensor.name for tensor in open_model(source).tensors
    )


def test_the_index_is_read_without_the_payload(packed):
    with Container.open(packed.path) as container:
        first, end = HEADER_BYTES, container.header.index_offset
    with packed.path.open("r+b") as file:
        file.seek(first)
        file.write(bytes(end - first))
    with Container.open(packed.path) as container:
        assert container.model == packed.index.model
        assert container.n_chunks == packed.n_chunks


def test_a_chunk_can_be_read_past_the_page_cache(packed):
    try:
        descriptor = os.open(packed.path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    with Container.open(packed.path) as container, mmap.mmap(-1, 1 << 20) as buffer:
        for number in range(container.n_chunks):
            offset, n_bytes = container.stored_span(number)
            with memoryview(buffer)[:n_bytes] as region:
                assert os.preadv(descriptor, [region], offset) == n_bytes
                assert container.unpack_chunk(number, region) == container.read_chunk(number)
    os.close(descriptor)


SIZES = st.lists(st.integers(0, 40_000), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, chunk_bytes=st.integers(4096, 30_000), codec=st.sampled_from(["raw", "zstd:1", "byteplane(lz4:1)"]))
def test_chunks_are_aligned_and_never_cross_tensors(tmp_path, sizes, chunk_bytes, codec):
    header, body = {}, b""
    for i, n_bytes in enumerate(sizes):
        data = np.random.default_rng(i).integers(0, 50, n_bytes, np.uint8).tobytes()
        header[f"t{i}"] = {"dtype": "U8", "shape": [n_bytes], "data_offsets": [len(body), len(body) + n_bytes]}
        body += data
    text = json.dumps(header).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    packed = pack(path, tmp_path / "m.simio", CodecChoice.everywhere(codec), chunk_bytes=chunk_bytes)
    with Container.open(packed.path) as container:
        at = HEADER_BYTES
        for number in range(container.n_chunks):
            offset, n_bytes = container.stored_span(number)
            assert (offset, offset % 4096, n_bytes % 4096) == (at, 0, 0)
            at += n_bytes
            piece, start = container.place(number)
            raw_bytes = container.chunk(number).raw_bytes
            assert raw_bytes <= chunk_bytes
            assert piece.offset <= start < start + raw_bytes <= piece.offset + piece.n_bytes
        for tensor in container.model.tensors:
            (stream,) = tensor.streams
            inside = [(piece.offset, piece.n_bytes) for piece in container.pieces_of(tensor.name)]
            assert inside == ([(stream.offset, stream.n_bytes)] if stream.n_bytes else [])
        assert container.read_file("m.safetensors") == path.read_bytes()


def test_gaps_refuse_overlaps():
    assert list(gaps([], 3)) == [(0, 3)]
    for spans in ([(0, 2), (1, 3)], [(2, 5)]):
        with pytest.raises(ValueError, match="overlap"):
            list(gaps(spans, 4))
