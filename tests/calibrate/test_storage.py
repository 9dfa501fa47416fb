"""Direct reads and page faults, measured on a file of a known size."""

import random
from itertools import pairwise

import pytest

from simio.calibrate import fio, page_faults, storage
from simio.calibrate.direct_reads import Access, bandwidth, offsets, rate
from simio.calibrate.scratch_file import ScratchFile
from simio.errors import SimioError
from simio.units import KIB, MIB


@pytest.fixture
def file(disk):
    path = disk / "data"
    path.write_bytes(random.Random(0).randbytes(16 * MIB))
    return ScratchFile(path, 16 * MIB)


def test_sequential_reads_go_from_block_to_block_and_around():
    where = offsets(Access("sequential", MIB, 2), 4 * MIB, random.Random(1))
    found = [where() for _ in range(9)]
    assert {(b - a) % (4 * MIB) for a, b in pairwise(found)} == {MIB}


def test_random_reads_stay_inside_and_meet_every_block():
    where = offsets(Access("random", MIB, 2), 4 * MIB + 5, random.Random(1))
    assert {where() for _ in range(100)} == {0, MIB, 2 * MIB, 3 * MIB}


def test_the_rate_is_that_between_the_first_full_queue_and_the_end():
    ends = [10.0, 10.0, 10.5, 10.5, 11.0, 11.0, 99.0]  # two at a time, 4 blocks a second; one runs over
    assert rate(ends, Access("random", 100, 2), 11.0) == pytest.approx(400)


def test_storage_slower_than_a_round_still_has_a_rate():
    assert rate([1.0, 3.0], Access("random", 100, 1), 0.1) == pytest.approx(50)


def test_a_round_reads_the_file(file):
    assert bandwidth(file, Access("sequential", MIB, 4), 0.05, random.Random(0)) > 1e6


def test_an_error_of_a_reading_thread_reaches_the_caller(file):
    shorter = ScratchFile(file.path, 64 * MIB)
    with pytest.raises(SimioError, match="ends at byte"):
        bandwidth(shorter, Access("sequential", MIB, 2), 5.0, random.Random(0))


def test_blocks_too_large_for_the_file_are_left_out(file):
    names = {probe.name for probe in storage.probes(file, bandwidth)}
    assert Access("random", MIB, 4).name in names
    assert Access("random", 4 * MIB, 4).name not in names


def test_what_a_streaming_run_reads_is_measured_most_often(file):
    every = {probe.name: probe.every for probe in storage.probes(file, bandwidth)}
    assert every[Access("sequential", MIB, 4).name] < every[Access("random", 4 * KIB, 32).name]


def test_the_best_depth_is_the_smallest_that_is_about_as_fast():
    rates = {1: 1.0, 2: 1.99, 4: 2.0, 8: 1.8}
    series = {Access("sequential", 4 * MIB, depth).name: [value] for depth, value in rates.items()}
    assert storage.best_queue_depth(series) == 2


def test_a_mapped_file_is_read_and_a_fault_timed(file):
    assert page_faults.mapped_bandwidth(file, 0.02, random.Random(0)) > 1e6
    assert -1 < page_faults.fault_overhead_s(file, 0.02, random.Random(0)) < 1


def test_the_read_ahead_of_a_partition_is_that_of_its_disk(tmp_path):
    import os

    device = os.stat(tmp_path).st_dev
    (tmp_path / "disk" / "queue").mkdir(parents=True)
    (tmp_path / "disk" / "queue" / "read_ahead_kb").write_text("512\n")
    (tmp_path / "disk" / "part1").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / f"{os.major(device)}:{os.minor(device)}").symlink_to(tmp_path / "disk" / "part1")
    assert page_faults.read_ahead_bytes(tmp_path, tmp_path / "dev") == 512 * KIB
    assert page_faults.read_ahead_bytes(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(("release", "kind", "folio"), [("6.18.4-x", "ext4", 2 * MIB), ("6.16.0", "ext4", 2 * MIB),
                                                        ("6.15.9", "ext4", None), ("6.18.4", "xfs", None)])  # fmt: skip
def test_large_folios_are_known_of_ext4_since_6_16(release, kind, folio, monkeypatch, tmp_path):
    monkeypatch.setattr(page_faults.platform, "release", lambda: release)
    monkeypatch.setattr(page_faults, "file_system", lambda folder: kind)
    assert page_faults.folio_bytes(tmp_path) == folio


FAKE_FIO = """#!/bin/sh
case "$*" in --version) echo fio-3.99; exit 0;; esac
case "$*" in *io_uring*) echo "fio: engine io_uring not loadable" >&2; exit 1;; esac
echo "fio: a warning in front"
echo '{"fio version": "fio-3.99", "jobs": [{"error": 0, "read": {"bw_bytes": 123000000}}]}'
"""


@pytest.fixture
def fake_fio(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "fio"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    fio._io_engine.cache_clear()

    def install(text):
        program.write_text(text)
        program.chmod(0o755)

    return install


def test_fio_is_asked_for_what_the_round_is_about_with_an_engine_that_works(file, fake_fio):
    fake_fio(FAKE_FIO)
    assert fio.version() == "fio-3.99"
    assert fio.bandwidth(file, Access("random", 4096, 8), 0.3, random.Random(0)) == 123e6
    words = fio.arguments(file, Access("random", 4096, 8), 0.3, 0, "libaio")
    assert {"--rw=randread", "--bs=4096", "--iodepth=8", "--direct=1", "--runtime=300ms", "--readonly"} <= set(words)


@pytest.mark.parametrize("line", ["exit 3", "echo '{\"jobs\": []}'", 'echo \'{"jobs": [{"error": 5}]}\'', "echo '{'"])
def test_a_fio_that_fails_is_an_error_that_names_the_other_engine(file, fake_fio, line):
    fake_fio(f"#!/bin/sh\n{line}\n")
    with pytest.raises(SimioError) as raised:
        fio.bandwidth(file, Access("random", 4096, 8), 0.3, random.Random(0))
    assert "--engine builtin" in raised.value.hint


def test_a_missing_fio_says_how_to_get_it(fake_fio):
    with pytest.raises(SimioError, match="fio is not installed") as raised:
        fio.version()
    assert "apt install fio" in raised.value.hint
