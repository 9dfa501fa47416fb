"""A fit finds the factors that made the runs, is not carried away, leaves out what it says, writes what it found."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from itertools import product
from math import exp, log

import numpy as np
import pytest
from command_line import simio

from simio import catalog
from simio.calibrate import fit_parameters
from simio.calibrate.fit_document import write_fit
from simio.calibrate.fit_lattice import STEP, Lattice
from simio.calibrate.fit_parameters import PARAMETERS, Parameter, entries, present, quantities, scaled
from simio.calibrate.fit_runs import Answers
from simio.calibrate.fitting import Fitter, cross_validate, fit
from simio.errors import MissingPackageError, UsageError
from simio.predict import predict
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario
from simio.units import MIB

DEVICE = "oneplus15r"
TRUTH = {"storage": log(0.8), "gemv": log(1.3)}
MODELS = ("llama-3.2-1b:q4_0", "llama-3.2-3b:q4_k_m")


def asked():
    """Runs that stream, by how much and with how many threads, and runs in RAM."""
    short = {"n_tokens": 4, "prompt_tokens": 1}
    for model, threads, share in product(MODELS, (1, 4), (0.0, 0.5)):
        known = {"runtime": "stream", "n_threads": threads, "pinned_fraction": share, "prefetch_depth": 0} | short
        yield model, known
    for model, threads in product(MODELS, (1, 2, 4)):
        yield model, {"runtime": "resident", "n_threads": threads, "ram_bytes": 10**10} | short


def measured(truth=None, noise=0.03, device=DEVICE):
    """What a device whose numbers are ``truth`` times those of the file would show."""
    rng = random.Random(5)
    runs = [
        Measurement(run_id=f"{'ab'[i % 2]}/{i}", device=device, model=model, known=known, mean_token_s=1.0)
        for i, (model, known) in enumerate(asked())
    ]
    answers = Answers(catalog.load(device), runs)
    assert not answers.skipped
    true = scaled(answers.device, TRUTH if truth is None else truth)
    times = [exp(answers.log_ms(run.question, true) + rng.gauss(0, noise)) / 1e3 for run in answers.runs]
    return [replace(run, mean_token_s=s) for run, s in zip(runs, times, strict=True)]


@pytest.fixture(scope="module")
def runs():
    return measured()


@pytest.fixture(scope="module")
def fitter(runs):
    return Fitter(runs, DEVICE)


@pytest.fixture(scope="module")
def found(fitter):
    return fitter.fit()


def by_name(result):
    return {p.name: p for p in result.parameters}


@pytest.mark.parametrize("name", TRUTH)
def test_the_factors_that_made_the_runs_are_found_within_their_bounds(found, name):
    p = by_name(found)[name]
    assert p.is_fitted
    wide = (p.high / p.low) ** 0.5  # twice the 80 % interval
    assert p.low / wide < exp(TRUTH[name]) < p.high * wide
    assert p.factor == pytest.approx(exp(TRUTH[name]), rel=0.12)


def test_a_fit_is_surer_than_the_file_was(found):
    for name in TRUTH:
        p = by_name(found)[name]
        assert p.high / p.low < 0.8 * p.prior_high / p.prior_low


def test_a_parameter_no_run_responds_to_stays_where_it_was(found):
    p = by_name(found)["fault_overhead"]
    assert (p.is_fitted, p.factor, p.response) == (False, 1.0, 0.0)
    assert found.device.storage.fault_overhead == catalog.load(DEVICE).storage.fault_overhead


def test_runs_in_ram_say_nothing_of_storage(runs):
    in_ram = [run for run in runs if run.known["runtime"] == "resident"]
    assert not by_name(fit(in_ram, DEVICE))["storage"].is_fitted


def test_the_residual_is_the_noise_of_the_runs():
    quiet, loud = (fit(measured(noise=noise), DEVICE).residual for noise in (0.01, 0.3))
    assert quiet < 0.05
    assert 0.15 < loud < 0.45


def test_odd_runs_do_not_carry_the_fit_away(runs, found):
    odd = [replace(run, mean_token_s=4 * run.mean_token_s) if i in (2, 9) else run for i, run in enumerate(runs)]
    for name in TRUTH:
        assert by_name(fit(odd, DEVICE))[name].factor == pytest.approx(by_name(found)[name].factor, rel=0.06)


def test_a_fit_is_closer_than_the_file_to_runs_it_has_not_seen(fitter):
    held_out = fitter.cross_validate("run")
    assert held_out.fitted.median < 0.06
    assert held_out.before.median > 0.1
    assert held_out.fitted.coverage >= 0.6


@pytest.mark.parametrize("by", ["run", "session", "model"])
def test_what_is_left_out_is_not_looked_at(runs, by):
    changed = [replace(runs[0], mean_token_s=3 * runs[0].mean_token_s), *runs[1:]]
    before, after = (cross_validate(some, DEVICE, by) for some in (runs, changed))
    first, same = before.rows[0], after.rows[0]
    assert (same.predicted_ms, same.low_ms, same.baseline_ms) == (first.predicted_ms, first.low_ms, first.baseline_ms)
    assert same.measured_ms == pytest.approx(3 * first.measured_ms)
    outside = next(i for i, row in enumerate(before.rows) if row.group != first.group)
    assert after.rows[outside].predicted_ms != before.rows[outside].predicted_ms


def test_a_slow_session_of_many_runs_is_one_slow_session():
    """Two thirds of the runs come from one afternoon on which everything took 1.5 times as long."""
    plain = measured(noise=0.0)
    slow = [
        replace(run, run_id=f"slow/{i}", mean_token_s=1.5 * run.mean_token_s) for i, run in enumerate([*plain, *plain])
    ]
    others = [replace(run, run_id=f"{'abc'[i % 3]}/{i}") for i, run in enumerate(plain)]
    gemv = by_name(fit([*others, *slow], DEVICE))["gemv"].factor
    unnamed = [replace(run, run_id=f"{i}") for i, run in enumerate([*others, *slow])]
    assert gemv > 1.15 * by_name(fit(unnamed, DEVICE))["gemv"].factor
    assert gemv == pytest.approx(exp(TRUTH["gemv"]), rel=0.15)


def test_runs_of_one_session_are_fitted_as_if_they_had_none(runs):
    one = fit([replace(run, run_id=f"one/{i}") for i, run in enumerate(runs)], DEVICE)
    none = fit([replace(run, run_id=f"{i}") for i, run in enumerate(runs)], DEVICE)
    assert one.logs == none.logs


def test_repeats_are_left_out_together(runs):
    twice = [replace(run, run_id=f"{k}-{run.run_id}", repeat_of=run.run_id) for run in runs for k in (1, 2)]
    assert cross_validate(twice, DEVICE, "setting").n_groups == len(runs)


def test_the_baseline_is_a_line_in_bytes_for_every_model(fitter):
    n_bytes = {run.question: fitter.answers.questions[run.question].n_bytes for run in fitter.runs}
    lines = [replace(run, measured_ms=20 + n_bytes[run.question] / 1e7) for run in fitter.runs]
    other = Fitter.__new__(Fitter)
    other.__dict__ = fitter.__dict__ | {"runs": tuple(lines), "_measured": np.log([run.measured_ms for run in lines])}
    rows = other.cross_validate("run").rows
    assert [row.baseline_ms for row in rows] == pytest.approx([row.measured_ms for row in rows], rel=1e-6)


def test_predictions_are_those_of_predict(fitter):
    device = catalog.load(DEVICE)
    for run, (model, known) in zip(fitter.runs, asked(), strict=True):
        p = predict(Scenario(device=DEVICE, model=model, draws=0, **known), suggestions=False)
        assert exp(fitter.answers.log_ms(run.question, device)) == pytest.approx(1e3 / p.tokens_per_s, rel=1e-9)


@pytest.mark.parametrize("known", [
    {"runtime": "mmap", "ram_bytes": 10**9}, {"runtime": "stream", "codec": "zstd:1", "ram_bytes": 10**9},
    {"runtime": "stream", "cache_bytes": 2000 * MIB, "ram_bytes": 10**12, "pinned_fraction": 1.0},
])  # fmt: skip
def test_so_they_are_of_any_runtime(known):
    model = "qwen3-30b-a3b:q4_k_m" if "cache_bytes" in known else MODELS[0]
    run = Measurement("a", DEVICE, model, known | {"n_tokens": 6, "prompt_tokens": 8}, mean_token_s=1.0)
    answers = Answers(catalog.load(DEVICE), [run])
    p = predict(Scenario(device=DEVICE, model=model, draws=0, n_tokens=6, prompt_tokens=8, **known), suggestions=False)
    assert exp(answers.log_ms(0, answers.device)) == pytest.approx(1e3 / p.tokens_per_s, rel=1e-9)


def test_the_file_reproduces_the_fit_and_says_what_it_was_fitted_on(fitter, found, runs, tmp_path):
    output = tmp_path / "mine.toml"
    held_out = fitter.cross_validate("run")
    write_fit(found, fitter.touched(found), held_out, DEVICE, [tmp_path / "runs.csv"], output)
    device = catalog.load(str(output))
    (source,) = [one for one in device.sources if one.id == "fitted"]
    assert source.kind == "fitted"
    assert source.url.startswith(f"simio calibrate --device {DEVICE} --runs")
    assert all(run.run_id in source.note for run in runs)
    assert f"median {held_out.fitted.median:.1%}" in source.note
    again = Answers(device, [replace(run, device="mine") for run in runs])
    predicted = [exp(again.log_ms(run.question, device)) for run in again.runs]
    assert predicted == pytest.approx(found.predicted_ms, rel=2e-3)


def test_numbers_no_run_touches_keep_their_doubt(fitter, found, tmp_path):
    output = tmp_path / "mine.toml"
    device = write_fit(found, fitter.touched(found), None, DEVICE, [], output)
    before, gemv = catalog.load(DEVICE).cpu.gemv["iq2"], device.cpu.gemv["iq2"]
    assert gemv.value == pytest.approx(before.value * by_name(found)["gemv"].factor, rel=1e-3)
    assert gemv.high / gemv.low == pytest.approx(before.high / before.low, rel=1e-2)
    assert device.cpu.gemv["q4_k"].high / device.cpu.gemv["q4_k"].low < 0.8 * gemv.high / gemv.low


def test_every_parameter_finds_its_numbers_in_record_and_file_alike():
    import tomllib

    for name in ("host-epyc-zen3", DEVICE):
        device, table = catalog.load(name), tomllib.loads(catalog.find(name).read_text())
        for parameter in present(device):
            assert len(entries(table, parameter)) == len(quantities(device, parameter)) > 0
            moved = scaled(device, {parameter.name: log(2)})
            assert [q.value for q in quantities(moved, parameter)] == pytest.approx(
                [2 * q.value for q in quantities(device, parameter)]
            )


def test_a_parameter_that_moves_plans_is_planned_anew(monkeypatch):
    reserve = Parameter("ram", ("memory.usable",), "RAM of one app", moves_plan=True)
    monkeypatch.setattr(fit_parameters, "PARAMETERS", (*PARAMETERS[:2], reserve))
    known = {"runtime": "stream", "n_tokens": 4, "prompt_tokens": 1}
    models = [f"llama-3.1-8b:{quant}" for quant in ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0")]
    runs = [
        Measurement(f"{model} with {threads}", DEVICE, model, known | {"n_threads": threads}, mean_token_s=1.0)
        for model, threads in product(models, (1, 4))
    ]
    answers = Answers(catalog.load(DEVICE), runs)
    true = scaled(answers.device, {"ram": log(0.7)})
    times = [exp(answers.log_ms(run.question, true, [log(0.7)])) / 1e3 for run in answers.runs]
    found = by_name(fit([replace(run, mean_token_s=s) for run, s in zip(runs, times, strict=True)], DEVICE))
    assert found["ram"].factor == pytest.approx(0.7, rel=0.1)


def test_a_fitted_file_can_be_fitted_again(fitter, found, runs, tmp_path):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    write_fit(found, fitter.touched(found), None, DEVICE, [], first)
    again = Fitter(runs, str(first))
    assert again.is_cited
    device = write_fit(again.fit(), again.touched(again.fit()), None, str(first), [], second)
    for name in TRUTH:
        assert by_name(again.fit())[name].factor == pytest.approx(1, abs=0.08)
    assert device.cpu.gemv["q4_k"].kind == "fitted"


@pytest.mark.parametrize(("table", "said"), [
    ({"residual": 0.1}, "a bare number"), ({"scatter": 1}, "unknown key"), ({}, "is missing"), (3, "expected a table"),
])  # fmt: skip
def test_a_residual_is_held_against_the_schema(table, said):
    import tomllib

    top = tomllib.loads(catalog.find(DEVICE).read_text()) | {"fit": table}
    _, problems = catalog.parse(top, DEVICE)
    assert any(said in str(problem) and "fit" in problem.where for problem in problems)


def test_names_of_parameters_are_unique():
    assert len({p.name for p in PARAMETERS}) == len(PARAMETERS)


def test_the_lattice_is_exact_at_its_points_and_for_planes():
    slopes = np.array([[1.0, -2.0, 0.0], [0.5, 0.25, 3.0]])
    lattice = Lattice(lambda x: slopes @ x + 7, 3)
    for point in ([0.0, 0.0, 0.0], [0.31, -0.77, 0.123], [STEP, 2 * STEP, -STEP]):
        value, found = lattice(np.array(point), (0, 1, 2))
        assert value == pytest.approx(slopes @ point + 7)
        assert found == pytest.approx(slopes)


def test_runs_of_other_devices_are_left_out_and_none_at_all_is_an_error(runs):
    mixed = [*runs, replace(runs[0], run_id="x", device="pixel8")]
    assert [s.run_id for s in Fitter(mixed, DEVICE).skipped] == ["x"]
    with pytest.raises(UsageError, match="no run is of pixel8"):
        Fitter(runs, "pixel8")


def test_too_few_runs_are_refused_with_the_reasons(runs):
    with pytest.raises(UsageError, match=r"1 runs of oneplus15r can be predicted\n +1 GPU"):
        Fitter([runs[0], replace(runs[1], unsupported="GPU")], DEVICE)


def test_groups_that_are_one_cannot_be_left_out(runs):
    with pytest.raises(UsageError, match="all runs are of one session"):
        cross_validate([run for run in runs if run.run_id.startswith("a/")], DEVICE, "session")
    with pytest.raises(UsageError, match="by 'moon'"):
        cross_validate(runs, DEVICE, "moon")


def test_without_scipy_the_package_is_named(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingPackageError) as error:
        Fitter(runs, DEVICE)
    assert error.value.hint == "pip install 'simio[fit]'"


def test_nothing_of_a_fit_is_imported_by_other_commands():
    code = "import sys, simio.cli; assert 'scipy' not in sys.modules and 'simio.calibrate.fitting' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def csv(tmp_path, runs):
    columns = ("runtime", "n_threads", "pinned_fraction", "prefetch_depth", "ram_bytes", "n_tokens", "prompt_tokens")
    lines = [",".join(["run_id,device,model,ms_per_token", *columns])]
    for run in runs:
        cells = [run.run_id, run.device, run.model, f"{1e3 * run.mean_token_s!r}"]
        lines.append(",".join([*cells, *(str(run.known.get(c, "")) for c in columns)]))
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_command_prints_the_errors_and_writes_the_file(csv, tmp_path):
    output = tmp_path / "mine.toml"
    done = simio("calibrate", "--device", DEVICE, "--runs", csv, "-o", output)
    assert (done.code, done.err) == (0, "")
    for said in ("gemv", "each run left out (14)", "each session left out (2)", "C + bytes/bandwidth", "unexplained"):
        assert said in done.out
    assert "fitted" in {source.kind for source in catalog.load(str(output)).sources}
    assert simio("predict", "--device", output, "--model", MODELS[0], "--json").code == 0


def test_without_an_output_the_fit_is_shown_and_nothing_written(csv, tmp_path):
    before = sorted(tmp_path.iterdir())
    done = simio("calibrate", "--device", DEVICE, "--runs", csv, "--json")
    assert done.json["written"] is None
    assert [one["by"] for one in done.json["cross_validation"]] == ["run", "session", "model"]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--runs", "CSV"], 2, "--runs without --device"),
    (["host", "--runs", "CSV"], 2, "choose one of host, --from, --runs and --adb"),
    (["--runs", "CSV", "--device", "nokia"], 3, "unknown device 'nokia'"),
    (["--runs", "none.csv", "--device", DEVICE], 2, "none.csv: no such file"),
    (["--runs", "CSV", "--device", "pixel8"], 2, "no run is of pixel8"),
    (["--runs", "CSV", "--device", DEVICE, "--kind", "wet"], 2, "no such runs"),
    (["--runs", "CSV", "--device", DEVICE, "-o", "My.toml"], 2, "is no device id"),
    (["--runs", "CSV", "--device", DEVICE, "-o", "nowhere/a.toml"], 2, "no such directory"),
    (["--runs", "CSV", "--device", DEVICE, "--serial", "1"], 2, "--serial means nothing"),
    (["host", "--kind", "in_ram", "-o", "a.toml"], 2, "--kind means nothing"),
])  # fmt: skip
def test_bad_input_is_one_message(csv, words, code, said):
    done = simio("calibrate", *(str(csv) if word == "CSV" else word for word in words))
    assert done.code == code
    assert said in done.err
