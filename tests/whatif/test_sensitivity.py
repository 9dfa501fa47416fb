"""simio sensitivity: the tornado against whole predictions on changed devices, the indices against what must hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from command_line import simio as run

import simio
from simio import catalog
from simio.catalog.numbers import numbers, with_numbers
from simio.errors import MissingPackageError, UsageError
from simio.predict import evaluate, resolve
from simio.predict.resolve import complete
from simio.whatif import sensitivity as room

MODEL = "llama-3.1-8b:q4_k_m"
STREAM = {"device": "pixel8", "model": MODEL, "runtime": "stream"}


@pytest.mark.parametrize("name", catalog.names())
def test_every_number_of_a_device_has_its_own_name_and_can_be_changed(name):
    device = catalog.load(name)
    found = numbers(device)
    assert len({n.name for n in found}) == len(found)
    doubled = with_numbers(device, {n.path: 2 * n.quantity.value for n in found})
    assert [n.quantity.value for n in numbers(doubled)] == [2 * n.quantity.value for n in found]
    assert with_numbers(device, {}) == device


@pytest.mark.parametrize(
    "fields",
    [STREAM, STREAM | {"codec": "zstd:1", "ram_bytes": 3 * 10**9}, {"device": "pixel8", "model": MODEL},
     STREAM | {"model": "qwen3-30b-a3b:q4_k_m"}],
    ids=["raw", "zstd", "mmap", "experts"],
)  # fmt: skip
def test_the_tornado_is_what_a_changed_device_file_predicts(fields):
    found = simio.sensitivity(samples=0, **fields)
    asked = simio.Scenario(**fields)
    resolved = resolve(asked)
    path = {n.name: n.path for n in numbers(resolved.device)}
    assert len(found.influences) > 8
    for influence in sorted(found.influences, key=lambda i: -i.swing)[:6]:
        for bound, speed in (("low", influence.at_low), ("high", influence.at_high)):
            device = with_numbers(resolved.device, {path[influence.name]: getattr(influence.quantity, bound)})
            whole = evaluate(complete(replace(asked, codec=resolved.profile.codec), device, resolved.profile))
            assert speed == pytest.approx(whole.tokens_per_s, rel=0.02)


def test_indices_hold_what_they_must():
    found = simio.sensitivity(samples=256, **STREAM, ram_bytes=3 * 10**9)
    indices = [i.sobol for i in found.influences]
    assert all(index is not None for index in indices)
    assert 0.6 < sum(index.first for index in indices) < 1.4
    for index in indices:
        assert index.first <= index.total + index.first_error + index.total_error
    assert [i.sobol.total for i in found.influences] == sorted((i.total for i in indices), reverse=True)
    assert found.n_evaluations == 256 * (len(indices) + 2) + 2 * len(indices)


def test_an_additive_answer_has_the_indices_of_the_textbook(monkeypatch):
    """Of y = 3a + b with a, b standard normal: 0.9 and 0.1 of the variance, first and total alike."""

    class Additive:
        moving = ("a", "b")

        def tokens_per_s(self, z, progress=None):
            return 10 + z @ np.array([3.0, 1.0])

    class Named:
        def __init__(self, name):
            self.name = name

    additive = Additive()
    additive.moving = [Named("a"), Named("b")]
    (a, b), n = room._sobol(additive, 1024, 0, None)
    assert n == 1024 * 4
    for index, share in ((a, 0.9), (b, 0.1)):
        assert index.first == pytest.approx(share, abs=0.02)
        assert index.total == pytest.approx(share, abs=0.02)


def test_ram_given_is_no_number_to_measure():
    assert "memory.usable" in {i.name for i in simio.sensitivity(samples=0, **STREAM).influences}
    assert "memory.usable" not in {i.name for i in simio.sensitivity(samples=0, ram_bytes=10**9, **STREAM).influences}


def test_only_numbers_the_run_meets_are_listed():
    names = {i.name for i in simio.sensitivity(samples=0, **STREAM, ram_bytes=3 * 10**9).influences}
    assert "cpu.gemv.q4_k" in names
    assert not {"cpu.gemv.bf16", "cpu.decompress.zstd", "storage.fault_overhead", "memory.total"} & names
    assert "cpu.decompress.zstd" in {
        i.name for i in simio.sensitivity(samples=0, codec="zstd:1", ram_bytes=3 * 10**9, **STREAM).influences
    }


def test_equal_questions_have_equal_answers():
    assert simio.sensitivity(samples=32, **STREAM) == simio.sensitivity(samples=32, **STREAM)


def test_what_is_counted_is_reported():
    seen = []
    found = simio.sensitivity(samples=32, progress=lambda done, total: seen.append((done, total)), **STREAM)
    assert seen[-1][0] == seen[-1][1] == 32 * (len(found.influences) + 2)


def test_without_salib_the_tornado_is_left(monkeypatch):
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    assert simio.sensitivity(**STREAM).n_samples == 0
    with pytest.raises(MissingPackageError, match="SALib"):
        simio.sensitivity(samples=64, **STREAM)


@pytest.mark.parametrize("samples", [-1, 3, 100, 1 << 20])
def test_other_numbers_of_samples_are_refused(samples):
    with pytest.raises(UsageError, match="samples"):
        simio.sensitivity(samples=samples, **STREAM)


def test_the_command(tmp_path):
    page = tmp_path / "s.html"
    words = ("--device", "pixel8", "--model", MODEL, "--runtime", "stream", "--samples", "32")
    result = run("sensitivity", *words, "--report", page)
    assert result.code == 0
    assert "Measure next:\n  memory.usable" in result.out
    assert "memory.usable" in page.read_text(encoding="utf-8")
    table = run("sensitivity", *words, "--json").json
    first = table["influences"][0]
    assert table["measure_next"][0] == first["name"] == "memory.usable"
    assert math.isfinite(first["sobol"]["total"])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [((), 2, "no --device"), (("--device", "pixle8", "--model", MODEL), 3, "pixel8"),
     (("--device", "pixel8", "--model", MODEL, "--samples", "100"), 2, "power of two"),
     (("--device", "pixel8", "--model", MODEL, "--ram", "1MB"), 6, "RAM"),
     (("nothing.toml",), 2, "no such scenario")],
)  # fmt: skip
def test_what_means_nothing_is_refused(words, code, says):
    result = run("sensitivity", *words)
    assert says in result.err
    assert result.code == code
