"""A plan that is packed into a container is followed: what is measured is what was planned, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import simio
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import (
    DENSE,
    container,
    expected,
    mixed_plan,
    model_file,
    placed_container,
    plan_rows,
    planned,
    read_per_token,
    row_bytes,
    run_it,
)

from simio.container.profile import sizes_of_container
from simio.container.reading import Container
from simio.errors import InfeasibleError, UsageError
from simio.plan import layout
from simio.profiling import profile_file
from simio.records.codec_profile import CodecProfile
from simio.records.tensor_plan import RESIDENCIES, TensorPlan
from simio.runtime.running import Ran

PACKED = ("zstd:1", "lz4:1")


def everything(name: str, codec: str, place: str) -> tuple[TensorPlan, ...]:
    return plan_rows(name, lambda n, _: (codec, place))


def table_of(path: Path) -> str:
    with Container.open(path) as opened:
        return next(t.name for t in opened.model.tensors if t.role == "embedding")


def is_read_as_planned(path: Path, rows: tuple[TensorPlan, ...], ran: Ran) -> bool:
    """Of a table on flash, planned is the mean over its rows, measured the rows that were wanted: exchanged."""
    plan, laid_out = planned(path, ran)
    place = {row.tensor: row.residency for row in rows}.get(table_of(path), "flash")
    mean_row = laid_out.row.stored_bytes + laid_out.tied_row_bytes if place == "flash" else 0
    taken = row_bytes(path, ran.tokens[:-1]) if place == "flash" else [0] * (len(ran.tokens) - 1)
    wanted = [n - mean_row + row for n, row in zip(read_per_token(plan), taken, strict=True)]
    load = [plan.passes[i] for i in plan.order if plan.passes[i].kind == "load"]
    loaded = sum(fetch.link_bytes for one in load for step in one.steps for fetch in step.fetches)
    return ran.measurement.per_token["read_bytes"] == tuple(wanted) and ran.measurement.counters["load_bytes"] == loaded


@pytest.mark.parametrize("slab_bytes", [layout.SLAB_BYTES, 150_000])
@pytest.mark.parametrize("name", DENSE)
def test_a_mixed_plan_reads_what_is_planned_and_gives_the_tokens_of_the_model_in_ram(name, slab_bytes, monkeypatch):
    monkeypatch.setattr(layout, "SLAB_BYTES", slab_bytes)
    rows = mixed_plan(name)
    path = placed_container(name, rows)
    for choices in ({}, {"prefetch_depth": 0, "read_bytes": 20_000, "batch_tokens": 2, "n_threads": 2}):
        ran = run_it(path, **choices)
        assert ran.tokens == expected(name)
        assert is_read_as_planned(path, rows, ran)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), name=st.sampled_from(DENSE), chunk_bytes=st.sampled_from([4096, 16384, 1 << 20]))
def test_any_plan_is_followed_to_the_byte_and_gives_the_same_tokens(data, name, chunk_bytes):
    one = st.tuples(st.sampled_from(("raw", *PACKED, "byteplane(zstd:1)")), st.sampled_from(RESIDENCIES))
    rows = plan_rows(name, lambda n, tensor: data.draw(one, tensor.name))
    path = placed_container(name, rows, chunk_bytes)
    ran = run_it(path, read_bytes=data.draw(st.sampled_from([4096, 20_000, 1 << 22])))
    assert ran.tokens == expected(name)
    assert is_read_as_planned(path, rows, ran)


def test_a_tensor_in_ram_is_decompressed_once_and_one_in_ram_compressed_at_every_use():
    spent = {}
    for place in RESIDENCIES:
        ran = run_it(placed_container("tied bf16", everything("tied bf16", "zstd:1", place)))
        spent[place] = ran.measurement.per_token
        assert ran.tokens == expected("tied bf16")
    assert {place: set(spent[place]["n_reads"]) for place in ("ram", "ram-compressed")} == {
        "ram": {0}, "ram-compressed": {0},
    }  # fmt: skip
    assert set(spent["ram"]["decompress_s"]) == {0}
    assert min(spent["ram-compressed"]["decompress_s"]) > 0
    assert min(spent["flash"]["n_reads"]) > 0


def test_a_plan_takes_the_ram_it_says_and_no_less():
    rows = mixed_plan("q4_k")
    path = placed_container("q4_k", rows)
    ran = run_it(path)
    use = planned(path, ran)[0].ram
    with Container.open(path) as opened:
        sizes = {t.tensor: t for t in sizes_of_container(opened).tensors}
    held = sum(sum(sizes[row.tensor].raw_bytes) for row in rows if row.residency == "ram")
    padded = (
        -(-n // 4096) * 4096
        for row in rows
        if row.residency == "ram-compressed"
        for n in sizes[row.tensor].stored_bytes
    )
    assert use.weights == held + sum(padded)
    least = use.peak - use.staging // 2  # room for one step, where there was room for two
    assert run_it(path, ram_bytes=least).tokens == expected("q4_k")
    with pytest.raises(InfeasibleError, match="the joint plan"):
        run_it(path, ram_bytes=least - 4096)


@pytest.mark.parametrize(
    "choice",
    [
        {"pinned_fraction": 0.5},
        {"pinned_bytes": 4096},
        {"cache_policy": "lru"},
        {"cache_bytes": 0},
        {"cache_form": "raw"},
    ],
)
def test_a_run_does_not_choose_again_what_the_plan_has_chosen(choice):
    with pytest.raises(UsageError, match="the joint plan says what is in RAM"):
        run_it(placed_container("q4_k", mixed_plan("q4_k")), **choice)


@pytest.fixture
def plan_file(tmp_path):
    """A plan of the model `f16`, as `study joint` writes them."""
    with Container.open(container("f16")) as opened:
        sizes: CodecProfile = sizes_of_container(opened)
    path = tmp_path / "plan.json"
    profile_file.save(CodecProfile(
        sizes.model, "zstd:1", sizes.chunk_bytes, "measured", sizes.tensors, None, None, plan=mixed_plan("f16"),
    ), path)  # fmt: skip
    return path


@pytest.fixture
def packed(plan_file, tmp_path):
    """That model packed by that plan."""
    done = simio("pack", model_file("f16"), "-o", tmp_path / "m.simio", "--plan", plan_file, "--chunk-size", "16KiB")
    assert done.code == 0, done.err
    assert "the plan is kept: tensors: " in done.out
    return tmp_path / "m.simio"


def test_one_plan_file_goes_through_pack_inspect_predict_and_run(packed, plan_file):
    shown = simio("inspect", packed, "--json").json
    assert {name: row["residency"] for name, row in shown["tensor_plan"].items()} == {
        row.tensor: row.residency for row in mixed_plan("f16")
    }
    assert [row["name"] for row in shown["by_residency"]] == list(RESIDENCIES)
    assert "by residency" in simio("inspect", packed).out
    ran = simio("run", packed, "--prompt", "1 5 9", "--tokens", "5", "--check", "--json", "--ram", "300MB")
    assert (ran.code, tuple(ran.json["tokens"])) == (0, expected("f16")), ran.err
    words = ("--device", "pixel8", "--prompt", "3", "--tokens", "5", "--ram", "300MB", "--draws", "0", "--json")
    of_container = simio("predict", "--model", packed, *words)
    of_plan = simio("predict", "--model", plan_file, *words)
    assert (of_container.code, of_plan.code) == (0, 0), of_container.err + of_plan.err
    assert of_container.json["bytes_per_token"] == ran.json["measurement"]["bytes_per_token"]


@pytest.mark.parametrize("words", [("--pin", "50%"), ("--cache", "lru"), ("--hold", "compressed")])
def test_both_commands_refuse_to_choose_again(packed, words):
    for command in (("run", packed), ("predict", "--model", packed, "--device", "pixel8")):
        refused = simio(*command, *words)
        assert (refused.code, refused.out) == (2, "")
        assert f"{words[0]} is given, but the joint plan says what is in RAM" in refused.err
        assert "packed without --plan" in refused.err


def test_text_of_a_run_says_that_a_plan_was_followed(packed):
    shown = simio("run", packed, "--prompt", "1 5 9", "--tokens", "2", "--ram", "300MB")
    assert "  plan           tensors: " in shown.out
    assert "  plan " not in simio("run", container("f16"), "--prompt", "1", "--tokens", "2", "--ram", "300MB").out
