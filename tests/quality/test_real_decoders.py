"""Trained decoders: they find English likely, and layouts cost them what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_decoders import MODELS, craftgpt_tokens, real_decoders

from simio.formats.opening import open_model
from simio.quality import measure
from simio.runtime.pieces import of_llama2c

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She asked her mom if she could play with it. Her mom said yes, and Lily was very happy."
)
CHATS = (
    ("i feel tired today.", "i am sorry to hear that. did you sleep well last night?", "no, i could not sleep."),
    ("the weather is nice today.", "yes, it is sunny and warm. do you like to go for a walk?", "i do."),
    ("what is your favorite food?", "i like pizza. it is so easy to make and it tastes good."),
    ("do you like music?", "yes, i love listening to music. it makes me feel calm."),
)

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no trained models at {MODELS}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoders")


#: Perplexity of the English above may be so much. CraftGPT with scores divided by √240, as its emulator does: 11.
LIMITS = {"stories260k": 2.5, "bitllama-1m": 2.5, "bitllama-3m": 2.5, "craftgpt": 9.0}


@pytest.mark.parametrize("name", LIMITS)
def test_english_is_likely(name: str, folder: Path) -> None:
    model = open_model(dict(real_decoders(folder))[name])
    stories = of_llama2c((MODELS / "stories260K-fp32/tok512.bin").read_bytes(), 512)
    texts = [craftgpt_tokens(*chat) for chat in CHATS] if name == "craftgpt" else [stories.encode(STORY)]
    found = [measure(model, ["f32"], calibration=t, evaluation=t) for t in (np.array([text]) for text in texts)]
    surprise = [np.log(one.perplexity) * one.n_tokens for one in found]
    assert np.exp(np.sum(surprise) / sum(one.n_tokens for one in found)) < LIMITS[name]


@pytest.mark.parametrize("name", LIMITS)
def test_layouts_cost_what_they_should(name: str, folder: Path) -> None:
    found = measure(
        open_model(dict(real_decoders(folder))[name]), ["bf16", "int8:channel", "int4:channel", "q4_0"], n_tokens=1024
    )
    assert np.log(found.perplexity) == pytest.approx(found.entropy, abs=0.15)  # it wrote these texts itself
    bf16, eight, four, q4_0 = found.layouts
    assert bf16.perplexity == pytest.approx(found.perplexity, rel=1e-3)
    assert max(bf16.kl, eight.kl) < 2e-3
    if name.startswith("bitllama"):
        assert max(eight.kl, four.kl) < 1e-6 < q4_0.kl  # three levels: any symmetric layout holds them, Q4_0 has no 0
    else:
        assert eight.kl < four.kl / 10
