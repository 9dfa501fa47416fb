"""What cannot be written or makes no sense is refused: what, where, what to do; nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import simio

from simio.container.codec_choice import CodecChoice
from simio.container.draft import Draft
from simio.container.packing import pack
from simio.container.reading import Container
from simio.container.unpacking import unpack
from simio.errors import ContainerError, WriteError
from simio.units import KIB


def test_a_second_writer_of_the_same_output_gets_one_clear_error(moe, tmp_path):
    output = tmp_path / "m.simio"
    with Draft(output, "") as first:
        first.write(b"mine", 0)
        result = simio("pack", moe, "-o", output)
        assert first.read(0, 4) == b"mine"
    assert (result.code, result.out) == (10, "")
    assert result.err.count("\n") == 2
    assert "being written by another process" in result.err
    assert simio("pack", moe, "-o", output).code == 0


def test_two_packs_at_once_leave_one_whole_container(big, tmp_path):
    output = tmp_path / "m.simio"
    seen = []

    def try_another(done: int, total: int) -> None:
        if not seen:
            seen.append(simio("pack", big, "-o", output).code)

    pack(big, output, CodecChoice.everywhere("zstd:1"), progress=try_another)
    assert seen == [10]
    assert simio("verify", output).code == 0


def test_a_draft_opened_before_another_was_renamed_does_not_touch_the_finished_file(tmp_path, monkeypatch):
    """The other process renames its file between our open and our lock."""
    target = tmp_path / "f"
    other = Draft(target, "")
    other.write(b"finished", 0)
    real_open, opened = os.open, []

    def slow_open(path, *rest):
        descriptor = real_open(path, *rest)
        if not opened:
            opened.append(descriptor)
            monkeypatch.setattr(os, "open", real_open)
            with other:
                other.finish()
        return descriptor

    monkeypatch.setattr(os, "open", slow_open)
    with Draft(target, "") as mine:
        mine.resize(0)
        assert target.read_bytes() == b"finished"


@contextmanager
def _small_disk(folder: Path, n_bytes: int) -> Iterator[None]:
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small disk needs root")
    command = [mount, "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", folder]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_named_and_packing_goes_on_once_there_is_room(big, tmp_path):
    disk, words = tmp_path / "disk", ("--codec", "zstd:1", "--chunk-size", "64KiB", "--json")
    with _small_disk(disk, 4_000_000):
        full = simio("pack", big, "-o", disk / "m.simio", *words)
        assert (full.code, full.out) == (9, "")
        assert "No space left on device" in full.err
        assert f"goes on from {disk / 'm.simio.partial'}" in full.err
        assert {path.name for path in disk.iterdir()} == {"m.simio.partial", "m.simio.journal"}
        subprocess.run(["mount", "-o", "remount,size=40000000", disk], check=True)
        assert simio("pack", big, "-o", disk / "m.simio", *words).json["n_resumed_chunks"] > 20
        simio("pack", big, "-o", tmp_path / "m.simio", *words)
        assert (disk / "m.simio").read_bytes() == (tmp_path / "m.simio").read_bytes()


def test_unpacking_to_a_disk_too_small_writes_nothing(packed, tmp_path):
    with _small_disk(tmp_path / "disk", 16 * KIB), Container.open(packed.path) as container:
        with pytest.raises(WriteError, match="needed"):
            unpack(container, tmp_path / "disk" / "out")
        assert list((tmp_path / "disk").iterdir()) == []


@contextmanager
def _unwritable() -> Iterator[Path]:
    """A directory this process may not write to; root becomes somebody else for the while."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_an_unwritable_directory_is_refused_before_the_work(packed):
    with _unwritable() as folder:
        with pytest.raises(WriteError, match="Permission denied") as caught:
            Draft(folder / "m.simio", "choose another output")
        assert str(folder / "m.simio.partial") in caught.value.message
        assert caught.value.exit_code == 9


def test_unpacking_into_an_unwritable_directory_is_refused(packed):
    with Container.open(packed.path) as container, _unwritable() as folder:
        for out in (folder, folder / "new"):
            with pytest.raises(WriteError, match="Permission denied"):
                unpack(container, out)


def test_a_damaged_source_leaves_nothing_behind(moe, tmp_path):
    moe.write_bytes(moe.read_bytes()[:-2000])
    result = simio("pack", moe, "-o", tmp_path / "m.simio")
    assert result.code == 4
    assert "truncated" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_would_be_packed_is_not_overwritten(moe):
    before = moe.read_bytes()
    result = simio("pack", moe, "-o", moe)
    assert (result.code, moe.read_bytes()) == (2, before)
    assert "is what would be packed" in result.err


def test_files_that_are_there_are_not_overwritten(packed, moe):
    before = moe.read_bytes()
    result = simio("unpack", packed.path, "-o", moe.parent)
    assert (result.code, moe.read_bytes()) == (2, before)
    assert "already there" in result.err


def test_packing_again_replaces_the_container(packed, moe):
    assert simio("pack", moe, "-o", packed.path, "--codec", "raw", "--json").json["n_resumed_chunks"] == 0
    with Container.open(packed.path) as container:
        assert container.index.codecs == (("raw", "U8"),)


REFUSED = [
    (("--codec", "zsdt:1"), 3, "zstd"),
    (("--codec", "zstd:99"), 2, "level"),
    (("--chunk-size", "1"), 2, "--chunk-size"),
    (("--chunk-size", "1kB"), 2, "outside 4 KiB"),
    (("--chunk-size", "2GiB"), 2, "outside 4 KiB"),
    (("--workers", "0"), 2, "0 workers"),
    (("--codec", "raw", "--plan", "p.json"), 2, "both"),
    (("--plan", "missing.json"), 2, "missing.json"),
    (("-o", "/no/such/place/m.simio"), 2, "mkdir -p /no/such/place"),
    (("-o", "/tmp"), 2, "is a directory"),
]


@pytest.mark.parametrize(("words", "code", "says"), REFUSED, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_an_option_that_means_nothing_is_refused(moe, tmp_path, words, code, says):
    output = () if "-o" in words else ("-o", tmp_path / "m.simio")
    result = simio("pack", moe, *output, *words)
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert "→" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


PLANS = [
    ({"tensors": {"blk.9.*": "raw"}}, 3, "unknown tensor 'blk.9.*'"),
    ({"tensors": {"output_nrm.weight": "raw"}}, 3, "did you mean output_norm.weight"),
    ({"defualt": "raw"}, 3, "did you mean default"),
    ({"default": "zsdt"}, 3, "default: unknown codec"),
    ({"tensors": {"output_norm.weight": "zstd:99"}}, 2, "output_norm.weight: zstd has no level"),
    ({"default": 1}, 2, "is no codec"),
    ({"tensors": ["a"]}, 2, "not a codec plan"),
    ([], 2, "not a codec plan"),
]


@pytest.mark.parametrize(("plan", "code", "says"), PLANS)
def test_a_plan_that_fits_nothing_is_refused(moe, tmp_path, plan, code, says):
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    result = simio("pack", moe, "-o", tmp_path / "m.simio", "--plan", tmp_path / "plan.json")
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert not (tmp_path / "m.simio").exists()


@pytest.mark.parametrize("text", ["", "{", '{"default": "raw", "default": "zstd"}', "[" * 100_000])
def test_a_plan_that_is_no_json_is_refused(moe, tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    result = simio("pack", moe, "-o", tmp_path / "m.simio", "--plan", tmp_path / "plan.json")
    assert (result.code, result.out) == (2, "")
    assert "not a codec plan" in result.err


def test_own_names_win_over_patterns_and_the_first_pattern_over_later_ones():
    choice = CodecChoice.everywhere("raw")
    choice.tensors.update(
        {"a.*": CodecChoice.everywhere("lz4:1").default, "*": CodecChoice.everywhere("lz4:2").default,
         "a.b": CodecChoice.everywhere("lz4:3").default}
    )  # fmt: skip
    assert [codec.name for codec in choice.for_tensors(["a.a", "a.b", "c"])] == ["lz4:1", "lz4:3", "lz4:2"]


def test_a_closed_container_says_so(packed):
    from simio.errors import UsageError

    container = Container.open(packed.path)
    container.close()
    with pytest.raises(UsageError, match="closed"):
        container.read_chunk(0)


def test_a_lock_error_is_no_file_system_error(tmp_path):
    with Draft(tmp_path / "f", ""), pytest.raises(ContainerError):
        Draft(tmp_path / "f", "")
