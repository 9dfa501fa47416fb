"""Names of devices, models and quantizations that published runs use: the catalogue and the presets know them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from simio import catalog, models
from simio.errors import UnknownNameError
from simio.importers.published_runs import quant
from simio.importers.published_settings import Unsupported

NAMES = Path(__file__).parents[3] / "shared" / "measured" / "names.csv"

#: Devices nobody can look up, and why.
UNKNOWN_DEVICES = {
    "16 GB 2-in-1 laptop": "no processor is named",
    "A100 VM": "ran on a GPU; the processors of the virtual machine are not named",
    "Android phone (Termux, model on shared storage via SAF)": "no phone is named",
    "Dev box 12 cores WSL2 (25 GB)": "no processor is named",
    "Linux PC (64 GB)": "no processor is named",
    "Linux PC RTX 4090": "ran on a GPU; no processor is named",
    "Mac 32 GB Apple silicon (model unnamed)": "no chip is named",
    "Mac, Apple silicon (model unstated, SME-capable)": "no chip is named",
    "PC (unnamed, ollama maintainer)": "no processor is named",
    "PC RTX 3090 Ti (64 GB + 150 GB NVMe swap)": "ran on a GPU; no processor is named",
    "PC RTX 5090 (63.4 GB DDR5)": "ran on a GPU; no processor is named",
    "Radxa Dragon Q8B": "no number of its processor is published in the facts at hand",
    "Server, 32 threads (unnamed)": "no processor is named",
    "Snapdragon phone (unstated)": "no phone is named",
    'Ubuntu box ("32mb", i.e. 32 GB)': "no processor is named",
}

#: Models that are none, or none whose shape is published.
UNKNOWN_MODELS = {
    "(unstated)": "no model is named",
    "unstated": "no model is named",
    "Gemma 3": "one of five sizes",
    "125B-A6B MoE": "no architecture is named",
    "Llama 3-14B": "made by prima.cpp from layers of Llama 3; its shape is not published",
    "Llama 3-45B": "made by prima.cpp from layers of Llama 3; its shape is not published",
    "Llama 3-60B": "made by prima.cpp from layers of Llama 3; its shape is not published",
}

#: Quantizations that say nothing of how weights are stored.
UNKNOWN_QUANTS = {
    "": "not stated",
    "ollama default": "depends on the model",
    "default of flash-moe repo": "depends on its version",
    "fp32 compute": "says what is computed with",
    "fp32 compute / 13.4 GB fp16-equivalent read": "says what is computed with",
    "tiered 4bit hot/2bit cold": "two layouts, the shares are not stated",
    "~1.58-bit": "a mixture that is not stated",
    "Q3_K_S 2.70bpw (Byteshape)": "a mixture of its own",
    "VQ4P experts": "its bits a weight are not stated",
}


def names() -> list[dict[str, str]]:
    if not NAMES.is_file():
        pytest.skip("needs ../shared/measured/names.csv")
    with NAMES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def knows_device(name: str) -> bool:
    try:
        catalog.find(name)
    except UnknownNameError:
        return False
    return True


def knows_model(name: str) -> bool:
    try:
        models.resolve_name(name)
    except UnknownNameError:
        return False
    return True


def knows_quant(text: str, engine: str = "") -> bool:
    try:
        return models.resolve_name(f"qwen3-8b:{quant(text, engine)}")[1] is not None
    except (Unsupported, UnknownNameError):
        return False


@pytest.mark.parametrize(
    ("column", "knows", "exceptions"),
    [
        ("device", knows_device, UNKNOWN_DEVICES),
        ("model", knows_model, UNKNOWN_MODELS),
        ("quant", knows_quant, UNKNOWN_QUANTS),
    ],
)
def test_every_name_is_known_or_says_too_little(column, knows, exceptions):
    used = {row[column] for row in names()}
    unknown = {name for name in used if not knows(name)}
    assert unknown == used & exceptions.keys()


def test_most_rows_name_all_three(record_property):
    rows = names()
    known = sum(knows_device(r["device"]) and knows_model(r["model"]) and knows_quant(r["quant"]) for r in rows)
    record_property("rows whose device, model and quantization are known", f"{known} of {len(rows)}")
    assert known >= 0.9 * len(rows)
