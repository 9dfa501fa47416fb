"""From what people write to a preset: spelling, vendor prefixes, suffixes of releases, quantizations in the name."""

from __future__ import annotations

import os
import re
import tomllib
from functools import lru_cache
from pathlib import Path

from simio.models.grouped import GROUPED_TYPES
from simio.models.type_mix import FILE_TYPES

_HERE = Path(__file__).parent

#: Other names of the quantizations. Where a name leaves the layout open the nearest one is taken: ``q4`` is what
#: Ollama serves, MLC's ``q4f16`` has the 4.5 bits of ``q4_0``, Unsloth's dynamic ``XL`` files follow their base type.
QUANT_ALIASES: dict[str, str] = {
    "q4": "q4_k_m", "q4_k": "q4_k_m", "q4_k_xl": "q4_k_m", "q4_k_l": "q4_k_m",
    "q5": "q5_k_m", "q5_k": "q5_k_m", "q5_k_xl": "q5_k_m", "q3": "q3_k_m", "q3_k": "q3_k_m", "q3_k_xl": "q3_k_m",
    "q2": "q2_k", "q2_k_xl": "q2_k", "w2": "q2_k", "2bit": "q2_k", "q6": "q6_k", "q6_k_xl": "q6_k",
    "q8": "q8_0", "q8_k_xl": "q8_0", "q80": "q8_0", "q40": "q4_0", "w4": "q4_0", "q4_0_4_8": "q4_0",
    "q4_0_4_4": "q4_0", "q4_0_8_8": "q4_0", "q4f16": "q4_0", "q4f16_0": "q4_0", "q4f16_1": "q4_0",
    "q3f16": "q3_k_s", "q3f16_0": "q3_k_s", "q3f16_1": "q3_k_s",
    "iq2": "iq2_m", "iq3": "iq3_m", "iq4": "iq4_xs", "iq1": "iq1_s", "fp16": "f16", "fp32": "f32",
    "4bit": "int4", "8bit": "int8", "w4a16": "int4", "w8a16": "int8", "mxfp4_moe": "mxfp4",
}  # fmt: skip

#: Words of a name that do not change the architecture: who tuned it, how it was released, its file format.
_RELEASE = re.compile(
    r"-(?:instruct|it|pt|chat|base|hf|gguf|mlx|latest|text|thinking|qat|ud|preview|default|dense|0731|2507|0528|2512|2603"
    r"|0628|0724|1210|\d{3,4}bpw|i1|imatrix)(?=-|$)"
)
#: Of a release in some names (``mistral-7b-v0.3``), of the model in others (``deepseek-v2-lite``).
_VERSION = re.compile(r"-v\d(?:\.\d)?(?=-|$)")

#: Who published it, where the name carries that instead of a folder.
_VENDOR = re.compile(
    r"^(?:qwen|google|meta-llama(?=-llama|-meta)|meta|microsoft|openai|mistralai|liquidai|deepseek-ai|huggingfacetb"
    r"|zai-org|moonshotai|allenai|baidu|minimaxai|inclusionai|tencent|rednote-hilab|ibm-granite)-"
)

#: The dot before the quantization of a file (``phi-2.Q4_K_M.gguf``), and the number of a part of one.
_DOT = re.compile(r"\.(?=(?:i1-)?(?:ud-)?(?:i?q\d|tq\d|b?f\d\d|fp\d\d|mxfp\d)[^.]*$)")
_PART = re.compile(r"-\d{5}-of-\d{5}$")


def preset_names() -> list[str]:
    """The ids of all presets, sorted."""
    return sorted(entry.removesuffix(".toml") for entry in os.listdir(_HERE / "presets") if entry.endswith(".toml"))


def quant_names() -> list[str]:
    """The names of all quantizations, sorted."""
    return sorted([*FILE_TYPES, *GROUPED_TYPES])


def preset_path(preset_id: str) -> Path:
    """The file of a preset."""
    return _HERE / "presets" / f"{preset_id}.toml"


def split_name(text: str) -> tuple[str, str | None, str | None]:
    """``(name, quantization or None, unknown quantization or None)``, the name in lower case with hyphens.

    A quantization stands behind a colon, in brackets, or at the end: ``glm-5.2-ud-q2_k_xl``, ``phi-2.q4_k_m.gguf``.
    """
    text = _DOT.sub("-", _PART.sub("", text.strip().lower().removesuffix(".gguf")))
    *parts, last = text.split(":")
    head, tail = ("-".join(parts), last) if parts else (last, "")
    head = head.rsplit("/", 1)[-1]
    quant = _remarked_quant(tail)
    name, bracket = _brackets((head if quant or not tail else f"{head}-{tail}").replace("_", "-"))
    quant = quant or as_quant(bracket)
    name, at_end = _cut_quant(re.sub(r"[\s-]+", "-", name).strip("-"))
    name = name.removesuffix("-ud")
    suspect = tail if tail and not quant and not at_end and find(name) is None and find(head) else None
    return (head.replace("_", "-") if suspect else name), quant or at_end, suspect


def as_quant(text: str) -> str | None:
    """The canonical name of a quantization, ``None`` if ``text`` is none.

    >>> as_quant("Q4_K_M"), as_quant("4-bit"), as_quant("UD-Q4_K_XL"), as_quant("q9")
    ('q4_k_m', 'int4', 'q4_k_m', None)
    """
    key = text.strip().lower().replace("-", "_").replace(" ", "_").removeprefix("ud_")
    key = key.replace("_bit", "bit")
    if key in FILE_TYPES or key in GROUPED_TYPES:
        return key
    return QUANT_ALIASES.get(key)


def _remarked_quant(text: str) -> str | None:
    """A quantization with a remark, as tables have it: ``Q4_K_M (ollama default)``, ``W4 / Q4_0``, ``int4 gs64``."""
    if found := as_quant(text):
        return found
    words = re.split(r"[\s/(),+]+", text)
    return next((quant for word in words if (quant := as_quant(word))), None)


@lru_cache(maxsize=1024)
def find(name: str) -> str | None:
    """The id of the preset called ``name``: by its id, by an alias, and again without words like ``instruct``."""
    plain = re.sub(r"[\s_]+", "-", name.strip().lower())
    released = _RELEASE.sub("", plain)
    for spelling in (plain, released, _VERSION.sub("", released)):
        for candidate in (spelling, _VENDOR.sub("", spelling)):
            if found := _index().get(_key(candidate)):
                return found
    return None


@lru_cache(maxsize=1)
def _index() -> dict[str, str]:
    aliases = tomllib.loads((_HERE / "aliases.toml").read_text(encoding="utf-8"))
    index = {_key(alias): preset_id for preset_id, names in aliases.items() for alias in names}
    return index | {_key(preset_id): preset_id for preset_id in preset_names()}


def _key(name: str) -> str:
    """Hyphens and spaces do not distinguish names; dots do."""
    return re.sub(r"[^a-z0-9.]", "", name)


def _brackets(name: str) -> tuple[str, str]:
    """Take a remark in brackets off the name: ``DeepSeek-V4-Flash (Q4)``."""
    match = re.search(r"\(([^)]*)\)", name)
    return (name[: match.start()] + name[match.end() :], match[1]) if match else (name, "")


def _cut_quant(name: str) -> tuple[str, str | None]:
    """Take a quantization off the end of the name, the longest that fits."""
    words = name.split("-")
    for n_words in (4, 3, 2, 1):
        if len(words) > n_words and (quant := as_quant("_".join(words[-n_words:]))):
            return "-".join(words[:-n_words]), quant
    return name, None
