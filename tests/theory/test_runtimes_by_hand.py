"""Every runtime on three layers of 1 MB, with results worked out on paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import MB, device, embedding, head, model, profile, run

from simio.errors import InfeasibleError, UsageError

# A layer of 1 MB: 0.5 ms on the 2 GB/s link, 0.1 ms to multiply at 10 GB/s, 0.1 ms latency of a read.


def test_resident_decode_takes_the_weights_over_the_gemv_rate():
    point = run(profile(model()), device(gemv=1e10, memory=1e11), runtime="resident")
    assert point.token_latencies_s == pytest.approx([3 * MB / 1e10] * 4)
    assert point.plan.hit_ratio == 1.0


def test_resident_decode_takes_the_weights_over_the_memory_bandwidth_where_that_is_slower():
    point = run(profile(model()), device(gemv=1e11, memory=5e9), runtime="resident")
    assert point.token_latencies_s == pytest.approx([3 * MB / 5e9] * 4)


def test_resident_pays_the_layer_overhead_once_per_layer():
    point = run(profile(model()), device(overhead_s=1e-3), runtime="resident")
    assert point.token_latencies_s == pytest.approx([3 * (1e-4 + 1e-3)] * 4)


def test_resident_loads_every_byte_once_before_the_prompt():
    point = run(profile(model()), device(latency_s=1e-9), runtime="resident")
    assert point.load_s == pytest.approx(3 * MB / 2e9, rel=1e-3)
    assert sum(point.timed.link_bytes) == 3 * MB


def test_kv_cache_is_read_in_blocks_of_256_tokens():
    point = run(profile(model(kv_values=1000)), device(gemv=1e12, memory=1e10), runtime="resident", prompt_tokens=254)
    one_block = 3 * (MB + 1000 * 256 * 2.0) / 1e10
    two_blocks = 3 * (MB + 1000 * 512 * 2.0) / 1e10
    assert point.token_latencies_s == pytest.approx([one_block, one_block, two_blocks, two_blocks])


def test_attention_follows_the_weights_even_where_arithmetic_binds():
    # 1 MB of weights: 0.1 ms of DRAM, 1 ms of GEMV. KV of 256 tokens: 0.512 MB, 0.0512 ms of DRAM, 0.512 ms of GEMV.
    point = run(profile(model(kv_values=1000)), device(gemv=1e9, memory=1e10), runtime="resident")
    assert point.token_latencies_s == pytest.approx([3 * (1e-3 + 1000 * 256 * 2.0 / 1e9)] * 4)


def test_prompts_longer_than_a_batch_are_prefilled_in_batches():
    point = run(profile(model()), device(), runtime="resident", prompt_tokens=100, batch_tokens=30)
    kinds = [point.plan.passes[p].kind for p in point.plan.order]
    assert kinds == ["load"] + ["prefill"] * 4 + ["decode"] * 4


def test_every_prompt_token_reads_its_embedding_row():
    with_table = replace(model(), tensors=(embedding(rows=1000, row_bytes=4096), *model().tensors, head(MB)))
    point = run(profile(with_table), device(), runtime="stream", pinned_bytes=0, prompt_tokens=100)
    rows = [f for p in point.plan.passes if p.kind == "prefill" for f in p.steps[0].fetches if not f.sequential]
    assert [(f.n_reads, f.link_bytes) for f in rows] == [(100, 100 * 4096)]


def test_the_head_is_read_only_where_a_token_is_wanted():
    with_head = replace(model(), tensors=(*model().tensors, head(2 * MB)))
    point = run(profile(with_head), device(), runtime="stream", pinned_bytes=0, prompt_tokens=60, batch_tokens=30)
    first, last = (p for p in point.plan.passes if p.kind == "prefill")
    assert sum(f.link_bytes for s in first.steps for f in s.fetches) == 3 * MB
    assert sum(f.link_bytes for s in last.steps for f in s.fetches) == 5 * MB


def test_prefill_takes_the_flop_over_the_rate():
    point = run(profile(model()), device(), runtime="resident", prompt_tokens=100)
    # The tiny model has no head: its last layer's weights are multiplied for all 100 tokens like the others.
    assert point.first_token_s - point.load_s == pytest.approx(2 * 3 * MB * 100 / 1e12)


def test_mmap_below_ram_reads_nothing_after_loading():
    point = run(profile(model()), device(), runtime="mmap")
    assert point.plan.hit_ratio == 1.0
    assert point.token_latencies_s == pytest.approx([3e-4] * 4)


def test_mmap_past_ram_rereads_everything_because_the_scan_is_cyclic():
    point = run(profile(model()), device(read_ahead=MB), runtime="mmap", ram_bytes=2_900_000)
    # One read of 1 MB at depth 1: 0.1 + 0.5 ms. Layer g+1 is read ahead while layer g computes.
    assert point.plan.hit_ratio == 0.0
    assert point.token_latencies_s == pytest.approx([3 * 0.6e-3] * 4)


def test_mmap_with_small_read_ahead_pays_the_latency_more_often():
    point = run(profile(model()), device(read_ahead=4096, fault_s=1e-6), runtime="mmap", ram_bytes=2_900_000)
    n_faults = -(-MB // 4096)
    each = 1e-4 + 4096 / 2e9 + 1e-6
    assert point.token_latencies_s == pytest.approx([3 * n_faults * each] * 4, rel=0.01)


def test_serial_stream_adds_reading_and_computing():
    point = run(profile(model()), device(), runtime="stream", pinned_bytes=0, prefetch_depth=0, queue_depth=8)
    assert point.token_latencies_s == pytest.approx([3 * (0.1e-3 + 0.5e-3 + 0.1e-3)] * 4)


def test_overlapped_stream_is_bound_by_the_link():
    point = run(
        profile(model()),
        device(),
        runtime="stream",
        pinned_bytes=0,
        prefetch_depth=2,
        queue_depth=8,
        staging_bytes=4 * MB,
    )
    assert point.token_latencies_s[-1] == pytest.approx(3 * 0.5e-3)


def test_decompression_binds_where_it_is_slower_than_the_link():
    half = profile(model(), codec="zstd:1", stored=0.5)
    point = run(
        half, device(decompress=1e9), runtime="stream", pinned_bytes=0, n_workers=1, prefetch_depth=3,
        queue_depth=8, staging_bytes=8 * MB,
    )  # fmt: skip
    assert point.token_latencies_s[-1] == pytest.approx(3 * MB / 1e9)


def test_two_workers_halve_a_decompression_bound():
    half = profile(model(), codec="zstd:1", stored=0.5)
    options = {"pinned_bytes": 0, "prefetch_depth": 3, "queue_depth": 8, "staging_bytes": 8 * MB}
    point = run(half, device(decompress=1e9), runtime="stream", n_workers=2, n_tokens=9, **options)
    # Three layers do not divide by two workers, so latencies alternate; two tokens together are even.
    assert sum(point.token_latencies_s[-2:]) == pytest.approx(2 * 3 * MB / 2e9)


def test_the_chunks_of_one_read_are_decompressed_by_all_workers():
    # One layer of 4 chunks is one read; 4 ms of decompression by one worker, 1 ms by four.
    packed = profile(model(n_layers=1, layer_bytes=4 * MB), codec="zstd:1", stored=0.5)
    options = {"runtime": "stream", "pinned_bytes": 0, "prefetch_depth": 0, "queue_depth": 8}
    one, four = (run(packed, device(decompress=1e9), n_workers=n, **options) for n in (1, 4))
    # Four workers and a compute thread share four cores, so each runs at 4/5 of its rate; so does compute.
    assert one.token_latencies_s[-1] - four.token_latencies_s[-1] == pytest.approx(4e-3 - 1.25e-3 - 0.1e-3, rel=1e-6)


def test_idle_workers_do_not_slow_compute():
    packed = profile(model(), codec="zstd:1", stored=0.5)
    point = run(packed, device(n_cores=1), runtime="resident")
    assert point.token_latencies_s == pytest.approx([3e-4] * 4)


def test_pinning_half_the_weights_halves_the_bytes_read():
    big = profile(model(n_layers=10, layer_bytes=10 * MB))
    bytes_read = {
        share: sum(
            f.link_bytes
            for s in run(big, device(), runtime="stream", pinned_fraction=share).plan.passes[-1].steps
            for f in s.fetches
        )
        for share in (0.0, 0.5)
    }
    assert bytes_read[0.0] == 100 * MB
    assert bytes_read[0.5] == 50 * MB


def test_weights_held_compressed_are_not_read_but_decompressed():
    half = profile(model(), codec="zstd:1", stored=0.5)
    point = run(half, device(), runtime="stream", cache_form="compressed", ram_bytes=4_500_000, n_workers=1)
    decode = point.plan.passes[-1]
    assert all(f.link_bytes == 0 and f.decompress_bytes == MB for s in decode.steps for f in s.fetches)
    assert point.token_latencies_s[-1] >= 3 * MB / 1e9 * 0.999


def test_experts_are_read_only_after_their_router_has_computed():
    moe = profile(model(n_layers=2, n_experts=4, top_k=1))
    point = run(
        moe, device(), runtime="stream", pinned_fraction=1.0, cache_policy="none", prefetch_depth=2, queue_depth=8
    )
    # Router layer 0.1 ms, then latency 0.1 + link 0.5 ms, then 0.1 ms for the expert; twice.
    assert point.token_latencies_s[-1] == pytest.approx(2 * (0.1e-3 + 0.1e-3 + 0.5e-3 + 0.1e-3))


def test_an_expert_cache_larger_than_all_experts_reads_each_of_them_once():
    moe = profile(model(n_layers=2, n_experts=4, top_k=4))
    point = run(moe, device(), runtime="stream", pinned_fraction=1.0, cache_policy="lru")
    assert point.plan.hit_ratio == 1.0


def test_a_cache_below_one_token_cycle_says_so():
    moe = profile(model(n_layers=2, n_experts=4, top_k=2))
    point = run(moe, device(), runtime="stream", pinned_fraction=1.0, cache_policy="lru", cache_bytes=3 * MB)
    assert any("below one token cycle" in note for note in point.plan.notes)
    assert point.plan.hit_ratio == pytest.approx(1 / 3)  # the pinned routers, and no expert


def test_ram_below_one_layers_staging_is_refused():
    with pytest.raises(InfeasibleError, match="staging for one layer"):
        run(profile(model()), device(), runtime="stream", ram_bytes=500_000)


def test_resident_weights_that_do_not_fit_are_refused():
    with pytest.raises(InfeasibleError, match="keeping all the weights"):
        run(profile(model()), device(), runtime="resident", ram_bytes=2_000_000)


def test_a_mapped_file_cannot_be_compressed():
    with pytest.raises(UsageError, match="cannot decompress"):
        run(profile(model(), codec="zstd:1", stored=0.5), device(), runtime="mmap")


def test_auto_keeps_what_fits_and_maps_what_does_not():
    assert run(profile(model()), device(), ram_bytes=10 * MB).plan.runtime == "resident"
    assert run(profile(model()), device(), ram_bytes=2 * MB).plan.runtime == "mmap"
