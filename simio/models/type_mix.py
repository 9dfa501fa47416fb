"""Which weight type each tensor of a GGUF file gets: llama.cpp's type mixtures as data.

A file type such as ``q4_k_m`` has a base type and exceptions: the values of attention, the down projection of some
layers and the output head get more bits. Source: ``llama_tensor_get_type`` and ``tensor_allows_quantization`` of
llama.cpp, ``src/llama-quant.cpp`` (rules for attn_qkv as they stood until early 2026, by which almost every published
file was made). Files of the ``iq`` types are assumed to be made with an importance matrix, as llama-quantize demands
for the smallest of them; the others without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simio.models.attention import Spec
from simio.models.facts import Facts
from simio.records.weight_types import weight_type


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands: ``index`` of ``count`` in its category, and what the rules ask of the model."""

    index: int
    count: int
    n_gqa: int  # query heads per KV head of the first layer; 0 where it has no KV heads
    n_experts: int


Condition = Callable[[Place], bool]
#: The first choice whose condition holds gives the type; none = the base type stays.
Choices = tuple[tuple[str, Condition], ...]


def _always(place: Place) -> bool:
    return True


def _more_bits(place: Place) -> bool:
    """The first and last eighth of the layers, and every third between (``use_more_bits``)."""
    i, n = place.index, place.count
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _first_eighth(place: Place) -> bool:
    return place.index < place.count // 8


def _first_sixteenth(place: Place) -> bool:
    return place.index < place.count // 16


def _middle(place: Place) -> bool:
    return place.count // 8 <= place.index < 7 * place.count // 8


def _grouped(place: Place) -> bool:
    return place.n_gqa >= 4


def _grouped_or_experts(place: Place) -> bool:
    return place.n_gqa >= 4 or place.n_experts >= 4


def _first(n: int) -> Condition:
    return lambda place: place.index < n


@dataclass(frozen=True, slots=True)
class FileType:
    """The mixture of one file type, by tensor category."""

    base: str
    attn_v: Choices = ()
    attn_k: Choices = ()
    attn_q: Choices = ()
    attn_qkv: Choices = ()
    attn_output: Choices = ()
    ffn_down: Choices = ()
    ffn_gate: Choices = ()
    ffn_up: Choices = ()
    embedding: str = ""  # "" = base
    output: str = "Q6_K"  # the head, and the embedding where they are tied


def _all(name: str) -> Choices:
    return ((name, _always),)


def _iq2(base: str, value: str, *, out: str = "", embedding: str = "Q2_K") -> FileType:
    """The one- and two-bit types share their exceptions."""
    return FileType(
        base,
        attn_v=(("Q4_K", _grouped_or_experts), (value, _always)),
        attn_output=_all(out) if out else (),
        ffn_down=((value, _first_eighth),),
        embedding=embedding,
        output="Q5_K",
    )


def _plain(base: str, output: str = "") -> FileType:
    return FileType(base, output=output or base)


_NARROW: Choices = (("IQ3_XXS", _middle),)

FILE_TYPES: dict[str, FileType] = {
    "f32": _plain("F32"),
    "f16": _plain("F16"),
    "bf16": _plain("BF16"),
    "q8_0": _plain("Q8_0"),
    "q4_0": _plain("Q4_0", "Q6_K"),
    "q4_1": _plain("Q4_1", "Q6_K"),
    "q5_0": _plain("Q5_0", "Q6_K"),
    "q5_1": _plain("Q5_1", "Q6_K"),
    "q2_k": FileType(
        "Q2_K",
        attn_v=(("Q4_K", _grouped), ("Q3_K", _always)),
        attn_output=_all("Q3_K"),
        ffn_down=_all("Q3_K"),
    ),
    "q2_k_s": FileType("Q2_K", attn_v=(("Q4_K", _grouped),), ffn_down=(("Q4_K", _first_eighth),)),
    "q3_k_s": FileType("Q3_K"),
    "q3_k_m": FileType(
        "Q3_K",
        attn_v=(("Q5_K", _first(2)), ("Q4_K", _always)),
        attn_qkv=_all("Q4_K"),
        attn_output=_all("Q4_K"),
        ffn_down=(("Q5_K", _first_sixteenth), ("Q4_K", _always)),
    ),
    "q3_k_l": FileType(
        "Q3_K",
        attn_v=_all("Q5_K"),
        attn_qkv=_all("Q4_K"),
        attn_output=_all("Q5_K"),
        ffn_down=_all("Q5_K"),
    ),
    "q4_k_s": FileType("Q4_K", attn_v=(("Q5_K", _first(4)),), ffn_down=(("Q5_K", _first_eighth),)),
    "q4_k_m": FileType("Q4_K", attn_v=(("Q6_K", _more_bits),), attn_qkv=_all("Q5_K"), ffn_down=(("Q6_K", _more_bits),)),
    "q5_k_s": FileType("Q5_K"),
    "q5_k_m": FileType("Q5_K", attn_v=(("Q6_K", _more_bits),), attn_qkv=_all("Q6_K"), ffn_down=(("Q6_K", _more_bits),)),
    "q6_k": FileType("Q6_K"),
    "iq1_s": _iq2("IQ1_S", "Q2_K", out="IQ2_XXS"),
    "iq1_m": _iq2("IQ1_M", "Q2_K", out="IQ2_XXS"),
    "iq2_xxs": _iq2("IQ2_XXS", "Q2_K"),
    "iq2_xs": _iq2("IQ2_XS", "Q2_K"),
    "iq2_s": _iq2("IQ2_XS", "IQ3_S", out="IQ3_S", embedding="IQ3_S"),
    "iq2_m": _iq2("IQ2_S", "IQ3_S", out="IQ3_S", embedding="IQ3_S"),
    "iq3_xxs": FileType(
        "IQ3_XXS",
        attn_v=(("Q4_K", _grouped),),
        attn_k=_all("IQ2_S"),
        attn_q=_all("IQ2_S"),
        attn_output=_all("IQ3_S"),
        embedding="IQ3_S",
        output="Q5_K",
    ),
    "iq3_xs": FileType(
        "IQ3_S",
        attn_v=(("Q4_K", _grouped),),
        attn_k=_all("IQ3_XXS"),
        attn_q=_all("IQ3_XXS"),
        ffn_gate=_NARROW,
        ffn_up=_NARROW,
    ),
    "iq3_s": FileType("IQ3_S", attn_v=(("Q4_K", _grouped),)),
    "iq3_m": FileType(
        "IQ3_S",
        attn_v=_all("Q4_K"),
        attn_qkv=_all("Q4_K"),
        attn_output=_all("Q4_K"),
        ffn_down=(("Q4_K", _first_eighth),),
    ),
    "iq4_nl": FileType("IQ4_NL", attn_v=(("Q5_K", _grouped),)),
    "iq4_xs": FileType("IQ4_XS", attn_v=(("Q5_K", _grouped),)),
    "tq1_0": FileType("TQ1_0", embedding="Q4_K"),
    "tq2_0": FileType("TQ2_0", embedding="Q4_K"),
    "mxfp4": _plain("Q8_0"),
}

#: Falcon's own exceptions (``LLM_ARCH_FALCON`` in the rules), by category.
_FALCON: dict[str, dict[str, Choices]] = {
    "q3_k_m": {"ffn_down": (("Q5_K", _first_sixteenth), ("Q4_K", _more_bits)), "attn_output": ()},
    "q3_k_l": {"ffn_down": _all("Q4_K"), "attn_output": _all("Q4_K")},
    "q4_k_m": {"ffn_down": (("Q6_K", _first_sixteenth), ("Q5_K", _more_bits))},
    "q4_k_s": {"ffn_down": ()},
    "q2_k": {"attn_output": ()},
    "iq3_xxs": {"attn_output": ()},
    "iq3_m": {"attn_output": ()},
}

#: File types whose attention output gets Q5_K in a model of exactly 8 experts (Mixtral).
_MIXTRAL_OUTPUT = frozenset({
    "q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m", "iq4_nl", "iq4_xs", "iq3_xs", "iq3_xxs", "iq3_s", "iq3_m",
    "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m",
})  # fmt: skip

#: Where the row length is not a multiple of the block: the type that takes over.
_FALLBACK = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

#: Parts of the names of matrices that stay in F32, and of those that keep the type of the source file.
_KEPT_F32 = (
    "_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "ssm_conv1d", "shortconv.conv.weight",
    "_coef.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
)  # fmt: skip
_KEPT_16 = ("altup", "laurel", "per_layer_model_proj")

#: Name part → category, first match wins (``tensor_get_category``).
_CATEGORIES = (
    ("attn_qkv.weight", "attn_qkv"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)


def mix_types(specs: Sequence[Spec], facts: Facts, quant: str) -> list[str]:
    """The weight type of each of ``specs`` (in file order) in a GGUF file of type ``quant``, a key of FILE_TYPES."""
    mixer = _Mixer(specs, facts, quant)
    return [mixer.type_of(name, shape) for name, shape in specs]


class _Mixer:
    """Walks the tensors in file order and counts, since several rules go by how many came before."""

    def __init__(self, specs: Sequence[Spec], facts: Facts, quant: str) -> None:
        self._facts, self._quant, self._file_type = facts, quant, FILE_TYPES[quant]
        self._two_bit = quant.startswith(("iq1", "iq2"))
        self._seen: dict[str, int] = {}
        self._n_values = sum(name.endswith(("attn_v.weight", "attn_qkv.weight")) for name, _ in specs)
        self._n_experts = facts.experts.count if facts.experts else 0
        names = {name for name, _ in specs}
        self._n_gqa = facts.n_heads // facts.n_kv_heads if names & _FIRST_KEYS else 0

    def type_of(self, name: str, shape: tuple[int, ...]) -> str:
        kept = _kept(name, shape)
        if kept:
            return kept
        if self._facts.experts and self._facts.experts.native_type and "_exps" in name:
            return self._facts.experts.native_type
        if self._quant == "mxfp4" and "_exps" in name:
            return "MXFP4"
        if self._file_type.base in ("F32", "F16", "BF16"):
            return self._file_type.base
        return _fit(self._mixed(name, shape[-1]), shape[-1])

    def _mixed(self, name: str, n_columns: int) -> str:
        file_type = self._file_type
        if name in _EMBEDDINGS or name == "output.weight":
            if name == "output.weight" or self._facts.tied_embeddings:
                misfit = n_columns % weight_type(file_type.base).block_weights != 0
                return "Q8_0" if misfit or self._facts.family == "falcon" else file_type.output
            return file_type.embedding or file_type.base
        category = next((category for part, category in _CATEGORIES if part in name), "")
        return self._by_category(category, name) if category else file_type.base

    def _by_category(self, category: str, name: str) -> str:
        place = self._place(category, name)
        choices: Choices = getattr(self._file_type, category)
        if self._facts.family == "falcon":
            choices = _FALCON.get(self._quant, {}).get(category, choices)
        chosen = next((type_ for type_, holds in choices if holds(place)), self._file_type.base)
        return self._by_model(category, chosen)

    def _place(self, category: str, name: str) -> Place:
        index = self._seen.get(category, 0)
        self._seen[category] = index + 1
        if self._n_experts > 1 and category.startswith("ffn") and not self._two_bit:
            index = int(name.split(".", 2)[1])  # by layer, since shared and routed experts both count
        count = self._n_values if category == "attn_v" else self._facts.n_layers
        return Place(index, count, self._n_gqa, self._n_experts)

    def _by_model(self, category: str, chosen: str) -> str:
        """Exceptions for one model: 80-layer models with grouped queries, and Mixtral's eight experts."""
        if self._n_experts == 8:
            if category in ("attn_v", "attn_k") and not self._two_bit:
                return "Q8_0"
            if category == "attn_k":
                return "Q4_K"
            if category == "attn_output":
                return "Q5_K" if self._quant in _MIXTRAL_OUTPUT else self._file_type.base
        if category == "attn_v" and self._is_70b() and chosen in ("Q3_K", "Q4_K") and not self._two_bit:
            return "Q5_K"
        return chosen

    def _is_70b(self) -> bool:
        facts = self._facts
        return facts.family in ("llama", "qwen2") and facts.n_layers == 80 and facts.n_heads != facts.n_kv_heads


_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
#: llama.cpp asks the first layer for its KV heads; a recurrent one has none where the preset counts per layer.
_FIRST_KEYS = {"blk.0.attn_k.weight", "blk.0.attn_qkv.weight"}


def _kept(name: str, shape: tuple[int, ...]) -> str:
    """The type of a tensor that is never quantized, "" otherwise: vectors, norms, routers, small convolutions."""
    if name.endswith("tid2eid.weight"):
        return "I32"
    vector = all(n == 1 for n in shape[:-1])
    if vector or not name.endswith("weight") or any(part in name for part in _KEPT_F32):
        return "F32"
    return "BF16" if any(part in name for part in _KEPT_16) else ""


def _fit(type_: str, n_columns: int) -> str:
    """Fall back to a type whose block divides the row, at last to F16."""
    if n_columns % weight_type(type_).block_weights == 0:
        return type_
    fallback = _FALLBACK.get(type_, "F16")
    return fallback if n_columns % weight_type(fallback).block_weights == 0 else "F16"
