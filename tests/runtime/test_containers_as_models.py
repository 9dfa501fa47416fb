"""A container stands wherever a model file does: inspect and predict it; what makes no sense with one says so."""

from __future__ import annotations

import shutil

import pytest
from command_line import simio
from packed import MODELS, container, model_file

from simio.container.model_format import Packed
from simio.container.profile import sizes_of_container
from simio.container.reading import Container
from simio.predict.resolve import load_model

USAGE, MODEL_FILE, CONTAINER = 2, 4, 10
ON = ("predict", "--device", "pixel8", "--tokens", "4", "--draws", "0")


@pytest.fixture(autouse=True)
def measured_once(monkeypatch, tmp_path_factory):
    """Decompression rates are remembered between these tests, as they are between commands."""
    folder = tmp_path_factory.getbasetemp() / "rates"
    monkeypatch.setenv("SIMIO_CACHE", str(folder))


@pytest.mark.parametrize("name", MODELS)
def test_inspect_shows_of_a_container_what_it_shows_of_the_model(name):
    packed, plain = simio("inspect", container(name), "--json").json, simio("inspect", model_file(name), "--json").json
    for key in ("n_weights", "by_role", "by_dtype", "by_layer", "bits_per_weight"):
        assert packed[key] == plain[key]
    assert (packed["format"], packed["files"]) == ("simio", [str(container(name))])
    assert any("packed from" in note for note in packed["notes"])


def test_predict_takes_codec_and_chunks_from_the_container():
    shown = simio(*ON, "--model", container("tied bf16", "byteplane(zstd:1)"), "--json")
    scenario = shown.json["resolved"]
    assert scenario["codec"] == "byteplane(zstd:1)"
    assert scenario["chunk_bytes"] == 16384
    assert scenario["runtime"] == "stream"


def test_predict_of_a_container_of_mixed_codecs_names_the_one_of_most_bytes():
    with Container.open(container("tied bf16", "plan")) as opened:
        sizes = sizes_of_container(opened)
        stored = sum(opened.chunk(n).stored_bytes for t in opened.model.tensors for p in opened.pieces_of(t.name)
                     for n in opened.chunks_of(p))  # fmt: skip
    assert sizes.codec in ("zstd:1", "lz4:1", "byteplane(zstd:1)")
    assert sizes.stored_bytes == stored
    shown = simio(*ON, "--model", container("tied bf16", "plan"), "--json")
    assert shown.json["resolved"]["codec"] == sizes.codec


@pytest.mark.parametrize("name", ["f16", "q4_k"])
def test_a_container_whose_weights_do_not_shrink_can_be_predicted(name):
    """The header does shrink, and maybe a norm; nothing that is read would be decompressed."""
    shown = simio(*ON, "--model", container(name, "zstd:1"), "--pin", "0%", "--json")
    assert shown.code == 0
    assert shown.json["bytes_per_token"] > 0


def test_a_container_can_be_predicted_as_if_it_were_raw():
    packed, as_raw = (
        simio(*ON, "--model", container("tied bf16", "byteplane(zstd:1)"), "--pin", "0%", "--json", *words).json
        for words in ((), ("--codec", "raw"))
    )
    assert as_raw["resolved"]["codec"] == "raw"
    assert as_raw["bytes_per_token"] > packed["bytes_per_token"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--codec", "lz4:1"), "was packed with codec byteplane(zstd:1), not lz4:1"),
        (("--chunk-size", "1MiB"), "was packed with chunks 16384, not 1048576"),
        (("--runtime", "mmap"), "cannot decompress byteplane(zstd:1)"),
        (("--read-ahead", "128KiB"), "--read-ahead means nothing to the runtime stream"),
    ],
)
def test_what_the_container_decides_otherwise_is_refused(words, says):
    shown = simio(*ON, "--model", container("tied bf16", "byteplane(zstd:1)"), *words)
    assert (shown.code, shown.out) == (USAGE, "")
    assert says in shown.err


def test_what_is_packed_is_neither_profiled_nor_packed_again(tmp_path):
    out = tmp_path / "out"
    for words in (("profile", container("f16"), "--codec", "zstd:1", "-o", out), ("pack", container("f16"), "-o", out)):
        shown = simio(*words)
        assert (shown.code, shown.out) == (USAGE, "")
        assert "packed already" in shown.err
    assert not out.exists()


def test_the_content_says_what_a_file_is_and_its_name_what_a_damaged_one_was(tmp_path):
    other, gguf, empty, damaged = (tmp_path / name for name in ("a.bin", "b.simio", "c.simio", "d.simio"))
    shutil.copy(container("f16"), other)
    shutil.copy(model_file("f16"), gguf)
    damaged.write_bytes(b"\0" + container("f16").read_bytes()[1:])
    empty.touch()
    assert load_model(str(other)).format == "simio"
    assert load_model(str(gguf)).format == "gguf"
    assert Packed.sniff(damaged)
    for path, code in ((empty, MODEL_FILE), (damaged, CONTAINER), (tmp_path / "none.simio", MODEL_FILE)):
        for command in (("inspect", path), (*ON, "--model", path)):
            shown = simio(*command)
            assert (shown.code, shown.out) == (code, "")
            assert str(path) in shown.err
            assert "→" in shown.err
