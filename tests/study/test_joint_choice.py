"""The joint choice as a whole: budgets kept, never slower than one choice for all, and as fast as predictions allow."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from studied import LAYOUTS, MB, choices, decoder, read, setting, slow_disk, study
from tiny import device

from simio.errors import SimioError, UsageError
from simio.predict import laws
from simio.predict.point import evaluate
from simio.predict.resolve import complete
from simio.records.model import Tensor
from simio.study import exhaustive
from simio.study.candidates import AS_STORED, candidates
from simio.study.choice_table import table
from simio.study.joint import joint
from simio.study.milp import solve
from simio.study.mixed_profile import mixed_profile

#: Between the errors of int8 and of int4: some matrices can be int4, not all.
BETWEEN = 2e-3


def predicted_s(profile, made):
    latencies = evaluate(complete(made.scenario, made.device, profile)).token_latencies_s
    return sum(latencies) / len(latencies)


@pytest.mark.parametrize("grain", ["tensor", "layer"])
@pytest.mark.parametrize("ram", [8 * MB, 9 * MB, 12 * MB, 30 * MB])
@pytest.mark.parametrize("cost", [5e-4, BETWEEN, 1e-2])
def test_budgets_are_kept_and_no_single_choice_is_faster(grain, ram, cost):
    found = joint(choices(decoder(3)), setting(ram, cost, grain=grain))
    outcome = found.outcome
    assert outcome.cost <= cost * (1 + 1e-9)
    assert outcome.cost == pytest.approx(sum(row.cost for row in outcome.rows))
    assert outcome.ram_bytes <= found.ram_budget == ram
    assert found.singles
    assert all(single.outcome.cost <= cost * (1 + 1e-9) for single in found.singles)
    assert min(s.outcome.predicted_s for s in found.singles) >= outcome.predicted_s * (1 - 1e-3)
    if grain == "layer":
        for layer in range(3):
            assert len({(r.quant, r.codec, r.residency) for r in outcome.rows if r.layer == layer}) == 1


def test_a_mixture_pays_where_the_budget_lies_between_two_layouts():
    found = joint(choices(decoder(3)), setting(8 * MB, BETWEEN))
    assert found.factor > 1.25
    assert {row.quant for row in found.outcome.rows} >= {"int8:tensor", "int4:group32"}


@pytest.mark.parametrize("decompress", [4e8, 4e9])
@pytest.mark.parametrize("ram", [8 * MB, 9 * MB, 12 * MB, 30 * MB])
def test_the_linear_model_says_what_the_prediction_says(ram, decompress):
    outcome = joint(choices(decoder(3)), setting(ram, BETWEEN, slow_disk(decompress=decompress))).outcome
    assert outcome.model_s == pytest.approx(outcome.predicted_s, rel=0.05)
    assert outcome.bound_s <= outcome.model_s * (1 + 1e-9)


def looking_up(of, is_tied):
    """``of`` with a table, one row of which every token reads; it is the head, too, where ``is_tied``."""
    table_ = Tensor("token_embd.weight", (2000, 1000), "F16", "embedding", None, None, 1, 2_000_000, 4_000_000)
    rest = [t for t in of.tensors if not (is_tied and t.role == "head")]
    return replace(of, tensors=(table_, *rest), n_bytes=4_000_000 + sum(t.n_bytes for t in rest))


@pytest.mark.parametrize("prefetch", [1, 2, 7, 9])
@pytest.mark.parametrize("latency", [1e-5, 1e-3, 2e-2])
@pytest.mark.parametrize("is_tied", [False, True])
def test_with_all_weights_in_ram_the_linear_model_is_the_prediction(is_tied, latency, prefetch):
    """Also where the row of a table that each token reads takes longer than many steps compute."""
    slow = device(bandwidth=2e8, latency_s=latency, memory=2e10, usable=64 * MB)
    kernels = {"int8": 1e10, "int4": 4e9, "f16": 3e10, "f32": 1e10}  # arithmetic binds some steps, traffic others
    gemv = {kernel: replace(slow.cpu.gemv["int8"], value=rate) for kernel, rate in kernels.items()}
    made = setting(60 * MB, BETWEEN, replace(slow, cpu=replace(slow.cpu, gemv=gemv)), prefetch_depth=prefetch)
    made = replace(
        made, scenario=replace(made.scenario, n_tokens=1500)
    )  # the first tokens, which wait less, hardly count
    outcome = joint(choices(looking_up(decoder(3), is_tied), codecs=("raw",)), made).outcome
    assert {row.residency for row in outcome.rows} == {"ram"}
    assert outcome.model_s == pytest.approx(outcome.predicted_s, rel=1e-3)


def test_the_row_of_a_table_that_is_the_head_is_read_where_the_head_is():
    of = looking_up(decoder(3), is_tied=True)
    regime = candidates(choices(of), setting(60 * MB, BETWEEN), decompresses=False)
    assert regime.problem.row_s == 0
    (head,) = [item for item, group in enumerate(regime.items) if group[0].tensor.role == "embedding"]
    columns = range(*regime.problem.options_of(head).indices(len(regime.residency)))
    of_place = {regime.residency[c]: c for c in columns if regime.labels[c] == AS_STORED}
    assert regime.problem.held[of_place["flash"]] == 2 * 4096
    assert regime.problem.seconds[of_place["ram"], 0] == 0


def test_few_tensors_are_placed_as_trying_every_selection_places_them():
    made = setting(5 * MB, BETWEEN)
    regime = candidates(choices(decoder(2, head=0), layouts=LAYOUTS[:1] + LAYOUTS[3:]), made, decompresses=True)
    small = regime.problem.only(regime.problem.undominated())
    assert exhaustive.n_selections(small) > 1000
    tried, solved = exhaustive.best(small), solve(regime.problem)
    assert solved.latency_s == pytest.approx(small.latency_s(tried), rel=1e-6)


def test_no_selection_of_few_tensors_is_predicted_much_faster():
    """Every selection that keeps the budgets, predicted by the recurrence."""
    of = decoder(2, head=0)
    made = setting(5 * MB, BETWEEN)
    offered = choices(of, codecs=("raw",), layouts=LAYOUTS[:1] + LAYOUTS[3:])
    found = joint(offered, made)
    regime = candidates(offered, made, decompresses=False)
    problem, best = regime.problem, np.inf
    slices = [problem.options_of(item) for item in range(problem.n_items)]
    n_tried = 0
    for selection in product(*(range(s.start, s.stop) for s in slices)):
        chosen = np.array(selection)
        if problem.quality(chosen) > BETWEEN:
            continue
        profile = mixed_profile(of, regime.chosen(chosen), made.device, MB, "tried")
        try:
            best = min(best, predicted_s(profile, made))
        except SimioError:
            continue  # does not fit
        n_tried += 1
    assert n_tried > 100
    assert best <= found.outcome.predicted_s <= best * 1.02


def test_the_plan_is_what_the_prediction_ran():
    made = setting(8 * MB, BETWEEN)
    outcome = joint(choices(decoder(3)), made, full_check=True).outcome
    plan = {one.tensor: one for one in outcome.profile.plan}
    assert predicted_s(outcome.profile, made) == outcome.predicted_s
    for row in outcome.rows:
        assert (plan[row.tensor].quant, plan[row.tensor].codec) == (row.quant, row.codec)
        assert plan[row.tensor].residency == row.residency
        kept = next(t for t in outcome.profile.model.tensors if t.name == row.tensor)
        assert kept.n_bytes == row.raw_bytes
    assert plan["blk.0.attn_norm.weight"].residency == "ram"
    laws.check(evaluate(complete(made.scenario, made.device, outcome.profile)), made.scenario, full=True)


def test_a_budget_of_ram_that_cannot_be_kept_names_the_least_that_can():
    offered = choices(decoder(3))
    with pytest.raises(UsageError, match=r"RAM budget of 6 MB: the least is") as refused:
        joint(offered, setting(6 * MB, 1e-4))
    mib = int(refused.value.hint.split("at least ")[1].split("MiB")[0])
    assert joint(offered, setting(mib << 20, 1e-4)).outcome.predicted_s > 0
    with pytest.raises(UsageError, match="RAM budget"):
        joint(offered, setting((mib - 1) << 20, 1e-4))


def test_a_budget_of_quality_that_cannot_be_kept_names_the_least_that_can():
    made = setting(60 * MB, 1e-6)
    assert joint(choices(decoder(3)), made).outcome.cost == 0  # as stored

    with pytest.raises(UsageError, match=r"quality budget of 1e-06: the least is 6\.") as refused:
        joint(choices(decoder(3)), replace(made, may_keep=False))
    least = float(refused.value.hint.split("at least ")[1].split(",")[0])
    assert least == pytest.approx(choices(decoder(3)).cost_of("int8:group32"), rel=1e-3)


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_a_budget_that_means_nothing_is_refused(cost):
    with pytest.raises(UsageError, match="quality budget"):
        joint(choices(decoder(2)), setting(60 * MB, cost))


def test_more_budget_is_never_slower():
    offered = choices(decoder(3))
    by_ram = [joint(offered, setting(ram * MB, BETWEEN)).outcome.model_s for ram in (8, 9, 10, 16)]
    by_cost = [joint(offered, setting(8 * MB, cost)).outcome.model_s for cost in (1e-4, 5e-4, BETWEEN, 1e-2)]
    for times in (by_ram, by_cost):
        assert all(later <= earlier * (1 + 2e-3) for earlier, later in pairwise(times))


def test_costs_add_up_to_what_was_measured():
    of = decoder(3)
    by_kl = choices(of, "kl")
    for layout in LAYOUTS:
        assert by_kl.cost_of(layout.name) == pytest.approx(10 * layout.error)
    heads = [c for c in by_kl.choices if c.tensor.role == "head"]
    mlps = [c for c in by_kl.choices if c.tensor.name == "blk.0.ffn_up.weight"]
    assert heads[0].options[0].cost == pytest.approx(4 * mlps[0].options[0].cost)  # twice the weights, twice the error
    with pytest.raises(UsageError, match="no output_error"):
        table(of, read(study(of)), "output_error")
    with pytest.raises(UsageError, match="no quantizer 'q4_k'"):
        by_kl.cost_of("q4_k")


def test_a_preset_takes_the_means_of_its_roles():
    of = replace(decoder(2, scale=3), source="preset")
    borrowed = table(of, read(study(decoder(3))), "weight_error")
    assert "6" not in borrowed.notes[0].split("of")[0]
    own = choices(decoder(2, scale=3))
    assert not own.notes
    for a, b in zip(borrowed.choices, own.choices, strict=True):
        for option, same in zip(a.options, b.options, strict=True):
            assert option.label == same.label
            assert option.raw_bytes == pytest.approx(same.raw_bytes, abs=2)
            assert option.stored_bytes == pytest.approx(same.stored_bytes, rel=1e-3)
            assert option.cost == pytest.approx(same.cost)


@pytest.mark.parametrize("of", [decoder(2), decoder(3, scale=2)])
def test_the_study_of_another_model_is_refused_for_a_file(of):
    with pytest.raises(UsageError, match="not of made up, which has no blk") as refused:
        table(of, read(study(decoder(3))), "weight_error")
    assert "simio study compressibility" in refused.value.hint


def test_a_study_of_other_weights_of_the_same_shapes_is_named():
    of, document = decoder(3), study(decoder(3))
    assert not table(of, read(document | {"digest": of.digest}), "weight_error").notes
    (note,) = table(of, read(document | {"digest": "abc"}), "weight_error").notes
    assert "other weights" in note


def test_layouts_and_tensors_that_were_not_measured_are_left_out_and_named():
    """q4 left a matrix as it was, so that its KL is not that of a whole; a tied table is not quantized in that run."""
    of = looking_up(decoder(3), is_tied=True)
    document = study(of, kl=True)
    for row in document["rows"]:
        if row["quant"] == "int4:group32":
            row["kl"] = None
        for tensor in row["tensors"]:
            tensor["output_error"] = None if tensor["role"] == "embedding" else tensor["weight_mse"]
    made = table(of, read(document), "kl")
    assert {quant for quant, _ in made.labels} == {layout.name for layout in LAYOUTS} - {"int4:group32"}
    assert [c.tensor.name for c in made.choices if not c.options] == ["token_embd.weight"]
    assert made.notes == (
        "int4:group32: no kl in the study, so not chosen",
        "token_embd.weight: no kl in the study under int8:tensor, int8:group32, int4:tensor, so as stored beside them",
    )
    assert made.cost_of("int4:tensor") == pytest.approx(10 * 0.2)
    assert table(of, read(document), "output_error").notes[0].startswith("token_embd.weight: no output_error")
    assert joint(made, setting(30 * MB, 1e-2)).outcome.cost <= 1e-2
    with pytest.raises(UsageError, match="no quantizer 'int4:group32' with kl"):
        made.cost_of("int4:group32")


def test_a_codec_without_a_rate_on_the_device_is_left_out():
    found = joint(choices(decoder(2), codecs=("raw", "brotli:5")), setting(12 * MB, BETWEEN))
    assert {row.codec for row in found.outcome.rows} == {"raw"}
    assert any("brotli:5" in note for note in found.notes)


def test_a_layout_that_does_not_take_every_tensor_is_named():
    of = decoder(3)
    document = study(of)
    for row in document["rows"]:
        if row["quant"] == "int4:group32":
            row["tensors"] = [t for t in row["tensors"] if t["role"] != "head"]
    made = table(of, read(document), "weight_error")
    assert made.notes == ("int4:group32: 6 of 7 tensors in the study; the others stay as stored beside them",)
    head = next(c for c in made.choices if c.tensor.role == "head")
    assert head.under(("int4:group32", "raw")) == head.kept
