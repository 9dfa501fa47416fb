"""The strict reader of preset files."""

from __future__ import annotations

from pathlib import Path

import pytest

from simio.errors import ModelFileError
from simio.models.facts import load

GOOD = """
name = "Tiny"
family = "llama"
source = "https://example.org/config.json"
n_layers = 2
d_model = 64
n_heads = 4
n_kv_heads = 2
head_dim = 16
d_ff = 128
vocab_size = 1000
context_length = 512
tied_embeddings = true
"""


def read(tmp_path: Path, text: str) -> object:
    file = tmp_path / "tiny.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def test_the_file_name_is_the_id(tmp_path: Path) -> None:
    assert getattr(read(tmp_path, GOOD), "id", None) == "tiny"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("\nn_heds = 4\n", "tiny.toml: unknown key 'n_heds'"),
        ("\n[experts]\ncount = 8\nused = 2\n", "tiny.toml: experts: missing 'd_ff'"),
        ("\n[experts]\ncount = 8\nused = 2\nd_ff = 64\ntopk = 2\n", "tiny.toml: experts: unknown key 'topk'"),
        ('\n[window]\nsize = "512"\n', "tiny.toml: window: size = '512' has the wrong type"),
        ("\nwindow = 512\n", "tiny.toml: window = 512 has the wrong type"),
        ("\nqkv_bias = 1\n", "tiny.toml: qkv_bias = 1 has the wrong type"),
        ("\n[short_conv]\nkernel = 3\nattention_layers = [2.5]\n", "attention_layers = .2.5. has the wrong type"),
        ('\nconfidence = "guessed"\n', "tiny.toml: confidence 'guessed'"),
        ('\nconfidence = "reconstructed"\n', "tiny.toml: reconstructed without a note"),
        ("\nn_layers = 2\n", "tiny.toml: not a TOML file"),
    ],
)
def test_a_preset_that_breaks_the_schema_is_refused_with_file_and_key(
    tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        read(tmp_path, GOOD + change)


def test_a_missing_fact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tiny\.toml: missing 'd_ff'"):
        read(tmp_path, GOOD.replace("d_ff = 128\n", ""))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelFileError, match="not a TOML file"):
        load(file)
