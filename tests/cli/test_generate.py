"""``simio generate`` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import simio

TINY = "d_model=256,d_ff=512,n_heads=4,n_kv_heads=2,vocab_size=300"


def test_a_generated_model_can_be_inspected_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    made = simio("generate", "tl1b:q4_k_m", "--layers", "2", "--shape", TINY, "-o", path, "--json")
    assert made.code == 0
    assert made.json["generated"] is True
    assert made.json["n_bytes"] == path.stat().st_size
    seen = simio("inspect", path, "--json").json
    assert seen["architecture"]["n_layers"] == 2
    assert any("generated" in note for note in seen["notes"])


def test_a_generated_model_is_packed_like_any_other(tmp_path: Path) -> None:
    simio("generate", "tl1b:q8_0", "--layers", "1", "--shape", TINY, "-o", tmp_path / "x.gguf")
    assert simio("pack", tmp_path / "x.gguf", "-o", tmp_path / "x.simio").code == 0
    assert simio("verify", tmp_path / "x.simio").code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nothing-like-it",), 3, "unknown model"),
        (("gemma-2-2b",), 2, "gemma2"),
        (("tl1b:iq2_xxs", "--layers", "1"), 2, "IQ2_XXS"),
        (("tl1b", "--layers", "0"), 2, "--layers"),
        (("tl1b", "--shape", "d_model"), 2, "name=number"),
        (("tl1b", "--shape", "d_modell=8"), 3, "d_model"),
    ],
)
def test_what_cannot_be_generated_is_said(words: tuple[str, ...], code: int, says: str, tmp_path: Path) -> None:
    result = simio("generate", *words, "-o", tmp_path / "x.gguf")
    assert result.code == code
    assert says in result.err
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there_is_said_before_the_work(tmp_path: Path) -> None:
    result = simio("generate", "tl1b", "-o", tmp_path / "no" / "x.gguf")
    assert result.code == 2
    assert "no such directory" in result.err
