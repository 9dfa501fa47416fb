"""A joint plan as a file: written by ``study joint``, read by ``predict`` and ``pack``."""

from __future__ import annotations

import json
from dataclasses import replace

import decoders
import pytest
from command_line import simio
from studied import MB, Layout, choices, decoder, setting, slow_disk, study
from tiny import run

from simio.codecs import parse as codec
from simio.container.codec_choice import CodecChoice
from simio.container.reading import Container
from simio.errors import ProfileError, UsageError
from simio.formats.opening import open_model
from simio.plan.layout import lay_out
from simio.plan.placed import Placed
from simio.profiling import profile_file
from simio.quant import parse as layout
from simio.records.tensor_plan import TensorPlan
from simio.study.choices import Option
from simio.study.compressibility import study as compressibility
from simio.study.joint import joint
from simio.study.mixed_profile import Chosen, mixed_profile
from simio.study.study_file import read_study
from simio.study.tidy import parquet

BETWEEN = 2e-3


@pytest.fixture
def plan_path(tmp_path):
    path = tmp_path / "plan.json"
    profile_file.save(joint(choices(decoder(3)), setting(8 * MB, BETWEEN)).outcome.profile, path)
    return path


def test_a_plan_file_holds_every_tensor_and_comes_back_as_it_was(plan_path):
    document = json.loads(plan_path.read_text())
    assert document["tensor_plan"].keys() == {t.name for t in decoder(3).tensors}
    assert set(document["tensor_plan"]["output.weight"]) == {"quant", "codec", "residency"}
    profile = profile_file.load(plan_path)
    again = plan_path.with_name("again.json")
    profile_file.save(profile, again)
    assert profile_file.load(again) == profile
    assert again.read_text() == plan_path.read_text()


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("output.weight", {"quant": "int8", "codec": "raw", "residency": "cloud"}, "'cloud' is none of ram"),
        ("output.weight", {"quant": "int8", "codec": "raw"}, "output.weight needs 'quant', 'codec' and 'residency'"),
        ("output.weight", {"quant": 8, "codec": "raw", "residency": "ram"}, "output.weight needs 'quant'"),
        ("nobody.weight", {"quant": "int8", "codec": "raw", "residency": "ram"}, "no tensor nobody.weight"),
        ("output.weight", "ram", "output.weight needs 'quant', 'codec' and 'residency'"),
    ],
)
def test_a_damaged_plan_is_refused_in_plain_words(plan_path, name, row, says):
    document = json.loads(plan_path.read_text())
    document["tensor_plan"][name] = row
    plan_path.write_text(json.dumps(document))
    with pytest.raises(ProfileError, match=f"damaged joint plan: .*{says}") as refused:
        profile_file.load(plan_path)
    assert "Error(" not in refused.value.message
    assert "study joint" in refused.value.hint


def hand_made(places, codec="raw", stored=1.0):
    """Two matrices of 1 MB in a layer each, INT8, at these places."""
    of = decoder(2, head=0)
    chosen = []
    matrices = [t for t in of.tensors if t.role == "attention"]
    for tensor, place in zip(matrices, places, strict=True):
        option = Option("int8:tensor", codec, "INT8", MB // 2, round(stored * MB / 2), 1.0, 1.0, 0.0)
        chosen.append(Chosen(tensor, option, place))
    rest = [t for t in of.tensors if t.role == "mlp"]
    chosen += [Chosen(t, Option("int8:tensor", "raw", "INT8", MB, MB, 0.0, 1.0, 0.0), "ram") for t in rest]
    return mixed_profile(of, chosen, slow_disk(), MB, "by hand")


def test_the_planner_reads_what_lies_on_flash_and_holds_the_rest():
    placed = Placed(lay_out(hand_made(["flash", "ram"])), 4 * MB)
    fetched = [placed.slab(i, block) for i, block in enumerate(placed.layout.blocks)]
    assert [sum(f.link_bytes for f in fetches) for fetches in fetched] == [MB // 2, 0]
    assert placed.held_bytes == 2 * MB + MB // 2 + 2 * 4000
    compressed = Placed(lay_out(hand_made(["ram-compressed", "flash"], "zstd:1", 0.5)), 4 * MB)
    first, second = (compressed.slab(i, block) for i, block in enumerate(compressed.layout.blocks))
    assert [(f.link_bytes, f.decompress_bytes) for f in first] == [(0, MB // 2)]
    assert [(f.decompress_bytes, f.link_bytes < MB // 2) for f in second] == [(MB // 2, True)]
    assert sum(f.link_bytes for fetches in compressed.load() for f in fetches) == compressed.held_bytes


def test_a_token_takes_what_the_flash_takes():
    """Half a megabyte at 200 MB/s are 2.5 ms; all else is hidden or small."""
    point = run(hand_made(["flash", "ram"]), slow_disk(), ram_bytes=8 * MB)
    steady = point.token_latencies_s[-1]
    assert 0.0025 < steady < 0.0025 * 1.2
    assert point.plan.ram.peak <= 8 * MB
    assert point.plan.runtime == "stream"
    everything = run(hand_made(["ram", "ram"]), slow_disk(), ram_bytes=8 * MB)
    assert everything.plan.hit_ratio == 1.0


@pytest.mark.parametrize("codec_name", ["raw", "zstd:1", "lz4:1"])
def test_a_codec_beside_a_plan_is_refused(plan_path, codec_name):
    refused = simio("predict", "--device", "pixel8", "--model", plan_path, "--codec", codec_name)
    assert refused.code == 2
    assert "--codec is given" in refused.err
    assert "joint plan" in refused.err


def test_a_plan_made_for_another_device_says_so(plan_path):
    on_another = simio("predict", "--device", "pixel8", "--model", plan_path, "--draws", "0", "--json")
    assert any("made for tiny: on pixel8" in note for note in on_another.json["notes"])
    document = json.loads(plan_path.read_text())
    assert document["planned_for"] == "tiny"
    plan_path.write_text(json.dumps(document | {"planned_for": "pixel8"}))
    there = simio("predict", "--device", "pixel8", "--model", plan_path, "--draws", "0", "--json")
    assert not any("made for" in note for note in there.json["notes"])
    assert not any("--codec" in one["command"] for one in there.json["suggestions"])


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"pinned_bytes": MB}, "joint plan says"),
        ({"cache_form": "compressed"}, "joint plan says"),
        ({"runtime": "mmap"}, "does not follow"),
        ({"runtime": "resident"}, "does not follow"),
    ],
)
def test_what_the_plan_has_decided_is_not_chosen_again(choices, says):
    with pytest.raises(UsageError, match=says):
        run(hand_made(["flash", "ram"]), slow_disk(), ram_bytes=8 * MB, **choices)


def test_a_residency_is_one_of_three():
    with pytest.raises(ValueError, match="cloud"):
        TensorPlan("a", "int8", "raw", "cloud")


@pytest.fixture
def study_path(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(study(decoder(3))))
    return path


WORDS = ("llama-3.2-1b:bf16", "--device", "pixel8", "--ram", "900MB", "--tokens", "8", "--prompt", "8")


def test_the_command_writes_a_plan_that_predict_repeats(study_path, tmp_path):
    plan = tmp_path / "plan.json"
    options = ("--study", study_path, "--quality", "2e-3", "--per", "layer", "--time-limit", "5")
    found = simio("study", "joint", *WORDS, *options, "-o", plan, "--json")
    assert found.code == 0, found.err
    assert found.json["cost"] <= found.json["cost_budget"] == 2e-3
    assert found.json["gap"] >= 0
    assert found.json["factor"] >= 0.999
    assert {"tensor", "quant", "codec", "residency", "bits_per_weight"} <= set(found.json["tensors"][0])
    again = simio("predict", *WORDS[1:], "--model", plan, "--draws", "0", "--json")
    assert again.json["tokens_per_s"] == pytest.approx(found.json["tokens_per_s"], rel=1e-9)
    assert again.json["peak_ram_bytes"] == found.json["ram_bytes"]


def test_the_command_as_text(study_path):
    options = ("--study", study_path, "--quality", "int8:tensor", "--per", "layer", "--time-limit", "5")
    found = simio("study", "joint", *WORDS, *options)
    assert found.code == 0, found.err
    assert "× the best single choice" in found.out
    assert "proven optimal to" in found.out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "no --quality"),
        (("--quality", "q9_9"), "no quantizer 'q9_9'"),
        (("--quality", "1e-3", "--measure", "taste"), "no measure"),
        (("--quality", "1e-3", "--measure", "kl"), "no kl"),
        (("--quality", "1e-3", "--per", "row"), "nothing to choose by"),
        (("--quality", "1e-3", "--ram", "100MB"), "RAM budget"),
        (("--quality", "1e-3", "--prefetch", "0"), "--prefetch"),
        (("--quality", "1e-3", "--gap", "2"), "--gap"),
    ],
)
def test_bad_options_are_one_message(study_path, options, says):
    found = simio("study", "joint", *WORDS, "--study", study_path, "--time-limit", "5", *options)
    assert found.code == 2
    assert says in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": [{"quant": "int8"}]}', '{"rows": 3}'])
def test_what_is_no_study_is_refused(tmp_path, content):
    path = tmp_path / "study.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="study"):
        read_study(path)


def test_parquet_says_the_same(tmp_path, study_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = [
        {
            "model": "made up",
            "quant": row["quant"],
            "codec": row["codec"],
            "relative_rate": row["relative_rate"],
            **tensor,
        }
        for row in study(decoder(3))["rows"]
        for tensor in row["tensors"]
    ]
    path = tmp_path / "study.parquet"
    pandas.DataFrame(rows).to_parquet(path)
    assert read_study(path) == read_study(study_path)


def test_the_older_name_of_weight_error_is_read(tmp_path, study_path):
    assert "weight_mse" in study_path.read_text()
    newer = tmp_path / "newer.json"
    newer.write_text(study_path.read_text().replace("weight_mse", "weight_error"))
    assert read_study(newer) == read_study(study_path)
    assert read_study(newer).records[0].weight_error > 0


def test_both_files_of_a_study_say_the_same_of_kl_rates_and_the_model(tmp_path, model_file):
    pytest.importorskip("pyarrow")
    found = compressibility(open_model(model_file), [layout("int8:tensor"), layout("q4_k")], [codec("zstd:1")])
    kls = (0.25, None)
    found = replace(found, rows=tuple(replace(row, kl=kl) for row, kl in zip(found.rows, kls, strict=True)))
    as_json, as_parquet = tmp_path / "study.json", tmp_path / "study.parquet"
    as_json.write_text(json.dumps(found.to_json()))
    as_parquet.write_bytes(parquet(found))
    read = read_study(as_parquet)
    assert read == read_study(as_json)
    assert read.digest == found.digest
    assert sum(r.kl for r in read.records if r.quant == "int8:tensor") == pytest.approx(0.25)
    assert {r.relative_rate for r in read.records} != {1.0}


def test_a_mixture_of_experts_is_refused(study_path):
    found = simio(
        "study", "joint", "qwen3-30b-a3b:q4_k_m", "--device", "pixel8", "--study", study_path, "--quality", "1"
    )
    assert found.code == 2
    assert "dense models" in found.err


@pytest.fixture
def model_path(tmp_path):
    path, shape = tmp_path / "model.gguf", decoders.Shape("llama", n_layers=2)
    decoders.write_gguf(path, shape, decoders.random_arrays(shape), "F16")
    return path


def plan_of(model, layouts, path):
    offered = choices(model, layouts=layouts, codecs=("zstd:1",))
    outcome = joint(offered, setting(4 * MB, 1.0)).outcome
    profile_file.save(outcome.profile, path)
    return outcome


def test_pack_takes_the_codecs_of_a_plan_for_the_layouts_that_the_file_has(model_path, tmp_path):
    model, plan, packed = open_model(model_path), tmp_path / "plan.json", tmp_path / "model.simio"
    outcome = plan_of(model, (Layout("f16", 16.0, 1.3, 0.0),), plan)
    done = simio("pack", model_path, "-o", packed, "--plan", plan)
    assert done.code == 0, done.err
    codecs = {row.tensor: row.codec for row in outcome.rows}
    with Container.open(packed) as container:
        for name, codec in codecs.items():
            pieces = container.pieces_of(name)
            numbers = [n for piece in pieces for n in container.chunks_of(piece)]
            used = {container.index.codecs[container.chunk(n).codec][0] for n in numbers}
            assert used <= {codec, "raw"}


def test_pack_refuses_a_plan_of_other_layouts(model_path, tmp_path):
    plan = tmp_path / "plan.json"
    plan_of(open_model(model_path), (Layout("int8:tensor", 8.0, 1.5, 1e-4),), plan)
    assert CodecChoice.load(plan).dtypes
    refused = simio("pack", model_path, "-o", tmp_path / "model.simio", "--plan", plan)
    assert refused.code == 2
    assert "joint plan stores" in refused.err
    assert "more) in another layout: INT8 instead of F16" in refused.err


def test_pack_refuses_a_plan_of_another_model(model_path, plan_path, tmp_path):
    refused = simio("pack", model_path, "-o", tmp_path / "model.simio", "--plan", plan_path)
    assert refused.code == 2
    assert "the joint plan is of another model" in refused.err


def test_pack_takes_neither_a_study_nor_a_profile_for_a_plan(model_path, study_path, tmp_path):
    as_plan = simio("pack", model_path, "-o", tmp_path / "model.simio", "--plan", study_path)
    assert (as_plan.code, "a study, no plan" in as_plan.err) == (2, True)
    profile = tmp_path / "p.simio.json"
    assert simio("profile", model_path, "--codec", "zstd:1", "-o", profile).code == 0
    as_plan = simio("pack", model_path, "-o", tmp_path / "model.simio", "--plan", profile)
    assert (as_plan.code, "a profile, no plan" in as_plan.err) == (2, True)
