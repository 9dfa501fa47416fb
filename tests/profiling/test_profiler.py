"""Profiling a model: sizes are those of the codec, samples extrapolate, interruption loses nothing."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from simio.codecs import parse
from simio.codecs.chunk import compress_chunk
from simio.errors import ModelFileError, SimioError, UsageError
from simio.profiling.cache import ProfileCache
from simio.profiling.profiler import profile
from simio.records.model import Stream
from simio.units import KIB

CHUNK = 64 * KIB


def test_every_chunk_has_the_size_the_codec_gives_it(model):
    found = profile(model, parse("byteplane(zstd:1)"), chunk_bytes=CHUNK)
    data = Path(model.files[0]).read_bytes()
    for tensor, compression in zip(model.tensors, found.tensors, strict=True):
        codec, start = parse("byteplane(zstd:1)").for_layout(tensor.dtype), tensor.streams[0].offset
        for raw_bytes, stored_bytes in zip(compression.raw_bytes, compression.stored_bytes, strict=True):
            assert stored_bytes == len(compress_chunk(codec, data[start : start + raw_bytes]))
            start += raw_bytes
        assert start == tensor.streams[0].offset + tensor.n_bytes
    assert found.basis == "measured"
    assert found.ratio_interval is None


def test_the_ratio_stays_within_its_entropy_bound_where_nothing_repeats(model):
    found = profile(model, parse("byteplane(zstd:1)"), chunk_bytes=CHUNK)
    embedding, noise = found.tensors[0], found.tensors[3]
    assert 0.95 < embedding.entropy_bits_per_byte / 8 / (sum(embedding.stored_bytes) / sum(embedding.raw_bytes)) <= 1
    assert noise.entropy_bits_per_byte == pytest.approx(8, abs=0.01)
    assert noise.stored_bytes == noise.raw_bytes


def test_the_number_of_workers_changes_nothing(model):
    one, four = (profile(model, parse("zstd:1"), chunk_bytes=CHUNK, n_workers=n) for n in (1, 4))
    assert one.tensors == four.tensors


def test_raw_has_no_decompression_rate(model):
    found = profile(model, parse("raw"), chunk_bytes=CHUNK)
    assert (found.ratio, found.decompress) == (1.0, None)


def test_the_rate_comes_with_spread_host_and_library(model):
    found = profile(model, parse("zstd:1"), chunk_bytes=CHUNK)
    assert 0 < found.decompress.low_bytes_per_s <= found.decompress.median_bytes_per_s
    assert found.decompress.median_bytes_per_s <= found.decompress.high_bytes_per_s
    assert found.decompress.n >= 7
    assert "libzstd" in found.host.library_version
    assert found.host.cpu


def test_a_tensor_of_several_streams_contributes_them_in_order(model):
    codes, scales = model.tensors[3].streams[0], model.tensors[4].streams[0]
    grouped = replace(
        model.tensors[3],
        dtype="GPTQ4",
        n_bytes=codes.n_bytes + scales.n_bytes,
        streams=(replace(codes, dtype="I32"), replace(scales, dtype="F16")),
    )
    found = profile(replace(model, tensors=(grouped,)), parse("raw"), chunk_bytes=100_000)
    assert found.tensors[0].raw_bytes == (100_000, 100_000, 256)


def test_progress_ends_at_the_whole_model(model):
    seen = []
    profile(model, parse("zstd:1"), chunk_bytes=CHUNK, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (model.n_bytes, model.n_bytes)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_sample_extrapolates_within_its_interval(model, share):
    whole = profile(model, parse("byteplane(zstd:1)"), chunk_bytes=CHUNK)
    part = profile(model, parse("byteplane(zstd:1)"), chunk_bytes=CHUNK, sample=share, seed=3)
    assert part.basis == "sampled"
    assert part.ratio_interval[0] <= whole.ratio <= part.ratio_interval[1]
    assert part.ratio == pytest.approx(whole.ratio, rel=0.01)
    assert [t.raw_bytes for t in part.tensors] == [t.raw_bytes for t in whole.tensors]
    assert {t.basis for t in part.tensors} == {"sampled", "measured"}


def test_a_sample_compresses_fewer_chunks_and_repeats_with_its_seed(model, counting):
    first = profile(model, counting, chunk_bytes=8 * KIB, sample=0.1, seed=1)
    assert 0 < len(counting.calls) < 80  # of 207
    assert profile(model, counting, chunk_bytes=8 * KIB, sample=0.1, seed=1).tensors == first.tensors
    assert profile(model, counting, chunk_bytes=8 * KIB, sample=0.1, seed=2).tensors != first.tensors


def test_a_full_sample_is_a_measurement(model):
    assert profile(model, parse("zstd:1"), chunk_bytes=CHUNK, sample=1.0).basis == "measured"


def test_a_finished_profile_returns_without_compressing(model, counting, tmp_path):
    cache = ProfileCache(tmp_path / "cache")
    first = profile(model, counting, chunk_bytes=CHUNK, cache=cache)
    counting.calls.clear()
    again = profile(replace(model, name="renamed"), counting, chunk_bytes=CHUNK, cache=cache)
    assert counting.calls == []
    assert again == replace(first, model=replace(model, name="renamed"))


def test_another_chunk_size_codec_or_sample_is_another_profile(model, counting, tmp_path):
    cache = ProfileCache(tmp_path / "cache")
    profile(model, counting, chunk_bytes=CHUNK, cache=cache)
    assert profile(model, counting, chunk_bytes=2 * CHUNK, cache=cache).chunk_bytes == 2 * CHUNK
    assert profile(model, counting, chunk_bytes=CHUNK, sample=0.1, cache=cache).basis == "sampled"
    assert profile(model, parse("lz4:1"), chunk_bytes=CHUNK, cache=cache).codec == "lz4:1"


def test_weights_changed_in_place_are_compressed_again(model, tmp_path):
    cache = ProfileCache(tmp_path / "cache")
    before = profile(model, parse("zstd:1"), chunk_bytes=CHUNK, cache=cache)
    path = Path(model.files[0])
    path.write_bytes(bytes(model.n_bytes))
    after = profile(model, parse("zstd:1"), chunk_bytes=CHUNK, cache=cache)
    assert after.stored_bytes < before.stored_bytes / 10


def test_an_interrupted_profile_resumes_where_it_stopped(model, counting, tmp_path):
    cache = ProfileCache(tmp_path / "cache")

    def interrupt(n_calls):
        if n_calls == 12:
            raise KeyboardInterrupt

    interrupted = replace(counting, before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        profile(model, interrupted, chunk_bytes=CHUNK, cache=cache, n_workers=1)
    assert not list((tmp_path / "cache").rglob("*.simio.json"))
    assert len(counting.calls) == 12
    resumed = profile(model, counting, chunk_bytes=CHUNK, cache=cache, n_workers=1)
    n_chunks, n_kept = sum(len(t.raw_bytes) for t in resumed.tensors), 3
    assert n_chunks <= len(counting.calls) <= n_chunks + n_kept  # the chunks to measure with are needed again
    assert resumed.tensors == profile(model, parse("zstd:1"), chunk_bytes=CHUNK).tensors


def test_ctrl_c_while_waiting_keeps_the_journal(model, counting, tmp_path):
    def press(done_bytes, total_bytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(model, counting, chunk_bytes=CHUNK, cache=ProfileCache(tmp_path), progress=press)
    journal = ProfileCache(tmp_path).journal(counting)
    assert len(journal) == len(counting.calls) > 0


def test_a_damaged_cached_profile_is_measured_again(model, counting, tmp_path):
    cache = ProfileCache(tmp_path / "cache")
    first = profile(model, counting, chunk_bytes=CHUNK, cache=cache)
    (stored,) = (tmp_path / "cache").rglob("*.simio.json")
    stored.write_text(stored.read_text()[:100])
    assert profile(model, counting, chunk_bytes=CHUNK, cache=cache).tensors == first.tensors


def test_a_cache_that_cannot_be_written_says_what_to_do(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SimioError, match="profiling cache") as caught:
        profile(model, parse("zstd:1"), chunk_bytes=CHUNK, cache=ProfileCache(tmp_path / "file"))
    assert "SIMIO_CACHE" in caught.value.hint


@pytest.mark.parametrize("sample", [0.0, -0.1, 1.5, math.nan, math.inf])
def test_a_share_outside_zero_to_one_is_refused(model, sample):
    with pytest.raises(UsageError, match="cannot sample"):
        profile(model, parse("zstd:1"), sample=sample)


@pytest.mark.parametrize("chunk_bytes", [0, -1, 4095, 2**30 + 1])
def test_an_impossible_chunk_size_is_refused(model, chunk_bytes):
    with pytest.raises(UsageError, match="outside 4 KiB to 1 GiB"):
        profile(model, parse("zstd:1"), chunk_bytes=chunk_bytes)


def test_no_workers_is_refused(model):
    with pytest.raises(UsageError, match="0 workers"):
        profile(model, parse("zstd:1"), n_workers=0)


def test_a_preset_cannot_be_profiled(model):
    with pytest.raises(UsageError, match="preset without weights"):
        profile(replace(model, files=()), parse("zstd:1"))


def test_weights_that_end_early_leave_no_profile(model, tmp_path):
    with open(model.files[0], "r+b") as file:
        file.truncate(model.n_bytes // 2)
    with pytest.raises(ModelFileError):
        profile(model, parse("zstd:1"), chunk_bytes=CHUNK, cache=ProfileCache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.simio.json"))


def test_a_stream_shorter_than_promised_is_noticed(model):
    short = replace(model.tensors[0], streams=(Stream("data", "F32", (1,), 0, model.n_bytes - 8, 4096),))
    with pytest.raises(ModelFileError):
        profile(replace(model, tensors=(short,)), parse("zstd:1"))
