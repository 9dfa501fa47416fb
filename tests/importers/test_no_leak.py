"""No importer lets a measured figure into a question: every one is changed, and device, model and settings stay."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from dataclasses import replace

import pytest

from simio import importers
from simio.importers import simple_csv
from simio.validate import validate

BIGMOE = {
    "ms_mean", "ms_steady_mean", "ms_steady_median", "ms_steady_p95", "io_ms_mean", "compute_ms_mean", "stall_ms_mean",
    "mib_per_token", "hit_pct_final", "majflt_per_token", "cache_budget_mib", "token_demand_mib", "prefill_tps",
    "load_s", "cpu_temp_max_c", "mem_available_floor_mib",
}  # fmt: skip
BIGMOE_INPUTS = {
    "device", "model", "file_gb", "engine", "top_k", "cache_mib", "cache_auto", "io_lanes", "threads", "overlap",
    "prefetch", "spec_gate", "drop_cold", "dense_weights", "n_tokens", "n_prompt", "cpu_temp_start_c",
    "mem_available_start_mib", "run_id", "session", "file",
}  # fmt: skip
PUBLISHED = {"prefill_tps", "decode_tps", "ms_per_token", "load_s"}
HOST = {
    "ms_per_token_median", "ms_per_token_min", "ms_per_token_max", "bytes_read_per_token", "bytes_read_per_token_min",
    "bytes_read_per_token_max", "read_ios_per_token", "majflt_per_token", "minflt_per_token", "own_cpu_util",
    "foreign_cpu", "cache_bytes_end", "active_file_end", "anon_bytes_end", "load_disk_bytes", "load_s",
}  # fmt: skip
#: Columns of a file of tokens that are asked for, not measured.
ASKED = {"step", "steps"}
#: What notes of published runs state as measured: shares of hits, times, rates, bytes that were read.
MEASURED_IN_NOTES = re.compile(
    r"(?:(?<=_pct=)|(?<=_per_tok=)(?<!experts_per_tok=)|(?<=TTFT_s=)|(?<=\bhit )|(?<=peak RSS )|(?<=peak mem ))[\d.]+"
    r"|\b\d+(?:\.\d+)?(?= (?:s|ms|seconds|tok/s|MiB/s|GB/s|W|hit|miss|GB read)\b)"
    r"|(?<=tok/s )[\d.]+/[\d.]+"
)
SEEDS = (1, 2, 3)


def figure(rng):
    """A random measured figure, such as any cell may hold."""
    return f"{rng.uniform(0.001, 99.0):.3f}"


def changed_table(path, target, measured, rng, words=None):
    """A copy of a table with every filled cell of the columns ``measured`` replaced, some of the others emptied."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for column in measured & row.keys():
            if row[column]:
                row[column] = figure(rng)
        for column, change in (words or {}).items():
            row[column] = change(row[column])
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return target


def changed_tokens(path, target, rng):
    """A copy of a file of tokens with all measured cells, and all of its summary but ``n_prompt``, replaced."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = next(line for line in lines if not line.startswith("#"))
    lines = [
        line if line == names or (line.startswith("#") and not line.startswith("# summary"))
        else changed_summary(line, rng) if line.startswith("#")
        else changed_row(line, names.split(","), rng)
        for line in lines
    ]  # fmt: skip
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def changed_summary(line, rng):
    told = {"n_prompt", "tokens"}  # asked for, and a count that the rows bear out
    keys = (word.partition("=")[0::2] for word in line.removeprefix("# summary").split())
    return " ".join(["# summary", *(f"{k}={v if k in told else figure(rng)}" for k, v in keys)])


def changed_row(line, names, rng):
    cells = zip(names, line.split(","), strict=True)
    return ",".join(cell if name in ASKED or not cell else figure(rng) for name, cell in cells)


def questions(runs):
    return [(run.run_id, run.device, run.model, run.known, run.repeat_of, run.kind) for run in runs]


def answers(measured, few):
    """Predictions of a few runs, as ``validate`` makes them."""
    chosen = [
        replace(run, unsupported="", mean_token_s=run.mean_token_s or 1.0) for run in measured if run.run_id in few
    ]
    result = validate(chosen)
    return [
        (r.run_id, r.predicted_ms, r.low_ms, r.high_ms, r.predicted, r.relation) for r in result.rows
    ], result.skipped


def check(before, after, few=()):
    assert questions(before) == questions(after)
    assert [run.mean_token_s for run in before] != [run.mean_token_s for run in after]
    if few:
        found = answers(before, few)
        assert found[0]
        assert found == answers(after, few)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_an_index_of_bigmoe(shared, tmp_path, seed):
    rng, folder = random.Random(seed), shared / "traces" / "oneplus15r"
    (tmp_path / "tokens").mkdir()
    for path in (folder / "tokens").glob("*.csv"):
        changed_tokens(path, tmp_path / "tokens" / path.name, rng)
    after = importers.read(changed_table(folder / "runs.csv", tmp_path / "runs.csv", BIGMOE, rng))
    before = importers.read(folder / "runs.csv")
    few = {"2026-07-12/qwen_c2000_l2", "2026-07-12/gemma_mmap"} if seed == SEEDS[0] else ()
    check(before, after, few)
    assert all(a.token_s != b.token_s for a, b in zip(before, after, strict=True))


def test_the_columns_of_the_index_are_sorted_into_inputs_and_measured(shared):
    with (shared / "traces" / "oneplus15r" / "runs.csv").open(encoding="utf-8") as file:
        assert set(next(csv.reader(file))) == BIGMOE | BIGMOE_INPUTS


@pytest.mark.parametrize("seed", SEEDS)
def test_of_files_of_tokens_alone(shared, tmp_path, seed):
    rng = random.Random(seed)
    for path in sorted((shared / "traces" / "oneplus15r" / "tokens").glob("*.csv")):
        before = importers.read(path)
        after = importers.read(changed_tokens(path, tmp_path / path.name, rng))
        assert questions(before) == questions(after)
        assert before[0].token_s != after[0].token_s


@pytest.mark.parametrize("has_extra_columns", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_of_published_runs(shared, tmp_path, seed, has_extra_columns):
    rng, path = random.Random(seed), shared / "measured" / "runs.csv"
    if not has_extra_columns:
        path = without(path, tmp_path / "plain.csv", {"params_b", "storage_read_MBps"})
    words = {"note": lambda text: MEASURED_IN_NOTES.sub(lambda _: figure(rng), text)}
    before = importers.read(path)
    after = importers.read(changed_table(path, tmp_path / "runs.csv", PUBLISHED, rng, words))
    assert sum(a.note != b.note for a, b in zip(before, after, strict=True)) > 30
    assert [run.unsupported for run in before] == [run.unsupported for run in after]
    check(before, after, {"FB001", "IR243", "IR450"} if seed == SEEDS[0] and has_extra_columns else ())


def without(path, target, columns):
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in columns} for row in csv.DictReader(file)]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return target


@pytest.mark.parametrize("seed", SEEDS)
def test_of_runs_under_a_memory_limit(shared, tmp_path, seed):
    rng, path = random.Random(seed), shared / "traces" / "host-llamacpp" / "runs.csv"
    before = importers.read(path)
    check(before, importers.read(changed_table(path, tmp_path / "runs.csv", HOST, rng)))


@pytest.mark.parametrize("seed", SEEDS)
def test_of_the_simple_csv(shared, tmp_path, seed):
    rng, path = random.Random(seed), tmp_path / "before.csv"
    runs = importers.read(shared / "traces" / "oneplus15r" / "runs.csv")
    path.write_text(simple_csv.to_text([replace(run, device="oneplus15r") for run in runs]), encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        names = set(next(csv.reader(file)))
    measured = {n for n in names if n.startswith("measured_")} | {
        "ms_per_token", "prefill_tps", "load_s", "bytes_per_token"
    }  # fmt: skip
    before = importers.read(path)
    after = importers.read(changed_table(path, tmp_path / "after.csv", measured, rng))
    check(before, after, {"2026-07-12/qwen_c2000_l2"} if seed == SEEDS[0] else ())


@pytest.mark.parametrize("seed", SEEDS)
def test_of_llama_bench(shared, tmp_path, seed):
    rng, folder = random.Random(seed), shared / "traces" / "host-llamacpp" / "llama_bench"
    (tmp_path / "before").mkdir()
    for path in sorted(folder.glob("*.json")):
        tests = json.loads(path.read_text(encoding="utf-8"))
        for test in tests:
            for key in test:
                if key.startswith(("avg_", "stddev_")):
                    test[key] = rng.randint(1, 10**12)
                elif key.startswith("samples_"):
                    test[key] = [rng.randint(1, 10**12) for _ in test[key]]
        same = tmp_path / "before" / path.name
        shutil.copy(path, same)
        changed = tmp_path / path.name
        changed.write_text(json.dumps(tests), encoding="utf-8")
        check(importers.read(same), importers.read(changed))
