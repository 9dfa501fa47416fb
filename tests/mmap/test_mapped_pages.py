"""Faults and read-ahead against what Linux 6.18 was seen to do with a mapped file of 343.5 MB."""

from __future__ import annotations

import pytest

from simio.cache.mapped_pages import Kernel, MappedPages
from simio.cache.two_list import TwoList

KIB, MIB = 1024, 1024**2
UNIT = 64 * KIB
FILE = 343_500_000 // UNIT


def mapped(n_units: int, capacity: int, window: int, folio: int = 2 * MIB) -> MappedPages:
    return MappedPages(n_units, TwoList(capacity, UNIT), Kernel(window, folio))


def test_a_fault_reads_half_its_window_behind_and_half_ahead():
    file = mapped(1000, 1000, window=16 * UNIT)
    file.touch(500)
    assert [unit for unit in range(1000) if unit in file.pages] == list(range(492, 508))


def test_a_scan_that_fits_reads_everything_once():
    file = mapped(1000, 1000, window=64 * UNIT)
    for _ in range(3):
        for unit in range(1000):
            file.touch(unit)
    assert (file.n_read, file.n_missed) == (1000, 1000)


def test_reading_ahead_goes_on_without_another_fault_around():
    file = mapped(1000, 1000, window=16 * UNIT)
    for unit in range(13):
        file.touch(unit)
    assert file.n_read == 8 + 8 or file.n_read > 16  # the mark, three quarters in, brought the next window
    assert 16 in file.pages


@pytest.mark.parametrize(("window", "active_mb"), [(256 * KIB, 345), (2 * MIB, 16), (16 * MIB, 75)])
def test_loading_leaves_as_much_active_as_was_measured(window: int, active_mb: int):
    # memory.stat after llama.cpp had loaded without a limit: 345, 16 and 74 to 75 MB with 128 KiB, 1 and 8 MiB.
    file = mapped(FILE, 2 * FILE, window)
    file.populate()
    found = len(file.pages.active) * UNIT / 1e6
    assert found == pytest.approx(active_mb, abs=10)


def test_without_large_folios_loading_leaves_nothing_active():
    file = mapped(FILE, 2 * FILE, 256 * KIB, folio=4 * KIB)
    file.populate()
    assert not file.pages.active


def scan(capacity_mb: float, window: int) -> float:
    """Bytes read per scan of the file, by file size, once it has warmed up."""
    file = mapped(FILE, int(capacity_mb * 1e6) // UNIT, window)
    file.populate()
    before = 0
    for token in range(10):
        if token == 2:
            before = file.n_read
        for unit in range(FILE):
            file.touch(unit)
    return (file.n_read - before) / 8 / FILE


def test_a_window_too_large_for_the_cache_is_read_in_vain():
    assert scan(71, 16 * MIB) > 1.3
    assert scan(71, 2 * MIB) < 1.1


def test_three_quarters_of_the_file_save_far_less_than_three_quarters():
    assert 0.6 < scan(258, 16 * MIB) < 1.1


def test_nothing_is_read_where_everything_fits():
    assert scan(350, 16 * MIB) == 0.0
