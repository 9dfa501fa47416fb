"""What comes out is what went in: files byte for byte, tensors by every way of reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import simio

from simio.container.codec_choice import CodecChoice
from simio.container.packing import pack
from simio.container.reading import Container
from simio.container.unpacking import unpack
from simio.errors import UnknownNameError, UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.units import KIB

CHUNK = 16 * KIB
CODECS = ("raw", "lz4:1", "zstd:1", "brotli:1", "byteplane(zstd:1)", "fields(zstd:1)")


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("codec", CODECS)
def test_unpacking_gives_the_original_files_back(source, tmp_path, codec):
    pack(source, tmp_path / "m.simio", CodecChoice.everywhere(codec), chunk_bytes=CHUNK)
    with Container.open(tmp_path / "m.simio") as container:
        unpack(container, tmp_path / "out")
    assert _contents(tmp_path / "out") == _contents(_folder(source))


def test_the_unpacked_model_is_the_packed_one(source, tmp_path):
    pack(source, tmp_path / "m.simio", CodecChoice.everywhere("zstd:1"))
    original = open_model(source)
    with Container.open(tmp_path / "m.simio") as container:
        unpack(container, tmp_path / "out")
        assert container.model == replace(original, files=tuple(Path(file).name for file in original.files))
    again = open_model(tmp_path / "out" / source.name if source.is_file() else tmp_path / "out")
    assert (again.tensors, again.architecture, again.digest) == (
        original.tensors,
        original.architecture,
        original.digest,
    )


def test_chunks_of_a_tensor_are_its_bytes(source, tmp_path):
    pack(source, tmp_path / "m.simio", CodecChoice.everywhere("fields(zstd:1)"), chunk_bytes=CHUNK)
    model = open_model(source)
    with Container.open(tmp_path / "m.simio") as container, WeightsReader(model) as weights:
        for tensor in model.tensors:
            streams = [bytearray(stream.n_bytes) for stream in tensor.streams]
            for piece in container.pieces_of(tensor.name):
                at = piece.offset - tensor.streams[piece.stream].offset
                raw = b"".join(container.read_chunk(number) for number in container.chunks_of(piece))
                streams[piece.stream][at : at + piece.n_bytes] = raw
                assert len(raw) == piece.n_bytes
            for stream, found in zip(tensor.streams, streams, strict=True):
                assert found == weights.read(stream, 0, stream.n_bytes)


def test_any_range_of_any_stream_can_be_read(source, tmp_path):
    pack(source, tmp_path / "m.simio", CodecChoice.everywhere("zstd:1"), chunk_bytes=4 * KIB)
    model = open_model(source)
    with Container.open(tmp_path / "m.simio") as container, WeightsReader(model) as weights:
        for stream in (stream for tensor in model.tensors for stream in tensor.streams):
            for start in (0, 1, stream.n_bytes // 3, max(0, stream.n_bytes - 1), stream.n_bytes):
                for n_bytes in (0, 1, 4096, 10_000, stream.n_bytes):
                    assert container.read(stream, start, n_bytes) == weights.read(stream, start, n_bytes)


def test_companion_files_and_headers_can_be_read_alone(source, tmp_path):
    pack(source, tmp_path / "m.simio", CodecChoice.everywhere("zstd:1"), chunk_bytes=CHUNK)
    with Container.open(tmp_path / "m.simio") as container:
        for name, data in _contents(_folder(source)).items():
            assert container.read_file(name) == data
        assert container.read_source(0, 5, 3) == _contents(_folder(source))[container.model.files[0]][5:8]
        with pytest.raises(UnknownNameError, match="packed file 'nope'"):
            container.read_file("nope")
        with pytest.raises(UsageError, match="are not in"):
            container.read_source(0, 0, 10**9)


def test_the_number_of_workers_changes_no_byte(source, tmp_path):
    for n_workers in (1, 7):
        choice = CodecChoice.everywhere("zstd:1")
        pack(source, tmp_path / f"{n_workers}.simio", choice, chunk_bytes=4 * KIB, n_workers=n_workers)
    assert (tmp_path / "1.simio").read_bytes() == (tmp_path / "7.simio").read_bytes()


def test_a_container_tells_nothing_of_where_it_was_packed(packed, moe):
    assert str(moe.parent).encode() not in packed.path.read_bytes()


def test_nothing_but_the_container_is_left(packed, tmp_path):
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.simio", "source"]


def test_a_plan_stores_each_tensor_with_its_codec(moe, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(
        '{"default": "zstd:2", "tensors": {"blk.*": "zstd:1", "blk.0.ffn_up_exps.weight": "fields(zstd:3)"}}'
    )
    result = simio("pack", moe, "-o", tmp_path / "m.simio", "--plan", plan, "--chunk-size", "4KiB", "--json")
    assert result.json["codecs"] == ["fields(zstd:3)", "zstd:1", "zstd:2"]
    with Container.open(tmp_path / "m.simio") as container:
        for tensor, expected in (
            ("token_embd.weight", "zstd:2"),
            ("blk.0.attn_norm.weight", "zstd:1"),
            ("blk.0.ffn_up_exps.weight", "fields(zstd:3)"),
        ):
            numbers = [n for piece in container.pieces_of(tensor) for n in container.chunks_of(piece)]
            used = {container.index.codecs[container.chunk(number).codec][0] for number in numbers}
            assert used <= {expected, "raw"}
            assert expected in used


def test_the_command_line_packs_verifies_and_unpacks(source, tmp_path):
    container, out = tmp_path / "m.simio", tmp_path / "out"
    packed = simio("pack", source, "-o", container, "--codec", "zstd:1", "--chunk-size", "16KiB", "--json").json
    assert packed["file_bytes"] == container.stat().st_size
    assert packed["source_bytes"] == sum(map(len, _contents(_folder(source)).values()))
    assert packed["ratio"] > 1
    assert "as they were packed" in simio("verify", container).out
    assert simio("verify", container, "--json").json["ok"] is True
    assert str(out) in simio("unpack", container, "-o", out).out
    assert _contents(out) == _contents(_folder(source))
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name or "journal" in path.name] == []
