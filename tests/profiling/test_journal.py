"""The journal survives crashes, damage and several writers."""

import errno
import os

import pytest

from simio.errors import SimioError
from simio.profiling.journal import ChunkFacts, ChunkJournal, chunk_key

FACTS = ChunkFacts(1000, 400, 3.25)
KEYS = [chunk_key(bytes([i]), "F32") for i in range(20)]


def write(path, keys):
    with ChunkJournal(path) as journal:
        for key in keys:
            journal.add(key, FACTS)


def test_what_was_added_is_found_after_reopening(tmp_path):
    write(tmp_path / "a" / "journal.txt", KEYS)
    assert ChunkJournal(tmp_path / "a" / "journal.txt").find(KEYS[7], 1000) == FACTS


def test_nothing_is_created_before_something_is_known(tmp_path):
    write(tmp_path / "a" / "journal.txt", [])
    assert not (tmp_path / "a").exists()


def test_a_chunk_of_another_size_or_layout_is_another_chunk(tmp_path):
    write(tmp_path / "journal.txt", KEYS[:1])
    journal = ChunkJournal(tmp_path / "journal.txt")
    assert journal.find(KEYS[0], 999) is None
    assert journal.find(chunk_key(bytes([0]), "BF16"), 1000) is None


@pytest.mark.parametrize("n_lost", [1, 10, 30, 50])
def test_a_line_cut_off_by_a_crash_costs_only_that_chunk(tmp_path, n_lost):
    path = tmp_path / "journal.txt"
    write(path, KEYS[:10])
    path.write_bytes(path.read_bytes()[:-n_lost])
    write(path, KEYS[10:])
    found = [ChunkJournal(path).find(key, 1000) for key in KEYS]
    assert found[:9] == [FACTS] * 9
    assert found[10:] == [FACTS] * 10


def test_damaged_lines_are_skipped(tmp_path):
    path = tmp_path / "journal.txt"
    write(path, KEYS)
    data = bytearray(path.read_bytes())
    data[data.index(b" 400 ") + 1] ^= 1
    path.write_bytes(bytes(data) + b"\x00\xff rubbish\nmore rubbish 00000000\n \n")
    assert len(ChunkJournal(path)) == len(KEYS) - 1


def test_two_writers_share_one_file(tmp_path):
    path = tmp_path / "journal.txt"
    with ChunkJournal(path) as one, ChunkJournal(path) as two:
        for i, key in enumerate(KEYS):
            writer = one if i % 2 else two
            writer.add(key, FACTS)
            writer.flush()
    assert len(ChunkJournal(path)) == len(KEYS)


def test_a_full_disk_is_an_error_with_a_way_out(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = ChunkJournal(tmp_path / "journal.txt")
    journal.add(KEYS[0], FACTS)
    monkeypatch.setattr("simio.profiling.journal.os.write", full)
    with pytest.raises(SimioError, match="No space left") as caught:
        journal.close()
    assert caught.value.hint
