"""Damaged, missing and foreign files: one error that names the file and says what to do."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simio.errors import ModelFileError, UsageError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader

Build = Callable[..., bytes]
F32 = 0
Q4_K = 12


def _safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(dtype: Any = "F32", shape: Any = (2, 2), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


ONE = {"w": _entry()}
DATA = bytes(16)

BAD_SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "a few bytes": (b"\x08\x00", "too few"),
    "header length beyond the file": (_safetensors(ONE, DATA, length=10**6), "truncated"),
    "header length of exabytes": (_safetensors(ONE, DATA, length=2**63), "truncated"),
    "header length zero": (_safetensors(ONE, DATA, length=0), "outside"),
    "header cut": (_safetensors(ONE)[:-5], "truncated"),
    "header not JSON": (_safetensors(b"{this is not JSON}", DATA), "not JSON"),
    "header not UTF-8": (_safetensors(b'{"\xff\xfe": 1}', DATA), "not JSON"),
    "header a list": (_safetensors([1, 2], DATA), "not a JSON object"),
    "header nested too deeply": (_safetensors(b'{"a":' + b"[" * 100_000, DATA), "not JSON"),
    "no tensors": (_safetensors({}), "no tensors"),
    "metadata only": (_safetensors({"__metadata__": {"format": "pt"}}), "no tensors"),
    "data cut": (_safetensors(ONE, DATA[:-1]), "truncated"),
    "data too long": (_safetensors(ONE, DATA + b"x"), "belong to no tensor"),
    "overlap": (_safetensors({"a": _entry(), "b": _entry(offsets=[8, 24])}, bytes(24)), "overlaps"),
    "same bytes twice": (_safetensors({"a": _entry(), "b": _entry()}, DATA), "overlaps"),
    "hole between tensors": (_safetensors({"a": _entry(), "b": _entry(offsets=[20, 36])}, bytes(36)), "belong to no"),
    "hole before the first": (_safetensors({"a": _entry(offsets=[4, 20])}, bytes(20)), "belong to no"),
    "offset outside": (_safetensors({"a": _entry(offsets=[0, 16]), "b": _entry(offsets=[10**9, 10**9 + 16])}, DATA),
                       "truncated"),
    "offsets reversed": (_safetensors({"a": _entry(offsets=[16, 0])}, DATA), "data_offsets"),
    "offset negative": (_safetensors({"a": _entry(offsets=[-16, 0])}, DATA), "data_offsets"),
    "offset a float": (_safetensors({"a": _entry(offsets=[0.0, 16.0])}, DATA), "data_offsets"),
    "three offsets": (_safetensors({"a": _entry(offsets=[0, 8, 16])}, DATA), "data_offsets"),
    "no offsets": (_safetensors({"a": {"dtype": "F32", "shape": [4]}}, DATA), "data_offsets"),
    "shape larger than its bytes": (_safetensors({"a": _entry(shape=[2, 3])}, DATA), "needs 24 bytes but has 16"),
    "shape smaller than its bytes": (_safetensors({"a": _entry(shape=[2])}, DATA), "needs 8 bytes but has 16"),
    "shape negative": (_safetensors({"a": _entry(shape=[-2, -2])}, DATA), "shape"),
    "shape a string": (_safetensors({"a": _entry(shape="2x2")}, DATA), "shape"),
    "shape of NaN": (_safetensors({"a": _entry(shape=[float("nan")])}, DATA), "shape"),
    "shape of a thousand axes": (_safetensors({"a": _entry(shape=[1] * 1000)}, DATA), "shape"),
    "shape past 64 bits": (_safetensors({"a": _entry(shape=[2**70])}, DATA), "shape"),
    "unknown dtype": (_safetensors({"a": _entry(dtype="F31")}, DATA), "unknown type"),
    "dtype a list": (_safetensors({"a": _entry(dtype=[])}, DATA), "unknown type"),
    "entry a number": (_safetensors({"a": 7}, DATA), "described by int"),
    "name twice": (_safetensors(
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        DATA), "'w' twice"),
    "key twice in an entry": (_safetensors(
        b'{"w":{"dtype":"F32","dtype":"F16","shape":[2,2],"data_offsets":[0,16]}}', DATA), "'dtype' twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SAFETENSORS)
def test_a_damaged_safetensors_file_is_refused(case: str, tmp_path: Path) -> None:
    data, said = BAD_SAFETENSORS[case]
    _refused(tmp_path / "bad.safetensors", data, said)


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def _value(key: bytes, kind: int, raw: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + raw


GOOD = [("blk.0.ffn_up.weight", [64, 2], F32, 0)]

BAD_GGUF: dict[str, tuple[dict[str, Any], str]] = {
    "wrong magic": ({"magic": b"GGML"}, "begins with"),
    "magic of zeros": ({"magic": bytes(4)}, "begins with"),
    "version 1": ({"version": 1}, "version 1"),
    "version 99": ({"version": 99}, "version 99"),
    "version zero": ({"version": 0}, "version 0"),
    "tensor count of billions": ({"n_tensors": 2**60}, "claims"),
    "metadata count of billions": ({"n_values": 2**60}, "claims"),
    "more tensors than there are": ({"n_tensors": 9}, ""),
    "more metadata than there are": ({"n_values": 3}, ""),
    "no tensors": ({"tensors": []}, "no tensors"),
    "unknown type": ({"tensors": [("w", [64], 77, 0)]}, "unknown ggml type 77"),
    "retired type": ({"tensors": [("w", [64], 4, 0)]}, "unknown ggml type 4"),
    "tensor outside": ({"tensors": [("w", [64], F32, 1 << 40)]}, "truncated"),
    "tensor longer than the file": ({"tensors": [("w", [1 << 40], F32, 0)]}, "truncated"),
    "dimensions that overflow": ({"tensors": [("w", [1 << 62, 1 << 62], F32, 0)]}, "truncated"),
    "overlap": ({"tensors": [("a", [64], F32, 0), ("b", [64], F32, 128)]}, "overlaps"),
    "offset unaligned": ({"tensors": [("a", [64], F32, 4)]}, "multiple of 32"),
    "name twice": ({"tensors": [("a", [8], F32, 0), ("a", [8], F32, 32)]}, "'a' twice"),
    "nine dimensions": ({"tensors": [("a", [1] * 9, F32, 0)]}, "dimensions"),
    "half a quant block": ({"tensors": [("a", [100], Q4_K, 0)]}, "no whole Q4_K blocks"),
    "data cut": ({"data_bytes": 100}, "truncated"),
    "metadata name twice": ({"metadata": [_value(b"k", 4, bytes(4))] * 2}, "'k' twice"),
    "metadata type unknown": ({"metadata": [_value(b"k", 99, bytes(4))]}, "unknown type 99"),
    "metadata string beyond the file": ({"metadata": [_value(b"k", 8, struct.pack("<Q", 2**40))]}, "truncated"),
    "metadata array beyond the file": ({"metadata": [_value(b"k", 9, struct.pack("<IQ", 4, 2**40))]}, "truncated"),
    "metadata string array beyond": ({"metadata": [_value(b"k", 9, struct.pack("<IQ", 8, 500))]}, "truncated"),
    "long string array with a wild length": (
        {"metadata": [_value(b"k", 9, struct.pack("<IQ", 8, 5000) + struct.pack("<Q", 2**63) * 5000)]}, "truncated"),
    "array in array in array": (
        {"metadata": [_value(b"k", 9, struct.pack("<IQ", 9, 1) * 30 + struct.pack("<IQ", 4, 0))]}, "unknown type 9"),
    "metadata name not UTF-8": ({"metadata": [_value(b"\xff\xfe", 4, bytes(4))]}, "UTF-8"),
    "alignment zero": ({"metadata": [_value(b"general.alignment", 4, bytes(4))]}, "power of two"),
    "alignment 48": ({"metadata": [_value(b"general.alignment", 4, struct.pack("<I", 48))]}, "power of two"),
    "a million layers": ({"metadata": [_value(b"llama.block_count", 4, struct.pack("<I", 10**6))]}, "layers"),
    "negative layers": ({"metadata": [_value(b"llama.block_count", 5, struct.pack("<i", -1))]}, "not a count"),
    "NaN heads": (
        {"metadata": [_value(b"llama.attention.head_count", 6, struct.pack("<f", float("nan")))]}, "not a count"),
    "heads for too few layers": (
        {"metadata": [
            _value(b"llama.block_count", 4, struct.pack("<I", 3)),
            _value(b"llama.attention.head_count_kv", 9, struct.pack("<IQI", 4, 1, 8)),
        ]}, "lists 1 of 3 layers"),
    "a part whose name says nothing": ({"metadata": [_value(b"split.count", 2, struct.pack("<H", 4))]}, "part"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_GGUF)
def test_a_damaged_gguf_file_is_refused(case: str, tmp_path: Path, gguf_bytes: Build) -> None:
    wrong, said = BAD_GGUF[case]
    _refused(tmp_path / "bad.gguf", gguf_bytes(**{"tensors": GOOD, **wrong}), said)


@pytest.mark.parametrize("n_bytes", [1, 4, 12, 23, 24, 40, 90])
def test_a_gguf_header_cut_anywhere_is_refused(n_bytes: int, tmp_path: Path, gguf_bytes: Build) -> None:
    _refused(tmp_path / "cut.gguf", gguf_bytes(GOOD)[:n_bytes], "")


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model"])
def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    _refused(tmp_path / name, b"", "empty")


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"a text that somebody gave this name\n", "is it a"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404 not found</body></html>", "web page"),
    ],
)
def test_a_text_by_the_name_of_a_model_is_no_damaged_model(
    suffix: str, content: bytes, hint: str, tmp_path: Path
) -> None:
    error = _refused(tmp_path / f"model{suffix}", content, "begins with")
    assert hint in error.hint


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_a_pickle_is_refused_with_the_way_out(suffix: str, tmp_path: Path) -> None:
    error = _refused(tmp_path / f"pytorch_model{suffix}", b"PK\x03\x04 something", suffix)
    assert "safetensors" in error.hint


@pytest.mark.parametrize("name", ["model.onnx", "notes.txt", "tokenizer.json", "config.json", "weights"])
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    _refused(tmp_path / name, b"certainly not a model, but long enough to be one", "")


def test_a_missing_path_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "llama-3.2-3b.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelFileError, match="no such file") as caught:
        open_model(tmp_path / "llama-3.2-3B.guff")
    assert "llama-3.2-3b.gguf" in caught.value.hint


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file") as caught:
        open_model(tmp_path / "nowhere" / "model.gguf")
    assert "nowhere" in caught.value.hint


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("nothing here")
    with pytest.raises(ModelFileError, match="directory without a model") as caught:
        open_model(tmp_path)
    assert "gguf" in caught.value.hint


def test_a_directory_of_pickles_says_so(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"pytorch_model\.bin") as caught:
        open_model(tmp_path)
    assert "safetensors" in caught.value.hint


@pytest.mark.parametrize("suffix", ["gguf", "safetensors"])
def test_a_directory_with_several_models_lists_them(suffix: str, tmp_path: Path) -> None:
    for name in ("a-q4_0", "b-q8_0"):
        (tmp_path / f"{name}.{suffix}").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="2") as caught:
        open_model(tmp_path)
    assert f"a-q4_0.{suffix}" in caught.value.hint
    assert f"b-q8_0.{suffix}" in caught.value.hint


def test_a_directory_with_two_formats_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"x")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="gguf and as safetensors"):
        open_model(tmp_path)


def test_a_directory_with_only_a_projector_has_no_model(tmp_path: Path, gguf_bytes: Build) -> None:
    (tmp_path / "mmproj-f16.gguf").write_bytes(gguf_bytes(GOOD))
    with pytest.raises(ModelFileError, match="0 GGUF models"):
        open_model(tmp_path)


def test_a_device_file_is_no_model() -> None:
    with pytest.raises(ModelFileError, match="neither a file nor a directory"):
        open_model("/dev/null")


def test_a_missing_part_of_a_split_gguf_is_named(tmp_path: Path, gguf_bytes: Build) -> None:
    error = _refused(tmp_path / "m-00001-of-00002.gguf", gguf_bytes(GOOD), "m-00002-of-00002.gguf")
    assert "download" in error.hint


@pytest.mark.parametrize("name", ["m-00003-of-00002.gguf", "m-00000-of-00002.gguf", "m-00001-of-99999.gguf"])
def test_an_impossible_part_number_is_refused(name: str, tmp_path: Path, gguf_bytes: Build) -> None:
    _refused(tmp_path / name, gguf_bytes(GOOD), name)


def test_parts_in_the_wrong_order_are_refused(tmp_path: Path, gguf_bytes: Build) -> None:
    for no, name in enumerate(("m-00002-of-00002.gguf", "m-00001-of-00002.gguf")):
        values = [_value(b"split.no", 2, struct.pack("<H", no)), _value(b"split.count", 2, struct.pack("<H", 2))]
        (tmp_path / name).write_bytes(gguf_bytes([(f"blk.{no}.ffn_up.weight", [64], F32, 0)], metadata=values))
    with pytest.raises(ModelFileError, match="by its metadata, not by its name"):
        open_model(tmp_path)


def test_parts_that_share_a_tensor_are_refused(tmp_path: Path, gguf_bytes: Build) -> None:
    for no in range(2):
        values = [_value(b"split.no", 2, struct.pack("<H", no)), _value(b"split.count", 2, struct.pack("<H", 2))]
        (tmp_path / f"m-0000{no + 1}-of-00002.gguf").write_bytes(gguf_bytes(GOOD, metadata=values))
    with pytest.raises(ModelFileError, match="is also in"):
        open_model(tmp_path)


def test_parts_with_fewer_tensors_than_promised_are_refused(tmp_path: Path, gguf_bytes: Build) -> None:
    values = [_value(b"split.tensors.count", 5, struct.pack("<i", 12))]
    _refused(tmp_path / "m-00001-of-00001.gguf", gguf_bytes(GOOD, metadata=values), "promises 12")


BAD_INDEXES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{", "not JSON"),
    "a list": (b"[]", "weight_map"),
    "without a map": (b'{"metadata": {}}', "weight_map"),
    "an empty map": (b'{"weight_map": {}}', "weight_map"),
    "a missing shard": (b'{"weight_map": {"w": "gone.safetensors"}}', "gone.safetensors"),
    "a path out of the directory": (b'{"weight_map": {"w": "../one.safetensors"}}', "no file beside"),
    "a number for a file": (b'{"weight_map": {"w": 1}}', "no file beside"),
    "an absent tensor": (b'{"weight_map": {"w": "one.safetensors", "v": "one.safetensors"}}', "'v'"),
    "a tensor in another shard": (b'{"weight_map": {"w": "two.safetensors", "v": "one.safetensors"}}', "does not have"),
}


@pytest.mark.parametrize("case", BAD_INDEXES)
def test_a_damaged_index_is_refused(case: str, tmp_path: Path, safetensors_bytes: Build) -> None:
    data, said = BAD_INDEXES[case]
    (tmp_path / "one.safetensors").write_bytes(safetensors_bytes({"w": ("F32", [2])}))
    (tmp_path / "two.safetensors").write_bytes(safetensors_bytes({"v": ("F32", [2])}))
    _refused(tmp_path / "model.safetensors.index.json", data, said)


def test_shards_that_share_a_tensor_are_refused(tmp_path: Path, safetensors_bytes: Build) -> None:
    for no in (1, 2):
        (tmp_path / f"model-0000{no}-of-00002.safetensors").write_bytes(safetensors_bytes({"w": ("F32", [2])}))
    with pytest.raises(ModelFileError, match="is also in"):
        open_model(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"num_hidden_layers": "many"}'])
def test_a_damaged_config_is_refused(data: bytes, tmp_path: Path, safetensors_bytes: Build) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes({"w": ("F32", [2])}))
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ModelFileError, match=r"config\.json") as caught:
        open_model(tmp_path)
    assert caught.value.hint


def test_a_file_that_shrinks_after_opening_is_refused(tmp_path: Path, safetensors_bytes: Build) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"w": ("F32", [1000])}))
    model = open_model(path)
    path.write_bytes(path.read_bytes()[:200])
    with WeightsReader(model) as weights, pytest.raises(ModelFileError, match="ends at byte 200"):
        weights.read(model.tensors[0].streams[0], 0, 4000)


def test_a_file_that_vanishes_after_opening_is_refused(tmp_path: Path, safetensors_bytes: Build) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"w": ("F32", [1000])}))
    model = open_model(path)
    path.unlink()
    with WeightsReader(model) as weights, pytest.raises(ModelFileError, match="cannot be read"):
        weights.read(model.tensors[0].streams[0], 0, 10)


def test_a_negative_read_is_a_usage_error(tmp_path: Path, safetensors_bytes: Build) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"w": ("F32", [10])}))
    model = open_model(path)
    with WeightsReader(model) as weights, pytest.raises(UsageError):
        weights.read(model.tensors[0].streams[0], -1, 10)


def _refused(path: Path, data: bytes, said: str) -> ModelFileError:
    """Write ``data`` and expect one error that names the file, says ``said`` and hints at the way out."""
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        open_model(path)
    assert str(path.parent) in caught.value.message
    assert path.name in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value
