"""Interrupted packing goes on where it stopped, and the result is the same byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import simio

from simio.container.chunk_table import Chunk
from simio.container.codec_choice import CodecChoice
from simio.container.journal import RECORD_BYTES, PackJournal
from simio.container.packing import pack
from simio.errors import ModelFileError
from simio.units import KIB

CHUNK = 32 * KIB
CODEC = "brotli:9"  # slow enough to be interrupted


def _words(source: Path, output: Path, codec: str = CODEC) -> list[str]:
    return ["pack", str(source), "-o", str(output), "--codec", codec, "--chunk-size", "32KiB", "--json"]


def _interrupted(source: Path, output: Path, sign: signal.Signals, n_chunks: int = 12) -> int:
    """Pack in a process of its own and send it ``sign`` once about ``n_chunks`` are finished; its exit code."""
    command = [sys.executable, "-c", "from simio.cli import main; main()", *_words(source, output)]
    journal = Path(f"{output}.journal")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > n_chunks * RECORD_BYTES):
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()
    process.send_signal(sign)
    process.communicate(timeout=60)
    assert not output.exists()
    assert Path(f"{output}.partial").exists()
    return process.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, big_builder: Callable[[Path], Path]) -> bytes:
    """The container of ``big`` after an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    pack(big_builder(folder), folder / "whole.simio", CodecChoice.everywhere(CODEC), chunk_bytes=CHUNK)
    return (folder / "whole.simio").read_bytes()


def test_a_killed_run_resumes_to_the_same_container(big, whole, tmp_path):
    output = tmp_path / "m.simio"
    for n_chunks in (12, 60):  # killed twice
        assert _interrupted(big, output, signal.SIGKILL, n_chunks) == -signal.SIGKILL
    result = simio(*_words(big, output))
    assert result.json["n_resumed_chunks"] >= 60
    assert output.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.safetensors", "m.simio"]


def test_ctrl_c_exits_130_and_the_next_run_goes_on(big, whole, tmp_path):
    output = tmp_path / "m.simio"
    assert _interrupted(big, output, signal.SIGINT) == 130
    assert simio(*_words(big, output)).json["n_resumed_chunks"] >= 12
    assert output.read_bytes() == whole


def _stop_after(n_bytes: int):
    def report(done: int, total: int) -> None:
        if done >= n_bytes:
            raise KeyboardInterrupt

    return report


@pytest.fixture
def stopped(big: Path, tmp_path: Path) -> Path:
    """An output whose packing was interrupted after 3 MB."""
    output = tmp_path / "m.simio"
    with pytest.raises(KeyboardInterrupt):
        pack(big, output, CodecChoice.everywhere("zstd:1"), chunk_bytes=CHUNK, progress=_stop_after(3_000_000))
    return output


def _again(source: Path, output: Path, codec: str = "zstd:1") -> int:
    """Pack to ``output``; the chunks that were kept, after comparing with a fresh container."""
    packed = pack(source, output, CodecChoice.everywhere(codec), chunk_bytes=CHUNK)
    fresh = output.with_name("fresh.simio")
    pack(source, fresh, CodecChoice.everywhere(codec), chunk_bytes=CHUNK)
    assert output.read_bytes() == fresh.read_bytes()
    return packed.n_resumed


def test_finished_chunks_are_kept(big, stopped):
    assert _again(big, stopped) >= 90


def test_another_codec_starts_anew(big, stopped):
    assert _again(big, stopped, "lz4:1") == 0


def test_another_source_starts_anew(big, stopped):
    big.write_bytes(big.read_bytes()[:-1] + b"!")  # the digest samples the end
    assert _again(big, stopped) == 0


def test_a_source_changed_where_the_digest_does_not_look_is_noticed(big, stopped):
    data = bytearray(big.read_bytes())
    data[2_000_000] ^= 1
    big.write_bytes(data)
    assert _again(big, stopped) == 62  # the header, and 61 chunks of 32 KiB before byte 2 000 000


@pytest.mark.parametrize("at", [5000, 1_000_000])
def test_a_damaged_partial_file_is_compressed_again_from_there(big, stopped, at):
    with Path(f"{stopped}.partial").open("r+b") as file:
        file.seek(at)
        file.write(b"damage!!")
    assert _again(big, stopped) < 60


def test_a_shortened_partial_file_is_compressed_again_from_there(big, stopped):
    os.truncate(f"{stopped}.partial", 1_000_000)
    assert 0 < _again(big, stopped) < 60


@pytest.mark.parametrize("at", [3, 20, 40, 32 + 10 * RECORD_BYTES + 7])
def test_a_damaged_journal_is_believed_only_up_to_the_damage(big, stopped, at):
    with Path(f"{stopped}.journal").open("r+b") as file:
        file.seek(at)
        file.write(b"\xff\xfe")
    assert _again(big, stopped) == (10 if at > 100 else 0)


def test_a_journal_without_its_partial_file_is_ignored(big, stopped):
    Path(f"{stopped}.partial").unlink()
    assert _again(big, stopped) == 0


def test_a_source_that_changes_meanwhile_is_an_error_and_no_container(big, tmp_path):
    def touch(done: int, total: int) -> None:
        os.utime(big, ns=(1, 1))

    with pytest.raises(ModelFileError, match="changed while it was packed"):
        pack(big, tmp_path / "m.simio", CodecChoice.everywhere("raw"), progress=touch)
    assert not (tmp_path / "m.simio").exists()


def test_a_source_truncated_meanwhile_is_an_error_and_no_container(big, tmp_path):
    def cut(done: int, total: int) -> None:
        os.truncate(big, 6_000_000)

    with pytest.raises(ModelFileError, match=r"big\.safetensors"):
        pack(big, tmp_path / "m.simio", CodecChoice.everywhere("raw"), chunk_bytes=CHUNK, progress=cut)
    assert not (tmp_path / "m.simio").exists()


def test_a_torn_last_record_is_left_out(tmp_path):
    chunks = [Chunk(4096 * (i + 1), 100 + i, 200, 1, i, i * i) for i in range(5)]
    path = tmp_path / "j"
    with PackJournal(path, b"i" * 16, "") as journal:
        journal.keep(0)
        for number, chunk in enumerate(chunks):
            journal.append(chunk, number)
        assert journal.finished() == chunks
        os.truncate(path, path.stat().st_size - 1)
        assert journal.finished() == chunks[:4]
        journal.keep(2)
        journal.append(chunks[2], 2)
        assert journal.finished() == chunks[:3]
    with PackJournal(path, b"j" * 16, "") as journal:
        assert journal.finished() == []
