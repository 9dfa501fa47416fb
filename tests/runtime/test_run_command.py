"""`simio run` as somebody types it: what it prints and writes, and what it says when asked for nonsense."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import simio
from packed import container, expected, model_file

from simio.importers.simio_run import SimioRun
from simio.records.measurement import Measurement
from simio.records.scenario import Scenario

USAGE, UNKNOWN, INFEASIBLE, CONTAINER = 2, 3, 6, 10


@pytest.fixture
def path() -> Path:
    return container("q4_k")


def test_it_prints_the_text_and_where_the_time_went(path):
    shown = simio("run", path, "--prompt", "1 5 9", "--tokens", "5", "--check", "--ram", "300MB", "--pin", "50%")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("1 5 9 " + " ".join(map(str, expected("q4_k"))))
    for said in (
        "tokens/s", "stall", " per token (", "300 MB", "compute threads", "generated, not trained",
        "equal to those of the same model in RAM (5)",
    ):  # fmt: skip
        assert said in shown.out


def test_it_prints_json_and_writes_a_measurement_that_can_be_imported(path, tmp_path):
    words = ("--prompt", "1 5 9", "--tokens", "5", "--json", "-o", tmp_path / "run.json", "--cache", "lru")
    shown = simio("run", path, *words, "--pin", "50%", "--read-limit", "200MB/s", "--check")
    table = shown.json
    assert (table["prompt"], tuple(table["tokens"])) == ([1, 5, 9], expected("q4_k"))
    assert table["equals_reference"] is True
    (measured,) = SimioRun.read(tmp_path / "run.json")
    assert measured == Measurement.from_json(table["measurement"])
    assert measured.known["read_limit_bytes_per_s"] == 200e6
    assert (measured.known["cache_policy"], measured.known["pinned_fraction"]) == ("lru", 0.5)
    assert len(measured.token_s) == len(measured.per_token["read_bytes"]) == 4
    Scenario(device="pixel8", model=measured.model, **measured.known)


def test_without_a_prompt_it_begins_a_text(path):
    assert simio("run", path, "--tokens", "2", "--json").json["prompt"] == [1]


def test_limits_can_be_those_of_a_device(path):
    known = simio("run", path, "--tokens", "2", "--json", "--device-limits", "pixel8").json["scenario"]
    assert known["ram_bytes"] == 3_900_000_000
    assert known["read_limit_bytes_per_s"] > 1e8
    given = simio("run", path, "--tokens", "2", "--json", "--device-limits", "pixel8", "--ram", "1GB").json["scenario"]
    assert given["ram_bytes"] == 10**9


SETTINGS = [
    # words, exit code, what the message says
    (("--tokens", "1"), USAGE, "--tokens"),
    (("--tokens", "2000000"), USAGE, "--tokens is 2e+06"),
    (("--tokens", "1000000"), USAGE, "the model's context of 32768"),
    (("--prompt", "once upon a time"), USAGE, "no vocabulary"),
    (("--prompt", "99999"), USAGE, "not in the vocabulary of 512"),
    (("--prompt", "-1"), USAGE, "token -1 is not in the vocabulary"),
    (("--prompt", "1 " * 33000), USAGE, "do not fit into the model's context"),
    (("--ram", "1"), USAGE, "--ram '1' is not a quantity with a unit"),
    (("--ram", "1B"), INFEASIBLE, "staging"),
    (("--ram", "1000000000TB"), USAGE, "--ram is 1e+21"),
    (("--read-limit", "0"), USAGE, "--read-limit '0'"),
    (("--read-limit", "0B/s"), USAGE, "--read-limit is 0"),
    (("--read-limit", "400MB"), USAGE, "--read-limit"),
    (("--read-size", "100B"), USAGE, "--read-size is 100"),
    (("--threads", "0"), USAGE, "--threads is 0"),
    (("--threads", "100000"), USAGE, "--threads is 1e+05"),
    (("--workers", "0"), USAGE, "--workers is 0"),
    (("--queue-depth", "0"), USAGE, "--queue-depth is 0"),
    (("--prefetch", "-1"), USAGE, "--prefetch is -1"),
    (("--staging", "10kB"), INFEASIBLE, "raise --staging"),
    (("--staging", "100TB"), INFEASIBLE, "lower --staging"),
    (("--pin", "150%"), USAGE, "not a share"),
    (("--pin", "half"), USAGE, "--pin"),
    (("--cache", "fifo"), UNKNOWN, "unknown cache policy 'fifo'"),
    (("--cache", "none", "--cache-size", "1MB"), USAGE, "cache policy is none"),
    (("--cache-size", "1GB", "--ram", "500MB"), INFEASIBLE, "a weight cache of 1 GB"),
    (("--hold", "frozen"), UNKNOWN, "unknown cache form 'frozen'"),
    (("--context", "4"), USAGE, "--context is 4"),
    (("--device-limits", "abacus"), UNKNOWN, "unknown device 'abacus'"),
    (("--output", "no/such/folder/run.json"), USAGE, "no such directory"),
    (("--output", "."), USAGE, "not a file to write"),
    (("--frobnicate",), USAGE, "--frobnicate"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "says"), SETTINGS, ids=[" ".join(words)[:30] for words, _, _ in SETTINGS])
def test_nonsense_is_refused_with_a_message(words, code, says, path, capfd):
    shown = simio("run", path, *words)
    assert (shown.code, shown.out) == (code, "")
    assert says in shown.err
    assert shown.err.startswith("simio: ")
    assert "Traceback" not in shown.err + capfd.readouterr().err


def test_what_is_no_container_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "empty.simio").touch()
    (tmp_path / "text.simio").write_text("once upon a time")
    for path, says in (
        (model_file("q4_k"), "simio pack MODEL"),
        (tmp_path / "none.simio", "No such file"),
        (tmp_path, "Is a directory"),
        ("", "Is a directory"),
        (tmp_path / "empty.simio", "not a simio container"),
        (tmp_path / "text.simio", "not a simio container"),
        ("/dev/null", "is no file"),
    ):
        shown = simio("run", path)
        assert (shown.code, shown.out) == (CONTAINER, "")
        assert says in shown.err


def test_a_model_that_is_no_decoder_cannot_be_run_and_says_which_can(tmp_path):
    import json

    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "encoder"
    folder.mkdir()
    names = {"embeddings.word_embeddings.weight": (40, 16), "encoder.layer.0.attention.self.query.weight": (16, 16)}
    save_file({name: np.ones(shape, np.float32) for name, shape in names.items()}, folder / "model.safetensors")
    config = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 32, "vocab_size": 40}))
    assert simio("pack", folder, "-o", tmp_path / "encoder.simio").code == 0
    shown = simio("run", tmp_path / "encoder.simio", "--prompt", "1 2")
    assert (shown.code, shown.out) == (USAGE, "")
    assert "architecture 'bert' cannot be run" in shown.err
    assert "llama" in shown.err


def test_settings_far_beyond_the_machine_still_give_the_tokens(path):
    many = ("--queue-depth", "300", "--prefetch", "5000", "--read-size", "1TB")
    shown = simio("run", path, "--prompt", "1 5 9", "--tokens", "5", "--json", "--pin", "0%", "--ram", "1GB", *many)
    assert tuple(shown.json["tokens"]) == expected("q4_k")


@pytest.mark.parametrize("option", ["--threads", "--workers"])
def test_more_threads_than_cores_are_refused(path, option):
    shown = simio("run", path, option, "3000")
    assert shown.code == 2
    assert option in shown.err
    assert "cores" in shown.err


def test_a_damaged_container_is_told_of_by_the_command(path, tmp_path, capfd):
    bad = tmp_path / "bad.simio"
    shutil.copy(path, bad)
    with bad.open("r+b") as file:
        file.seek(200_000)
        file.write(b"damage")
    shown = simio("run", bad, "--tokens", "3")
    assert (shown.code, shown.out) == (CONTAINER, "")
    assert "does not fit its checksum" in shown.err
    assert "Traceback" not in shown.err + capfd.readouterr().err
