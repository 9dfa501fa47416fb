"""Where a plan has tensors lie is part of a container's index: written, read back, checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import simio
from packed import container, mixed_plan, model_file, placed_container, plan_rows
from resealing import resealed

from simio.container.codec_choice import CodecChoice
from simio.container.packing import pack
from simio.container.profile import profile_of_container, sizes_of_container
from simio.container.reading import Container
from simio.errors import ContainerError
from simio.profiling import profile_file
from simio.records.codec_profile import CodecProfile

NAME = "tied q8_0"
PLAN = mixed_plan(NAME)


@pytest.fixture
def packed(tmp_path) -> Path:
    """A copy of a container with a plan."""
    path = tmp_path / "m.simio"
    path.write_bytes(placed_container(NAME, PLAN).read_bytes())
    return path


def facts_of(path: Path) -> dict:
    with Container.open(path) as opened:
        return json.loads(opened.index.facts())


def test_a_container_gives_back_the_plan_it_was_packed_with():
    with Container.open(placed_container(NAME, PLAN)) as opened:
        plan = sizes_of_container(opened).plan
    assert {(row.tensor, row.quant, row.residency) for row in plan} == {
        (row.tensor, row.quant, row.residency) for row in PLAN
    }
    wanted = {row.tensor: row.codec for row in PLAN}
    assert all(row.codec in (wanted[row.tensor], "raw") for row in plan)
    assert {row.codec for row in plan} == {"raw", "lz4:1", "zstd:1"}


def test_the_profile_remembered_of_a_container_has_the_plan_too():
    path = placed_container(NAME, PLAN)
    with Container.open(path) as opened:
        plan = sizes_of_container(opened).plan
    assert [profile_of_container(path).plan for _ in range(2)] == [plan, plan]


@pytest.mark.parametrize(("place_of_most", "codec"), [("ram", "byteplane(lz4:1)"), ("flash", "byteplane(zstd:1)")])
def test_the_codec_of_a_plan_is_that_of_most_bytes_that_tokens_decompress(place_of_most, codec):
    """What is held as it is multiplied is decompressed once, before the first token."""

    def choose(_, tensor):
        return ("byteplane(zstd:1)", place_of_most) if tensor.role == "mlp" else ("byteplane(lz4:1)", "flash")

    with Container.open(placed_container("f16", plan_rows("f16", choose))) as opened:
        assert sizes_of_container(opened).codec == codec


def test_a_container_without_a_plan_says_nothing_of_one():
    assert "residency" not in facts_of(container(NAME))
    assert not {"by_residency", "tensor_plan"} & simio("inspect", container(NAME), "--json").json.keys()


def test_a_plan_changes_the_index_and_no_other_byte(tmp_path):
    codecs = {row.tensor: CodecChoice.everywhere(row.codec).default for row in PLAN}
    choice = CodecChoice(CodecChoice.everywhere("raw").default, codecs)
    without = pack(model_file(NAME), tmp_path / "m.simio", choice, chunk_bytes=16384).path
    facts = facts_of(placed_container(NAME, PLAN))
    assert facts.pop("residency")
    assert facts == facts_of(without)
    with Container.open(without) as opened:
        payload = slice(4096, opened.header.index_offset)
    assert without.read_bytes()[payload] == placed_container(NAME, PLAN).read_bytes()[payload]


def test_a_flipped_bit_in_the_plan_is_detected(packed):
    data = bytearray(packed.read_bytes())
    at = data.index(b'"residency":["') + len(b'"residency":["')
    for offset in range(at, at + 40):
        data[offset] ^= 1
        packed.write_bytes(data)
        data[offset] ^= 1
        with pytest.raises(ContainerError, match=r"index .* does not fit its checksum"):
            Container.open(packed)


IMPOSSIBLE = {
    "a place that there is not": lambda places: places.__setitem__(3, "cloud"),
    "a tensor without a place": lambda places: places.__setitem__(3, None),
    "a row too few": lambda places: places.pop(),
    "a row too many": lambda places: places.append("ram"),
    "a number": lambda places: places.__setitem__(3, 1),
    "a table inside": lambda places: places.__setitem__(3, ["ram"]),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_plan_is_refused_even_with_right_checksums(packed, what):
    resealed(packed, lambda facts: IMPOSSIBLE[what](facts["residency"]))
    with pytest.raises(ContainerError, match="contradicts itself"):
        Container.open(packed)


@pytest.mark.parametrize("places", ["ram", 3, None, {"ram": 1}])
def test_a_plan_that_is_no_list_is_refused(packed, places):
    resealed(packed, lambda facts: facts.__setitem__("residency", places))
    with pytest.raises(ContainerError, match="contradicts itself"):
        Container.open(packed)


def test_a_table_of_which_rows_are_looked_up_has_no_place(tmp_path):
    packed = tmp_path / "m.simio"
    packed.write_bytes(placed_container("f16", mixed_plan("f16")).read_bytes())
    assert facts_of(packed)["residency"].count(None) == 1
    resealed(packed, lambda facts: facts.__setitem__("residency", [place or "ram" for place in facts["residency"]]))
    with pytest.raises(ContainerError, match="token_embd"):
        Container.open(packed)


def test_a_mixture_of_experts_has_no_plan(tmp_path):
    packed = tmp_path / "m.simio"
    packed.write_bytes(container("stacked experts").read_bytes())
    with Container.open(packed) as opened:
        places = [None if t.role == "embedding" else "flash" for t in opened.model.tensors]
    resealed(packed, lambda facts: facts.__setitem__("residency", places))
    with pytest.raises(ContainerError, match="expert"):
        Container.open(packed)


def plan_file(name: str, path: Path, change) -> Path:
    """The plan ``mixed_plan`` of a model as a file, changed."""
    with Container.open(container(name)) as opened:
        sizes = sizes_of_container(opened)
    rows = mixed_plan(name)
    profile = CodecProfile(
        sizes.model, "zstd:1", sizes.chunk_bytes, "measured", sizes.tensors, None, None, plan=tuple(rows)
    )
    profile_file.save(profile, path)
    document = json.loads(path.read_text())
    change(document["tensor_plan"])
    path.write_text(json.dumps(document))
    return path


def test_a_plan_that_leaves_tensors_out_is_refused(tmp_path):
    def leave_out(rows):
        del rows["blk.0.attn_q.weight"], rows["blk.1.attn_q.weight"]

    plan = plan_file("f16", tmp_path / "plan.json", leave_out)
    refused = simio("pack", model_file("f16"), "-o", tmp_path / "m.simio", "--plan", plan)
    assert (refused.code, refused.out) == (2, "")
    assert "does not say where blk.0.attn_q.weight and 1 more" in refused.err
    assert not (tmp_path / "m.simio").exists()


@pytest.mark.parametrize(("planned", "given"), [("f16", "tied bf16"), ("tied bf16", "f16")])
def test_a_plan_of_another_model_is_refused(tmp_path, planned, given):
    plan = plan_file(planned, tmp_path / "plan.json", lambda rows: None)
    refused = simio("pack", model_file(given), "-o", tmp_path / "m.simio", "--plan", plan)
    assert (refused.code, refused.out) == (2, "")
    assert "joint plan" in refused.err
    assert "for this very model" in refused.err


def test_a_plan_of_a_model_of_another_size_is_refused(tmp_path):
    plan = plan_file("f16", tmp_path / "plan.json", lambda rows: None)
    document = json.loads(plan.read_text())
    columns = document["model"]["tensors"]
    at = columns["name"].index("blk.1.ffn_up.weight")
    columns["n_weights"][at] *= 2
    plan.write_text(json.dumps(document))
    refused = simio("pack", model_file("f16"), "-o", tmp_path / "m.simio", "--plan", plan)
    assert (refused.code, refused.out) == (2, "")
    assert "blk.1.ffn_up.weight has 262144 weights there, 131072 in" in refused.err


@pytest.mark.parametrize(("place", "code"), [("flash", 0), ("ram", 2), ("ram-compressed", 2)])
def test_a_looked_up_table_cannot_be_held_by_a_plan(tmp_path, place, code):
    row = {"quant": "f16", "codec": "raw", "residency": place}
    plan = plan_file("f16", tmp_path / "plan.json", lambda rows: rows.__setitem__("token_embd.weight", row))
    done = simio("pack", model_file("f16"), "-o", tmp_path / "m.simio", "--plan", plan)
    assert done.code == code
    assert ("holds token_embd.weight in RAM" in done.err) == bool(code)
