"""The whole study: sums, runs of rows, workers, what is left as it is, going on after an interruption."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import save_file
from small_weights import gaussian, tensors

from simio import registry
from simio.codecs import parse as codec
from simio.codecs.base import Codec
from simio.codecs.chunk import compress_chunk
from simio.errors import MissingPackageError, UnknownNameError, UsageError, WriteError
from simio.formats.opening import open_model
from simio.formats.weights import WeightsReader
from simio.quant import parse as layout
from simio.quant.contract import Quantizer, TensorSummary
from simio.study import calibration, compressibility, matrices, quantizing
from simio.study.calibration import Calibration
from simio.study.compressibility import study
from simio.study.journal import StudyJournal
from simio.study.layouts import DEFAULT_CODECS, DEFAULT_LAYOUTS, codecs_of, layouts
from simio.testing import random_activations

QUANTS = ["int8:tensor", "int8:channel", "int4:group32", "int3:group128", "bf16"]
CODECS = ["raw", "zstd:1"]


def run(path, quants=QUANTS, codecs=CODECS, **options):
    options.setdefault("n_workers", 1)
    return study(open_model(path), [layout(q) for q in quants], [codec(c) for c in codecs], **options)


def sizes(found):
    """Everything but rates, which are measured, and errors, sums whose last digit depends on the order."""
    return [(row.quant, row.codec, [replace(t, weight_error=0.0) for t in row.tensors], row.kept) for row in found.rows]


def errors(found):
    """Relative square errors of the weights, row by row."""
    return [t.weight_error for row in found.rows for t in row.tensors]


def test_the_document_has_the_keys_that_were_promised(model_file):
    document = run(model_file, devices=[tiny.device()]).to_json()
    assert [(row["quant"], row["codec"]) for row in document["rows"]] == [(q, c) for q in QUANTS for c in CODECS]
    promised = {
        "quant", "codec", "n_weights", "bits_per_weight", "stored_bits_per_weight", "entropy_bits", "ratio",
        "bound_ratio", "decompress_bytes_per_s", "kl", "tensors",
    }  # fmt: skip
    for row in document["rows"]:
        assert promised <= set(row)
        assert row["kl"] is None
        assert (row["decompress_bytes_per_s"] is None) == (row["codec"] == "raw")
        assert [worth["device"] for worth in row["break_even"]] == ["tiny"]


def test_sums_over_tensors_and_roles_add_up(model_file):
    for row in run(model_file).to_json()["rows"]:
        for parts in (row["tensors"], row["roles"]):
            for key in ("n_weights", "raw_bytes", "stored_bytes", "bound_bytes"):
                assert sum(part[key] for part in parts) == pytest.approx(row[key])
            bits = sum(part["entropy_bits"] * part["n_weights"] for part in parts) / row["n_weights"]
            assert bits == pytest.approx(row["entropy_bits"])
        for tensor in row["tensors"]:
            assert sum(s["raw_bytes"] for s in tensor["streams"]) == tensor["raw_bytes"]
            assert sum(s["stored_bytes"] for s in tensor["streams"]) == tensor["stored_bytes"]
        assert row["ratio"] == pytest.approx(row["bits_per_weight"] / row["stored_bits_per_weight"])
        assert row["bits_per_weight"] == pytest.approx(8 * row["raw_bytes"] / row["n_weights"])


@pytest.mark.parametrize("quant", QUANTS)
def test_a_row_is_what_direct_computation_gives(model_file, quant):
    (row,) = run(model_file, [quant], ["zstd:1"]).rows
    found = {t.tensor: t for t in row.tensors}
    w, zstd = tensors()["model.embed_tokens.weight"], codec("zstd:1")
    streams = layout(quant).quantize(w)
    table = found["model.embed_tokens.weight"]
    raw = {key: stream.tobytes() for key, stream in streams.items()}
    assert {s.name: s.raw_bytes for s in table.streams} == {key: len(data) for key, data in raw.items()}
    assert {s.name: s.stored_bytes for s in table.streams} == {  # no stream is longer than a chunk
        key: len(compress_chunk(zstd, data)) for key, data in raw.items()
    }
    assert 8 * table.raw_bytes / w.size == pytest.approx(layout(quant).bits_per_weight(w.shape))


@pytest.mark.parametrize("run_weights", [257, 8 * 256, 330 * 256])
def test_runs_of_rows_give_what_the_whole_gives(model_file, monkeypatch, run_weights):
    quants = [*QUANTS, "q8_0", "q4_k", "int2:group64:affine", "f8_e4m3", "int4:tensor:affine"]
    codecs = ["raw", "zstd:1", "fields(byteplane(zstd:1))"]
    whole = run(model_file, quants, codecs, chunk_bytes=4096)
    for module in (matrices, quantizing, compressibility):
        monkeypatch.setattr(module, "RUN_WEIGHTS", run_weights)
    in_runs = run(model_file, quants, codecs, chunk_bytes=4096)
    assert sizes(in_runs) == sizes(whole)
    assert errors(in_runs) == pytest.approx(errors(whole), rel=1e-5)


@pytest.mark.parametrize("size", [1e-28, 1e30])
def test_errors_of_tiny_and_huge_weights_are_those_of_ordinary_ones(tmp_path, size):
    found = []
    for scale in (1.0, size):
        save_file({"a.weight": (gaussian((64, 64), 0) * np.float32(scale))}, tmp_path / "a.safetensors")
        found += errors(run(tmp_path / "a.safetensors", ["int8:tensor"], ["raw"]))
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_errors_of_weights_are_those_of_the_dequantized(model_file):
    source, q = open_model(model_file), layout("int4:channel")
    (row,) = run(model_file, ["int4:channel"], ["raw"]).rows
    found, _ = matrices.matrices(source)
    with WeightsReader(source) as reader:
        for table in row.tensors:
            matrix = next(m for m in found if m.tensor.name == table.tensor)
            w = matrix.read(reader, 0, matrix.shape[0])
            off = w - q.dequantize(q.quantize(w), w.shape)
            assert table.weight_error == pytest.approx(np.vdot(off, off) / np.vdot(w, w), rel=1e-4)


def test_workers_change_nothing(model_file):
    assert sizes(run(model_file, n_workers=4)) == sizes(run(model_file))


def test_tensors_that_a_layout_cannot_take_are_listed_with_the_reason(model_file):
    found = run(model_file, ["int8:channel", "int4:group32"], ["raw"])
    everywhere = {"model.norm.weight", "model.layers.1.mlp.gate_proj.weight"}
    channel, group = ({kept.tensor: kept.reason for kept in row.kept} for row in found.rows)
    assert set(channel) == everywhere
    assert channel["model.layers.1.mlp.gate_proj.weight"] == "the weights hold NaN or infinity"
    assert set(group) == everywhere | {"model.layers.1.mlp.up_proj.weight"}
    assert "multiple of 32 weights, got 100" in group["model.layers.1.mlp.up_proj.weight"]
    assert sum(t.n_weights for t in found.rows[0].tensors) == 1000 * 256 + 2 * (256 * 256 + 128 * 512) + 6400


def test_a_layout_that_takes_nothing_is_left_out_with_the_reason(model_file):
    found = run(model_file, ["int4:group4096", "int8:channel"], ["raw"])
    assert [row.quant for row in found.rows] == ["int8:channel"]
    (skipped,) = found.skipped
    assert skipped.quant == "int4:group4096"
    assert "multiple of 4096" in skipped.reason


def test_constant_weights_have_no_entropy_and_no_bound(tmp_path):
    save_file({"a.weight": np.full((64, 64), 0.5, np.float32)}, tmp_path / "halves.safetensors")
    (row,) = run(tmp_path / "halves.safetensors", ["int8:tensor"], ["zstd:1"]).rows
    assert row.sizes.entropy_bits == 0
    assert row.sizes.ratio > 10
    assert row.sizes.bound_bytes <= 1  # a scale of four bytes
    assert replace(row.sizes, bound_bytes=0.0).to_json()["bound_ratio"] is None


@dataclass(frozen=True)
class Whole(Quantizer):
    """Sorts all weights it sees by size: one rank stream, and the weights' count where ``calibrated`` is asked for."""

    wants: bool = False
    n_tokens: int = 0

    @property
    def name(self):
        return "whole"

    @property
    def rows_apart(self):
        return False

    @property
    def needs_activations(self):
        return self.wants and not self.n_tokens

    def calibrated(self, activations):
        return replace(self, n_tokens=activations.n_tokens)

    def quantize(self, w):
        if self.needs_activations:
            raise UsageError("no activations")
        return {"codes": np.argsort(w.reshape(-1)).astype(np.uint16), "tokens": np.array([self.n_tokens], np.uint16)}

    def dequantize(self, streams, shape):
        return np.zeros(shape, np.float32)

    def bits_per_weight(self, shape):
        return 16 + 16 / (shape[0] * shape[1])


def test_a_layout_that_wants_all_rows_sees_them_or_takes_runs_for_matrices_of_their_own(tmp_path, monkeypatch):
    save_file({"a.weight": gaussian((640, 64))}, tmp_path / "a.safetensors")
    model = open_model(tmp_path / "a.safetensors")
    monkeypatch.setattr(quantizing, "RUN_WEIGHTS", 1000)
    (row,) = study(model, [Whole()], [codec("raw")]).rows
    assert {s.name: s.raw_bytes for s in row.tensors[0].streams} == {"codes": 2 * 640 * 64, "tokens": 2}
    monkeypatch.setattr(quantizing, "WHOLE_WEIGHTS", 320 * 64)
    (row,) = study(model, [Whole()], [codec("raw")]).rows
    assert {s.name: s.raw_bytes for s in row.tensors[0].streams} == {"codes": 2 * 640 * 64, "tokens": 4}


def of_one_matrix():
    """Knows the inputs of one matrix."""
    yield "a.weight", random_activations(64)


def test_layouts_that_need_activations_wait_for_them(tmp_path):
    save_file({"a.weight": gaussian((32, 64)), "b.weight": gaussian((32, 64))}, tmp_path / "a.safetensors")
    model = open_model(tmp_path / "a.safetensors")
    found = study(model, [Whole(wants=True)], [codec("raw")])
    assert not found.rows
    assert found.skipped[0].reason == "needs its inputs on a calibration text"
    one = Calibration("text", frozenset({"a.weight"}), of_one_matrix)
    (row,) = study(model, [Whole(wants=True)], [codec("raw")], calibration=one).rows
    assert [t.tensor for t in row.tensors] == ["a.weight"]
    assert [k.tensor for k in row.kept] == ["b.weight"]


@pytest.fixture
def study_of_four(tmp_path):
    """Matrices a to d, d as wide as no group of 64; told of is a to c. The tensors that came, and the study."""
    weights = {f"{name}.weight": gaussian((32, 64), seed) for seed, name in enumerate("abc")}
    save_file({**weights, "d.weight": gaussian((32, 48))}, tmp_path / "a.safetensors")
    model = open_model(tmp_path / "a.safetensors")
    came = []

    def run():
        for name in "abc":
            came.append(name)
            yield f"{name}.weight", random_activations(64)

    def again(quantizers, codecs=("raw",), told="abc"):
        came.clear()
        calibrated = Calibration("text", frozenset(f"{name}.weight" for name in told), run)
        return study(model, quantizers, list(map(codec, codecs)), calibration=calibrated,
                     journal=StudyJournal(tmp_path / "journal.txt"))  # fmt: skip

    return came, again


def test_the_decoder_is_run_only_for_what_is_not_known(study_of_four):
    came, again = study_of_four
    first = again([Whole(wants=True)])
    assert came == ["a", "b", "c"]
    assert [k.reason for k in first.rows[0].kept] == ["its inputs on a calibration text are not known"]
    second = again([Whole(wants=True)])
    assert came == []
    assert second.rows[0].tensors == first.rows[0].tensors
    assert second.rows[0].kept == first.rows[0].kept
    both = again([Whole(wants=True)], ("raw", "zstd:1"))
    assert came == ["a", "b", "c"]
    assert [t.tensor for t in both.rows[1].tensors] == ["a.weight", "b.weight", "c.weight"]


def test_the_decoder_is_run_only_as_far_as_anything_waits(study_of_four):
    came, again = study_of_four
    again([Whole(wants=True)], told="a")
    assert came == ["a"]


def test_what_a_layout_refuses_is_not_asked_again(study_of_four):
    came, again = study_of_four
    first = again([layout("gptq:int4:group128"), Whole(wants=True)])
    assert [s.quant for s in first.skipped] == ["gptq:int4:group128"]
    assert came == ["a", "b", "c"]
    assert again([layout("gptq:int4:group128"), Whole(wants=True)]).skipped == first.skipped
    assert came == []


def test_equal_matrices_with_other_inputs_are_told_apart(tmp_path):
    save_file({f"{name}.weight": gaussian((64, 64)) for name in "ab"}, tmp_path / "a.safetensors")
    model = open_model(tmp_path / "a.safetensors")

    def run():
        yield "a.weight", random_activations(64)
        yield "b.weight", replace(random_activations(64), gram=np.eye(64, dtype=np.float32))

    def errors():
        calibrated = Calibration("text", frozenset({"a.weight", "b.weight"}), run)
        (row,) = study(model, [layout("gptq:int4:group64")], [codec("raw")], calibration=calibrated,
                       journal=StudyJournal(tmp_path / "journal.txt")).rows  # fmt: skip
        return [t.weight_error for t in row.tensors]

    first = errors()
    assert first[0] != first[1]
    assert errors() == first


def test_inputs_on_disk_are_the_same_and_a_full_disk_is_said(monkeypatch):
    seen = random_activations(64)
    kept = calibration.on_disk(seen)
    np.testing.assert_array_equal(kept.gram, seen.gram)
    assert kept.n_tokens == seen.n_tokens
    assert isinstance(kept.gram, np.memmap)
    monkeypatch.setattr(calibration.tempfile, "TemporaryFile", lambda prefix: Path("/dev/full").open("r+b"))  # noqa: SIM115
    with pytest.raises(WriteError, match=r"16,384 bytes .* cannot be kept .*: No space left on device"):
        calibration.on_disk(seen)


@dataclass(frozen=True)
class OneTensor:
    tensor: str
    weight_error: float
    output_error: float | None


@dataclass(frozen=True)
class OneLayout:
    n_kept: int
    kl: float
    perplexity: float
    tensors: tuple[OneTensor, ...]


def test_quality_joins_by_layout_and_tensor(model_file):
    judged = (OneTensor("model.embed_tokens.weight", 1e-5, 0.125),)
    found = {"bf16": OneLayout(0, 0.25, 7.5, judged), "int8:tensor": OneLayout(64, 0.1, 6.0, ())}
    rows = run(model_file, ["int8:tensor", "bf16"], ["raw"], qualities=found).rows
    assert [(row.kl, row.perplexity) for row in rows] == [(None, None), (0.25, 7.5)]  # a part is not the whole
    outputs = {t.tensor: t.output_error for t in rows[1].tensors}
    assert outputs.pop("model.embed_tokens.weight") == 0.125
    assert set(outputs.values()) == {None}


@dataclass(frozen=True)
class Stopping(Codec):
    """zstd that counts, and is interrupted at the ``n_left``-th chunk."""

    calls: tuple[list[int], int]

    @property
    def name(self):
        return "zstd:1"

    @property
    def library_version(self):
        return "counting"

    def compress(self, raw):
        counted, n_left = self.calls
        if len(counted) == n_left:
            raise KeyboardInterrupt
        counted.append(len(raw))
        return codec("zstd:1").compress(raw)

    def decompress(self, stored, raw_bytes):
        return codec("zstd:1").decompress(stored, raw_bytes)


def test_an_interrupted_study_goes_on_where_it_stopped(model_file, tmp_path):
    path, quantizers = tmp_path / "journal.txt", [layout("int8:channel"), layout("int4:group32")]

    def attempt(n_left):
        counted = []
        found = None
        try:
            model = open_model(model_file)
            found = study(model, quantizers, [Stopping((counted, n_left))], n_workers=1, journal=StudyJournal(path))
        except KeyboardInterrupt:
            pass
        return len(counted), found

    straight = study(open_model(model_file), quantizers, [Stopping(([], -1))], n_workers=1)
    stopped, nothing = attempt(12)
    assert (stopped, nothing) == (12, None)
    _, found = attempt(-1)
    assert sizes(found) == sizes(straight)
    again, found = attempt(-1)
    assert again == 0
    assert sizes(found) == sizes(straight)


def test_what_is_done_is_not_done_again_after_an_interruption(model_file, tmp_path):
    path, counts = tmp_path / "journal.txt", []
    for n_left in (12, -1):
        counted = []
        try:
            model = open_model(model_file)
            study(model, [layout("int8:channel")], [Stopping((counted, n_left))], n_workers=1,
                  journal=StudyJournal(path))  # fmt: skip
        except KeyboardInterrupt:
            pass
        counts.append(len(counted))
    fresh = []
    study(open_model(model_file), [layout("int8:channel")], [Stopping((fresh, -1))], n_workers=1)
    assert counts[1] < len(fresh)


def test_another_codec_is_added_to_what_is_known(model_file, tmp_path):
    path, counted = tmp_path / "journal.txt", []
    quantizers, model = [layout("int8:channel")], open_model(model_file)
    study(model, quantizers, [Stopping((counted, -1))], n_workers=1, journal=StudyJournal(path))
    n_first = len(counted)
    both = study(model, quantizers, [Stopping((counted, -1)), codec("raw")], n_workers=1, journal=StudyJournal(path))
    n_for_rates = len(counted) - n_first  # sampled again, because all codecs are measured together
    assert n_for_rates < n_first
    assert [row.codec for row in both.rows] == ["zstd:1", "raw"]


def test_changed_weights_are_studied_again(tmp_path):
    path = tmp_path / "a.safetensors"
    found = []
    for seed in (0, 1):
        save_file({"a.weight": gaussian((64, 64), seed)}, path)
        found.append(sizes(run(path, ["int8:tensor"], ["zstd:1"], journal=StudyJournal(tmp_path / "journal.txt"))))
    assert found[0] != found[1]


def test_damaged_lines_of_the_journal_cost_time_only(model_file, tmp_path):
    path = tmp_path / "journal.txt"
    first = run(model_file, journal=StudyJournal(path))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff rubbish\n" + data[len(data) // 2 + 3 :])
    assert sizes(run(model_file, journal=StudyJournal(path))) == sizes(first)


def test_a_journal_that_cannot_be_written_is_an_error(model_file, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        run(model_file, journal=StudyJournal(tmp_path / "file" / "journal.txt"))


def test_a_full_disk_of_the_cache_costs_the_memory_of_the_study_not_the_study(model_file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("simio.profiling.journal.os.write", full)
    told = []
    found = run(model_file, journal=StudyJournal(tmp_path / "journal.txt", told.append))
    assert sizes(found) == sizes(run(model_file))
    assert [type(error) for error in told] == [WriteError]


def test_progress_ends_at_all_weights(model_file):
    seen = []
    run(model_file, ["int8:tensor", "int4:group32"], ["raw"], progress=lambda done, total: seen.append((done, total)))
    done, total = seen[-1]
    assert done == total
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_names_with_commas_all_and_none():
    assert [q.name for q in layouts(["int8:tensor, q4_k", "int8"])] == ["int8:tensor", "q4_k"]
    assert [c.name for c in codecs_of(["fields(byteplane(zstd:1)),raw"])] == ["fields(byteplane(zstd:1))", "raw"]
    assert {q.name for q in layouts([])} <= set(DEFAULT_LAYOUTS)
    assert {"raw", "zstd:1"} <= {c.name for c in codecs_of([])} <= {*DEFAULT_CODECS}
    every = {q.name.partition(":")[0] for q in layouts(["all"])}
    assert every == set(registry.names("quantizers"))
    assert "byteplane(zstd:1)" in {c.name for c in codecs_of(["all"])}


def test_the_default_does_without_codecs_whose_packages_are_missing(monkeypatch):
    def get(group, name):
        if name in ("rans", "huffman"):
            raise MissingPackageError(f"{name} needs the package 'numba'", "pip install numba")
        return there(group, name)

    there = registry.get
    monkeypatch.setattr(registry, "get", get)
    assert {c.name for c in codecs_of([])} == set(DEFAULT_CODECS) - {"rans", "huffman"}
    with pytest.raises(MissingPackageError):
        codecs_of(["rans"])


def test_names_that_are_not_known():
    with pytest.raises(UnknownNameError, match="q4k") as error:
        layouts(["int8:tensor,q4k"])
    assert "q4_k" in error.value.hint
    with pytest.raises(UsageError, match="empty name"):
        layouts(["int8:tensor,,q4_k"])
    with pytest.raises(UnknownNameError):
        codecs_of(["zstdd"])


def test_the_matrices_of_a_real_decoder(shared):
    found = run(shared / "models/stories260K-fp32/stories260K.bin", ["int8:tensor", "int8:channel"])
    ratios = {row.quant: row.sizes.ratio for row in found.rows if row.codec == "zstd:1"}
    bounds = {row.quant: row.sizes.entropy_bits for row in found.rows}
    assert ratios["int8:tensor"] > ratios["int8:channel"] > 1
    assert bounds["int8:tensor"] < bounds["int8:channel"]
    assert all(t.role in ("embedding", "attention", "mlp", "head") for t in found.rows[0].tensors)


def test_the_entropy_of_gaussian_weights_is_that_of_the_literature(tmp_path):
    save_file({"a.weight": gaussian((1024, 4096))}, tmp_path / "a.safetensors")
    rows = run(tmp_path / "a.safetensors", ["int8:channel", "int8:group128", "int4:group128", "int4:channel"], ["raw"])
    entropies = [row.sizes.entropy_bits for row in rows.rows]
    assert entropies == pytest.approx([7.12, 7.53, 3.38, 2.96], abs=0.03)
    summary = TensorSummary.of(gaussian((1024, 4096)))
    crest = max(summary.high, -summary.low) / summary.mean_square**0.5
    (tensor,) = run(tmp_path / "a.safetensors", ["int8:tensor"], ["raw"]).rows
    assert tensor.sizes.entropy_bits == pytest.approx(2.047 + np.log2(127 / crest), abs=0.01)
