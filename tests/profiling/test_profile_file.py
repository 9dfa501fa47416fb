"""The profile file: what is saved comes back; anything else is refused with its reason."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from simio.codecs import parse
from simio.errors import ProfileError, SimioError
from simio.profiling import profile_file
from simio.profiling.profiler import profile
from simio.records.model import KvLayer
from simio.units import KIB


@pytest.fixture
def found(model):
    architecture = replace(model.architecture, kv_layers=(KvLayer(128), KvLayer(128, window=512)))
    model = replace(model, architecture=architecture, notes=("a note",))
    return profile(model, parse("zstd:1"), chunk_bytes=64 * KIB)


@pytest.fixture
def path(found, tmp_path):
    profile_file.save(found, tmp_path / "p.simio.json")
    return tmp_path / "p.simio.json"


def test_a_saved_profile_comes_back_equal(found, path):
    assert profile_file.load(path) == found


def test_a_sampled_profile_comes_back_equal(model, tmp_path):
    found = profile(model, parse("zstd:1"), chunk_bytes=64 * KIB, sample=0.1)
    profile_file.save(found, tmp_path / "p.simio.json")
    assert profile_file.load(tmp_path / "p.simio.json") == found


def test_a_profile_from_statistics_has_no_rate_and_no_host(found, tmp_path):
    stored = replace(found, decompress=None, host=None, basis="statistics")
    profile_file.save(stored, tmp_path / "p.simio.json")
    assert profile_file.load(tmp_path / "p.simio.json") == stored


def edited(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(simio_profile=2), "newer than this simio"),
        (lambda d: d.pop("simio_profile"), "not a simio profile"),
        (lambda d: d.pop("model"), "damaged"),
        (lambda d: d["model"].pop("tensors"), "damaged"),
        (lambda d: d["model"]["tensors"]["name"].pop(), "damaged"),
        (lambda d: d["model"]["streams"]["offset"].pop(), "damaged"),
        (lambda d: d["model"]["architecture"].update(colour=1), "damaged"),
        (lambda d: d["tensors"]["stored"].pop(), "do not fit"),
        (lambda d: d["tensors"]["stored"].append(1), "do not fit"),
        (lambda d: d["tensors"]["raw"][0].append([1, 10**15]), "do not fit"),
        (lambda d: d["tensors"]["stored"].__setitem__(0, 0), "do not fit"),
        (lambda d: d["tensors"]["stored"].__setitem__(0, 10**9), "do not fit"),
        (lambda d: d["tensors"]["stored"].__setitem__(0, "x"), "damaged"),
        (lambda d: d["tensors"]["stored"].__setitem__(0, None), "damaged"),
        (lambda d: d["tensors"]["raw"][0].append([5, 1]), "damaged"),
        (lambda d: d["tensors"]["raw"][0].__setitem__(0, [65536, -1]), "damaged"),
        (lambda d: d["tensors"]["entropy"].__setitem__(0, 9.0), "damaged"),
        (lambda d: d["tensors"]["entropy"].__setitem__(0, float("nan")), "damaged"),
        (lambda d: d.update(basis="guessed"), "damaged"),
        (lambda d: d.update(codec=3), "damaged"),
        (lambda d: d.update(chunk_bytes=0), "damaged"),
        (lambda d: d["decompress"].update(median_bytes_per_s=-1), "damaged"),
        (lambda d: d["decompress"].update(median_bytes_per_s=float("nan")), "damaged"),
        (lambda d: d["decompress"].update(extra=1), "damaged"),
    ],
)
def test_an_edited_profile_is_refused(path, change, says):
    edited(path, change)
    with pytest.raises(ProfileError, match=says) as caught:
        profile_file.load(path)
    assert str(path) in caught.value.message
    assert "Error(" not in caught.value.message
    assert "zip()" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"3", b'"text"', b"\xff\xfe\x00", b"[" * 100_000, b"{}"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(ProfileError):
        profile_file.load(tmp_path / "other.json")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_profile_is_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ProfileError, match="damaged"):
        profile_file.load(path)


def test_a_missing_profile_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(ProfileError, match="cannot read") as caught:
        profile_file.load(tmp_path / "none.simio.json")
    assert "simio profile" in caught.value.hint


def test_a_full_disk_leaves_the_old_profile_and_nothing_else(found, path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_bytes()
    monkeypatch.setattr("simio.paths.os.fsync", full)
    with pytest.raises(SimioError, match="No space left") as caught:
        profile_file.save(replace(found, codec="lz4:1"), path)
    assert caught.value.hint
    assert path.read_bytes() == before
    assert [p for p in path.parent.iterdir() if p.name.endswith(".tmp")] == []


def test_saving_into_a_missing_folder_is_an_error(found, tmp_path):
    with pytest.raises(SimioError, match="cannot be written"):
        profile_file.save(found, tmp_path / "none" / "p.simio.json")


def test_a_profile_of_five_thousand_chunks_is_small(found, tmp_path):
    tensors = tuple(replace(t, name=f"layer.{i}") for i in range(300) for t in found.model.tensors[:1])
    chunks = tuple(replace(t, tensor=f"layer.{i}") for i in range(300) for t in found.tensors[:1])
    big = replace(found, model=replace(found.model, tensors=tensors), tensors=chunks)
    profile_file.save(big, tmp_path / "big.simio.json")
    assert profile_file.load(tmp_path / "big.simio.json") == big
    assert (tmp_path / "big.simio.json").stat().st_size < 100_000


def test_loading_a_profile_imports_no_codec_and_no_numpy():
    code = "import sys, simio.profiling.profile_file; print([m for m in ('numpy', 'zstandard') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
