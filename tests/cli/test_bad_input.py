"""Bad input: one message with what, where and what to do; an exit code by kind; no traceback; nothing half-written."""

from __future__ import annotations

import pytest
from command_line import simio

BASE = ("predict", "--device", "pixel8", "--model", "llama-3.2-1b:q4_0")
USAGE, UNKNOWN, MODEL_FILE, DEVICE_FILE, INFEASIBLE, PROFILE = 2, 3, 4, 5, 6, 8

OPTIONS = [
    # words, exit code, what the message says
    (("--ram", "3"), USAGE, "--ram '3' is not a quantity with a unit"),
    (("--ram", "-3GB"), USAGE, "negative"),
    (("--ram", "3gb"), USAGE, "unknown unit 'gb'"),
    (("--ram", "3M"), USAGE, "unknown unit 'M'"),
    (("--ram", "nanGB"), USAGE, "--ram"),
    (("--ram", "3GB/s"), USAGE, "bytes"),
    (("--ram", ""), USAGE, "--ram"),
    (("--ram", "0B"), USAGE, "--ram is 0"),
    (("--staging", "big"), USAGE, "--staging"),
    (("--pin", "half"), USAGE, "--pin"),
    (("--pin", "x%"), USAGE, "not a share"),
    (("--pin", "150%"), USAGE, "not a share"),
    (("--pin", "-5%"), USAGE, "not a share"),
    (("--pin", "nan%"), USAGE, "not a share"),
    (("--cache-size", "1"), USAGE, "--cache-size"),
    (("--chunk-size", "12B"), USAGE, "--chunk-size is 12"),
    (("--read-size", "1kB"), USAGE, "--read-size is 1000"),
    (("--tokens", "0"), USAGE, "--tokens is 0"),
    (("--tokens", "1"), USAGE, "at least 2"),
    (("--tokens", "ten"), USAGE, "--tokens"),
    (("--prompt", "0"), USAGE, "--prompt is 0"),
    (("--batch", "0"), USAGE, "--batch is 0"),
    (("--context", "0"), USAGE, "--context is 0"),
    (("--threads", "0"), USAGE, "--threads is 0"),
    (("--workers", "-1"), USAGE, "--workers is -1"),
    (("--queue-depth", "0"), USAGE, "--queue-depth is 0"),
    (("--prefetch", "-1"), USAGE, "--prefetch is -1"),
    (("--kv-bytes", "nan"), USAGE, "--kv-bytes is"),
    (("--kv-bytes", "0"), USAGE, "--kv-bytes is"),
    (("--top-k", "0"), USAGE, "--top-k is 0"),
    (("--seed", "-1"), USAGE, "--seed is"),
    (("--draws", "-1"), USAGE, "--draws is"),
    (("--check", "some"), USAGE, "--check some"),
    (("--colour", "red"), USAGE, "--colour"),
    (("--ram", "1e305GB"), USAGE, "finite"),
    (("--ram", "1e40GB"), USAGE, "--ram is"),
    (("--pin", "50"), USAGE, "--pin '50'"),
    (("--queue-depth", "1000000000"), USAGE, "--queue-depth is"),
    (("--draws", "100000000"), USAGE, "--draws is"),
    (("--context", "100"), USAGE, "below the 128 prompt tokens"),
    (("--threads", "64"), USAGE, "has 9 cores"),
    (("--workers", "64"), USAGE, "has 9 cores"),
    (("--top-k", "2"), USAGE, "0 experts"),
    (("--runtime", "mmap", "--pin", "50%"), USAGE, "--pin means nothing to the runtime mmap"),
    (("--runtime", "mmap", "--queue-depth", "8"), USAGE, "--queue-depth means nothing"),
    (("--runtime", "resident", "--cache-size", "1GB"), USAGE, "--cache-size means nothing"),
    (("--runtime", "stream", "--cache", "none", "--cache-size", "1GB"), USAGE, "--cache-size is given"),
    (("--report", ""), USAGE, "is not a file to write"),
    (("--report", "/tmp"), USAGE, "is not a file to write"),
    (("--model", "~nobody-of-that-name/m.gguf"), USAGE, "no such home directory"),
    (("--runtime", "strem"), UNKNOWN, "did you mean stream"),
    (("--codec", "zsdt:1"), UNKNOWN, "zstd"),
    (("--codec", "zstd:99"), USAGE, "zstd"),
    (("--codec", "byteplane(zstd:1"), USAGE, "byteplane"),
    (("--codec", ""), USAGE, "codec"),
    (("--hold", "warm"), UNKNOWN, "cache form 'warm'"),
    (("--cache", "lur"), UNKNOWN, "lru"),
    (("--runtime", "mmap", "--codec", "zstd:1"), USAGE, "cannot decompress"),
    (("--runtime", "stream", "--ram", "20MB"), INFEASIBLE, "staging for one layer"),
    (("--runtime", "resident", "--ram", "500MB"), INFEASIBLE, "keeping all the weights"),
    (("--runtime", "mmap", "--ram", "1MB"), INFEASIBLE, "KV cache"),
    (("--runtime", "stream", "--ram", "600MB", "--pin", "100%"), INFEASIBLE, "pinning"),
    (("--runtime", "stream", "--ram", "600MB", "--cache", "lru", "--cache-size", "5GB"), INFEASIBLE, "weight cache"),
    (("--runtime", "stream", "--staging", "1MiB"), INFEASIBLE, "staging for one layer"),
    (("--runtime", "stream", "--ram", "600MB", "--staging", "2GB"), INFEASIBLE, "staging"),
    (("--context", "10000000"), INFEASIBLE, "RAM"),
    (("--report", "/no/such/place/r.html"), USAGE, "no such directory"),
    (("--save-scenario", "/no/such/place/s.toml"), USAGE, "no such directory"),
]


@pytest.mark.parametrize(("words", "code", "says"), OPTIONS, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_an_option_that_means_nothing_is_refused(words, code, says):
    result = simio(*BASE, *words)
    assert says in result.err
    assert "→" in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert result.code == code


NAMES = [
    (("predict",), USAGE, "no --device"),
    (("predict", "--device", "pixel8"), USAGE, "no --model"),
    (("predict", "--model", "llama-3.2-1b"), USAGE, "no --device"),
    (("predict", "--device", "pixle8", "--model", "llama-3.2-1b"), UNKNOWN, "pixel8"),
    (("predict", "--device", "", "--model", "llama-3.2-1b"), UNKNOWN, "device"),
    (("predict", "--device", "none.toml", "--model", "llama-3.2-1b"), DEVICE_FILE, "none.toml"),
    (("predict", "--device", "pixel8", "--model", "lama-3.2-1b"), UNKNOWN, "llama-3.2-1b"),
    (("predict", "--device", "pixel8", "--model", "llama-3.2-1b:q4_q"), UNKNOWN, "q4_q"),
    (("predict", "--device", "pixel8", "--model", ""), USAGE, "model"),
    (("predict", "--device", "pixel8", "--model", "/no/such/model.gguf"), MODEL_FILE, "model.gguf"),
    (("predict", "--device", "pixel8", "--model", "missing.safetensors"), MODEL_FILE, "missing.safetensors"),
    (("predict", "nothing.toml"), USAGE, "no such scenario"),
    (("inspect", "lama-3.2-1b"), UNKNOWN, "llama-3.2-1b"),
    (("inspect",), USAGE, "model"),
    (("devices", "show", "pixel88"), UNKNOWN, "pixel8"),
    (("devices", "check", "none.toml"), DEVICE_FILE, "none.toml"),
    (("profile", "/no/such/model.gguf"), MODEL_FILE, "model.gguf"),
    (("frobnicate",), USAGE, "frobnicate"),
]


@pytest.mark.parametrize(("words", "code", "says"), NAMES, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_an_unknown_name_is_met_with_the_close_ones(words, code, says):
    result = simio(*words)
    assert says in result.err
    assert "→" in result.err
    assert "Traceback" not in result.err
    assert result.code == code


SCENARIOS = [
    ("not toml at all [", "is not a scenario"),
    ('device = "pixel8"\nmodel = "llama-3.2-1b"\nrun_time = "mmap"\n', "runtime"),
    ('device = "pixel8"\nmodel = "llama-3.2-1b"\nram_bytes = "3GB"\n', "ram_bytes"),
    ('device = "pixel8"\nmodel = "llama-3.2-1b"\nn_threads = true\n', "n_threads"),
    ('device = "pixel8"\nmodel = "llama-3.2-1b"\nn_tokens = -4\n', "n_tokens"),
    ('device = "pixel8"\n', "model"),
]


@pytest.mark.parametrize(("text", "says"), SCENARIOS)
def test_a_broken_scenario_file_is_refused(text, says, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(text)
    result = simio("predict", path)
    assert says in result.err
    assert "Traceback" not in result.err
    assert result.code == USAGE


FILES = [
    ("model.gguf", b"", MODEL_FILE),
    ("model.gguf", b"GGUF", MODEL_FILE),
    ("model.gguf", b"GGML" + bytes(100), MODEL_FILE),
    ("model.gguf", b"GGUF" + b"\xff" * 60, MODEL_FILE),
    ("model.safetensors", b"\x10", MODEL_FILE),
    ("model.safetensors", b"\xff" * 8 + b"{}", MODEL_FILE),
    ("model.safetensors", (2).to_bytes(8, "little") + b"{}", MODEL_FILE),
    ("model.safetensors", (9).to_bytes(8, "little") + b"{not json", MODEL_FILE),
    ("profile.json", b"{}", PROFILE),
    ("profile.json", b"[1, 2", PROFILE),
    ("model.bin", b"\x80\x04", MODEL_FILE),
]


@pytest.mark.parametrize(("name", "content", "code"), FILES)
@pytest.mark.parametrize("command", ["predict", "inspect", "profile"])
def test_a_damaged_file_is_refused_and_named(name, content, code, command, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    words = ("predict", "--device", "pixel8", "--model", path) if command == "predict" else (command, path)
    result = simio(*words)
    assert name in result.err
    assert "Traceback" not in result.err
    assert result.code == code
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == [name]


def test_a_directory_without_a_model_is_refused(tmp_path):
    result = simio("inspect", tmp_path)
    assert result.code == MODEL_FILE
    assert str(tmp_path) in result.err


@pytest.mark.parametrize("words", [("--sample", "0%"), ("--sample", "200%"), ("--sample", "x"), ("--sample", "nan"),
                                   ("--workers", "0"), ("--chunk-size", "3"), ("-o", "/no/such/dir/p.json"),
                                   ("--codec", "zstandard")])  # fmt: skip
def test_a_profile_option_that_means_nothing_is_refused(words, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    result = simio("profile", path, *words)
    assert result.code in (USAGE, UNKNOWN)
    assert "→" in result.err


def test_a_device_file_with_a_wrong_unit_names_the_key(tmp_path):
    good = simio("devices", "show", "pixel8", "--json").json
    assert good["id"] == "pixel8"
    from simio.paths import data_dir

    text = (data_dir("devices") / "pixel8.toml").read_text()
    wrong = text.replace('id = "pixel8"', 'id = "my-phone"').replace('unit = "us"', 'unit = "GB"', 1)
    path = tmp_path / "my-phone.toml"
    path.write_text(wrong)
    for words in (("devices", "check", path), ("predict", "--device", path, "--model", "llama-3.2-1b")):
        result = simio(*words)
        assert result.code == DEVICE_FILE
        assert "my-phone.toml" in result.err
        assert "storage.fault_overhead" in result.err
