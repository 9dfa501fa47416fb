"""The streaming runtime gives the tokens of the model in RAM and reads what was predicted, whatever the settings."""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packed import DENSE, MODELS, N_TOKENS, PROMPT, container, expected, planned, read_per_token, row_bytes, run_it

from simio.container.profile import sizes_of_container
from simio.container.reading import Container
from simio.errors import ContainerError, UsageError
from simio.plan import layout
from simio.plan.layout import Slab, lay_out
from simio.records.plan import Plan
from simio.runtime.matrices import Matrix
from simio.runtime.places import row_blocks
from simio.runtime.schedule import request_of

CODECS = ("raw", "lz4:1", "zstd:1", "byteplane(zstd:1)", "plan")
MIXTURES = tuple(name for name in MODELS if "experts" in name)


def least_staging(path: Path) -> int:
    """Room for the largest step and a row of the table. [bytes]"""
    with Container.open(path) as opened:
        planned = lay_out(sizes_of_container(opened))
    steps = [
        sum(c.stored_bytes + c.raw_bytes * c.is_compressed for c in block.chunks)
        * (1 if isinstance(block, Slab) else min(block.per_step, block.n_experts))
        for block in planned.blocks
    ]
    return max(steps) + planned.row.stored_bytes + planned.tied_row_bytes


def any_settings(rng: random.Random, path: Path) -> dict[str, Any]:
    """Settings that a user could choose."""
    policy = rng.choice(["none", "lru", None])
    settings = {
        "pinned_fraction": rng.choice([0.0, 0.5, 1.0]),
        "cache_policy": policy,
        "cache_bytes": None if policy != "lru" else rng.choice([None, 0, 100_000, 500_000]),
        "cache_form": rng.choice(["raw", "compressed"]),
        "prefetch_depth": rng.choice([0, 1, 3]),
        "queue_depth": rng.choice([1, 4]),
        "n_workers": rng.choice([1, 2]),
        "n_threads": rng.choice([1, 2]),
        "read_bytes": rng.choice([None, 4096, 50_000]),
        "staging_bytes": rng.choice([None, least_staging(path)]),
        "batch_tokens": rng.choice([1, 2, 512]),
        "read_limit_bytes_per_s": rng.choice([None, None, None, 1e8]),
    }
    return {name: value for name, value in settings.items() if value is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("slab_bytes", [layout.SLAB_BYTES, 70_000])
def test_tokens_are_those_of_the_model_in_ram_whatever_the_settings(name, slab_bytes, monkeypatch):
    """70 kB: layers, heads and the experts of a token take several steps each."""
    monkeypatch.setattr(layout, "SLAB_BYTES", slab_bytes)
    rng = random.Random(f"{name} {slab_bytes}")
    for codec in CODECS:
        path = container(name, codec, rng.choice([4096, 16384, 1 << 20]))
        for _ in range(2):
            settings = any_settings(rng, path)
            assert run_it(path, **settings).tokens == expected(name), (codec, path.name, settings)


def test_a_long_prompt_in_many_batches_gives_the_same_tokens():
    prompt = tuple(range(2, 42))
    for batch_tokens in (7, 40, 512):
        ran = run_it(container("tied q8_0"), prompt, batch_tokens=batch_tokens, pinned_fraction=0.3)
        assert ran.tokens == expected("tied q8_0", prompt)
        assert len(ran.measurement.token_s) == N_TOKENS - 1


def reads_per_token(plan: Plan) -> list[int]:
    passes = [plan.passes[index] for index in plan.order[plan.n_setup :]]
    return [sum(fetch.n_reads for step in p.steps for fetch in step.fetches) for p in passes]


BYTES_SETTINGS = (
    {"pinned_fraction": 0.0},
    {"pinned_fraction": 0.5, "read_bytes": 20_000},
    {"pinned_fraction": 0.0, "read_bytes": 4096, "cache_policy": "lru", "cache_bytes": 10**9},
    {"pinned_fraction": 0.3, "read_bytes": 20_000, "cache_policy": "lru", "cache_bytes": 400_000},
    {"pinned_fraction": 0.5, "read_bytes": 20_000, "cache_form": "compressed", "cache_policy": "lru",
     "cache_bytes": 300_000, "prefetch_depth": 3},
    {"pinned_fraction": 1.0},
)  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", DENSE)
def test_every_token_of_a_dense_model_reads_exactly_what_is_predicted(name, codec, monkeypatch):
    """Of the table, predicted is the mean over its rows, measured the rows that were wanted: those are exchanged."""
    path = container(name, codec)
    for number, settings in enumerate(BYTES_SETTINGS):
        monkeypatch.setattr(layout, "SLAB_BYTES", 150_000 if (number + len(codec)) % 2 else 1 << 26)
        ran = run_it(path, **settings)
        plan, laid_out = planned(path, ran)
        mean_row, size = laid_out.row.stored_bytes + laid_out.tied_row_bytes, ran.scenario.read_bytes
        rows = row_bytes(path, ran.tokens[:-1])
        n_bytes = [n - mean_row + row for n, row in zip(read_per_token(plan), rows, strict=True)]
        n_reads = [n - -(-mean_row // size) - row // -size for n, row in zip(reads_per_token(plan), rows, strict=True)]
        assert ran.measurement.per_token["read_bytes"] == tuple(n_bytes), settings
        assert ran.measurement.per_token["n_reads"] == tuple(n_reads), settings


def test_where_all_rows_take_one_chunk_the_bytes_are_exact_as_they_are():
    for codec in ("raw", "zstd:1"):
        path = container("f16", codec, 16384)
        ran = run_it(path, pinned_fraction=0.25)
        plan, laid_out = planned(path, ran)
        assert laid_out.row.stored_bytes == 16384
        assert ran.measurement.per_token["read_bytes"] == tuple(read_per_token(plan))


@pytest.mark.parametrize("chunk_bytes", [4096, 16384, 1 << 20])
@pytest.mark.parametrize("name", DENSE)
def test_the_predicted_read_of_a_row_is_the_mean_over_all_rows(name, chunk_bytes):
    path = container(name, "zstd:1", chunk_bytes)
    with Container.open(path) as opened:
        laid_out = lay_out(sizes_of_container(opened))
        n_rows = opened.model.architecture.vocab_size
    mean = sum(row_bytes(path, range(n_rows))) / n_rows
    assert laid_out.row.stored_bytes + laid_out.tied_row_bytes == pytest.approx(mean, abs=1)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_of_experts_reads_what_is_predicted_within_a_percent(name, codec):
    """Without a cache: which experts a text takes is drawn at random when planning. Experts are of about one size."""
    path = container(name, codec, 4096)
    for pinned_fraction in (0.0, 0.5):
        ran = run_it(path, cache_policy="none", pinned_fraction=pinned_fraction)
        wanted = read_per_token(planned(path, ran)[0])
        assert ran.measurement.per_token["read_bytes"] == pytest.approx(wanted, rel=0.01)


def test_the_cache_of_a_mixture_is_for_experts_only():
    path = container("stacked experts", "raw", 4096)
    ran = run_it(path, pinned_fraction=0.0, cache_policy="lru", n_tokens=30)
    plan, laid_out = planned(path, ran)
    dense = sum(c.stored_bytes for b in laid_out.blocks if isinstance(b, Slab) for c in b.chunks)
    row = laid_out.row.stored_bytes
    assert ran.measurement.per_token["read_bytes"][-1] == dense + row  # all experts have been met by then
    assert min(read_per_token(plan)) >= dense + row


def test_no_read_goes_across_what_the_step_does_not_need():
    """The head of a tied model is the table in front of the container and the norm at its end."""
    path = container("tied q8_0", "raw")
    ran = run_it(path, pinned_fraction=0.0)
    assert max(ran.measurement.per_token["read_bytes"]) <= path.stat().st_size + 65536


def test_chunks_that_are_no_neighbours_are_no_read():
    with Container.open(container("f16")) as opened, pytest.raises(ContainerError, match="order of use"):
        request_of(opened, [3, 5])


def test_weights_that_have_been_used_are_let_go_before_the_next_ones_come():
    """Two steps of a head at once in RAM would be more than staging was planned for."""
    chunks: list[weakref.ref[Chunk]] = []

    def one() -> Chunk:
        chunk = Chunk(200 * 4096)
        chunks.append(weakref.ref(chunk))
        return chunk

    def arriving() -> Iterator[list[Chunk]]:
        for _ in range(4):
            yield [one(), one()]
            assert [chunk() for chunk in chunks] == [None] * len(chunks)

    spans = []
    matrix = Matrix("head", "F32", n_rows=8 * 200, n_cols=1024, n_stacked=1, codes=None, scales=None)
    for part in row_blocks(matrix, arriving()):
        spans += [(block.first_row, block.n_rows) for block in part if len(block.data) == block.n_rows * 4096]
        del part
    assert spans == matrix.row_spans()
    assert len(chunks) == 8


class Chunk(bytearray):
    """Bytes that can be watched."""


def test_what_was_pinned_is_read_once_and_never_again():
    ran = run_it(container("q4_k"), pinned_fraction=1.0)
    assert ran.measurement.counters["load_bytes"] > 0
    rows = row_bytes(container("q4_k"), ran.tokens[:-1])
    assert ran.measurement.per_token["read_bytes"] == tuple(rows)


@pytest.mark.parametrize(
    ("field", "value"),
    [("codec", "lz4:1"), ("chunk_bytes", 8192), ("top_k", 1), ("kv_bytes_per_value", 1.0), ("runtime", "mmap"),
     ("read_ahead_bytes", 8192)],
)  # fmt: skip
def test_what_the_container_decides_is_not_ignored_when_asked_for(field, value):
    with pytest.raises(UsageError, match=field.split("_")[0]):
        run_it(container("f16"), **{field: value})


def test_a_text_longer_than_the_context_is_refused_before_anything_is_loaded():
    with pytest.raises(UsageError, match="context of 128"):
        run_it(container("stacked experts"), PROMPT, n_tokens=127)
    assert len(run_it(container("stacked experts"), PROMPT, n_tokens=126).tokens) == 126
