"""Every name in llama.cpp's own table of Hugging Face → GGUF names gets the same role on both sides."""

from __future__ import annotations

import re

import pytest
from gguf.constants import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES
from gguf.tensor_mapping import TensorNameMap

from simio.formats.names import classify

_LANGUAGE_MODELS = sorted(
    (arch for arch in MODEL_TENSORS if MODEL_ARCH_NAMES[arch] not in ("clip", "mmproj", "wavtokenizer-dec")),
    key=lambda arch: MODEL_ARCH_NAMES[arch],
)

#: Where the two sides rightly differ, or the module path says too little; see each pattern's comment.
_DIFFER = re.compile(
    r"inv_freq$"  # saved beside the weights by Hugging Face, never read; GGUF keeps its own table
    r"|mixer\.[qk]$"  # norms without a word that says so (PLaMo 2)
    r"|ln_x$"  # a norm inside RWKV's time mix
    r"|vision_expert"  # CogVLM's vision half
    r"|layers\.\d\.embed_tokens$"  # the multi-token-prediction layer's copy of the table
    r"|transformer_encoder\.|decoder_layer\.|^encoder$|in_out_embed$|^dense$|^rope\.|pre_ln$"  # NeoBERT, Grok, others
)


@pytest.mark.parametrize("arch", _LANGUAGE_MODELS, ids=lambda arch: MODEL_ARCH_NAMES[arch])
def test_both_families_of_names_agree_on_the_role(arch: int) -> None:
    names = TensorNameMap(arch, 4).mapping.items()
    pairs = [(ours, theirs) for ours, (_, theirs) in names if not _DIFFER.search(ours)]
    differing = [(a, b) for a, b in pairs if classify(f"{a}.weight").role != classify(f"{b}.weight").role]
    assert differing == []


def test_every_gguf_name_of_a_language_model_has_a_role() -> None:
    names = {TENSOR_NAMES[t].format(bid=3, xid=2) for arch in _LANGUAGE_MODELS for t in MODEL_TENSORS[arch]}
    other = {name for name in names if classify(f"{name}.weight").role == "other"}
    assert {name for name in other if "nextn" not in name and "vis_" not in name} == set()


def test_the_layer_is_the_number_after_blk() -> None:
    names = {TENSOR_NAMES[t].format(bid=7, xid=2) for arch in _LANGUAGE_MODELS for t in MODEL_TENSORS[arch]}
    assert {classify(f"{name}.weight").layer for name in names if "blk.7" in name} == {7}
