"""Linux's page cache under a memory limit: what a cyclic scan through a mapping reads."""

from __future__ import annotations

import pytest
from command_line import simio

from simio.cache.mapped_pages import Kernel, MappedPages
from simio.cache.two_list import TwoList

UNIT = 65536


def bytes_per_scan(n_units: int, capacity: int, window_units: int = 2, n_scans: int = 12) -> float:
    """Mean bytes read per scan over the later half of ``n_scans``, as a share of the file."""
    pages = TwoList(capacity, UNIT)
    file = MappedPages(n_units, pages, Kernel(window_units * UNIT, 2 * 1024**2))
    reads = []
    for _ in range(n_scans):
        before = file.n_read
        for unit in range(n_units):
            file.touch(unit)
        reads.append(file.n_read - before)
    later = reads[n_scans // 2 :]
    return sum(later) / len(later) / n_units


def test_a_file_that_fits_is_read_once():
    assert bytes_per_scan(n_units=1000, capacity=1200) == 0.0


def test_a_cyclic_scan_past_the_cache_gets_partial_credit():
    # Neither LRU, which would read everything, nor "only what is missing", a tenth.
    share = bytes_per_scan(n_units=1000, capacity=900)
    assert 0.2 < share < 1.1


def test_a_far_too_small_cache_reads_about_everything():
    assert bytes_per_scan(n_units=1000, capacity=200) == pytest.approx(1.0, abs=0.15)


def test_a_read_ahead_window_near_the_size_of_the_cache_reads_pages_twice():
    assert bytes_per_scan(n_units=1000, capacity=150, window_units=128) > 1.2


def test_the_cache_never_holds_more_than_its_capacity():
    pages = TwoList(50, UNIT)
    file = MappedPages(400, pages, Kernel(8 * UNIT))
    for _ in range(3):
        for unit in range(400):
            file.touch(unit)
            assert len(pages.inactive) + len(pages.active) <= 50 + 8


def test_a_page_that_comes_back_soon_enters_the_active_list_and_one_that_comes_back_late_does_not():
    pages = TwoList(20, UNIT)
    for unit in range(20):
        pages.insert(unit)
    for unit in range(8):
        pages.activate(unit)
    pages.insert(100)  # evicts 8, the oldest inactive page
    assert 8 not in pages
    pages.insert(8)
    assert 8 in pages.active
    late = 9 if 9 not in pages else 10
    for unit in range(200, 260):
        pages.insert(unit)
    pages.insert(late)
    assert late in pages.inactive


WORDS = (
    "predict",
    "--device",
    "host-epyc-zen3",
    "--model",
    "s300:q8_0",
    "--runtime",
    "mmap",
    "--threads",
    "1",
    "--json",
)


def test_a_throttle_bounds_the_bytes_per_second():
    found = simio(*WORDS, "--ram", "171746064B", "--read-limit", "200MB/s").json
    rate = found["bytes_per_token"] / found["token_latency_s"]["mean"]
    assert rate == pytest.approx(200e6, rel=0.03)


def test_a_limit_below_the_weights_collapses_the_rate():
    in_ram, limited = simio(*WORDS).json, simio(*WORDS, "--ram", "309142915B", "--read-limit", "200MB/s").json
    assert limited["tokens_per_s"] < 0.1 * in_ram["tokens_per_s"]


def test_a_bistable_cache_is_a_band_and_says_so():
    found = simio(*WORDS, "--ram", "309142915B", "--read-limit", "200MB/s").json
    assert found["interval"]["high"] > 1.2 * found["interval"]["low"]
    assert any("two lists" in note for note in found["notes"])


def test_read_ahead_is_refused_where_nothing_is_mapped():
    result = simio(*WORDS[:5], "--runtime", "stream", "--read-ahead", "1MiB")
    assert result.code == 2
    assert "--read-ahead means nothing" in result.err


def test_the_measured_host_is_met_within_the_errors_we_state(shared):
    from simio.importers import read
    from simio.validate import validate

    runs = [r for r in read(shared / "traces" / "host-llamacpp" / "runs.csv") if r.kind in ("in_ram", "strict")]
    summary = validate(runs).summary
    assert summary.n >= 15
    assert summary.median_abs_error < 0.12
    assert summary.max_abs_error < 0.30
