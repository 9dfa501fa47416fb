"""Which layouts and codecs a study looks at, from what the user wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from simio import codecs, quant, registry
from simio.codecs.base import Codec
from simio.errors import MissingPackageError, UnknownNameError, UsageError
from simio.quant.contract import Quantizer

#: From coarse to fine scales for each width, and the formats people download. Those not installed are left out.
DEFAULT_LAYOUTS = (
    "bf16", "f8_e4m3",
    "int8:tensor", "int8:channel", "int8:group128", "q8_0",
    "q6_k", "q4_k", "q4_0",
    "int4:tensor", "int4:channel", "int4:group128", "int4:group64:affine", "nf4", "mxfp4", "nvfp4",
    "int3:group128", "int2:group64:affine", "ternary:absmean",
)  # fmt: skip
#: What ``all`` adds: the other formats people download, and one or more of every family of layouts.
MORE_LAYOUTS = (
    "f32", "f16", "f8_e5m2", "f8_e4m3:channel", "q5_k", "q5_0", "q5_1", "q4_1", "q3_k", "q2_k", "iq4_nl", "iq4_xs",
    "tq1_0", "tq2_0",
    "int8:group32", "int8:input", "int8:channel:affine", "int6:group128", "int5:group128", "int4:group32",
    "int4:group32:affine", "int4:group128:zero", "int4:group128:clip0.9", "int4:group128:search", "int3:channel",
    "int2:group32:affine", "nf4:double", "fp4:group16", "fp4:channel:bias",
    "shift4:channel", "shift3:channel", "shift2:channel", "power4:channel", "power8:channel", "power3:channel",
    "ternary:absmedian:channel", "ternary:twn:channel", "binary:channel", "pbllm:0.1", "ptq161:0.2", "dbllm:group64",
    "squeezellm:4bit", "squeezellm:3bit", "sparse:2of4:int4:group32", "sparse:2of4:int8:channel",
    "vptq:v4:k256", "vptq:v8:k4096", "vptq:v8:k256:r256", "jlcm:2:books16", "jlcm:3:books8",
    "mixed24:group16:share16", "dgq:group128", "lowrank:16:int2:group64:affine", "lowrank:16:nf4", "nested:8:group64",
    "nested:4:group64", "mwq:4:group64", "bitstack:4", "bitstack:16",
    "smoothquant:int8:channel", "rescale:int8:channel", "awq:int4:group128", "gptq:int4:group128",
)  # fmt: skip
#: ``raw`` shows the order-0 bound; the filters take floats and ggml blocks apart, and pass everything else on.
DEFAULT_CODECS = ("raw", "zstd:1", "lz4:1", "brotli:1", "fields(byteplane(zstd:1))", "huffman", "rans")

ALL = "all"

Named = TypeVar("Named", Quantizer, Codec)


def layouts(asked: Sequence[str]) -> list[Quantizer]:
    """The layouts of ``asked``: names with commas between, ``all`` for every family; the default for none.

    Raises ``UnknownNameError`` with the close matches, ``UsageError`` for options that a layout cannot take.
    """
    return _parsed(asked, "quantizers", DEFAULT_LAYOUTS, quant.parse, "--quant")


def codecs_of(asked: Sequence[str]) -> list[Codec]:
    """The codecs of ``asked``, in the same way; ``all`` are the plain ones with their default level."""
    return _parsed(asked, "codecs", DEFAULT_CODECS, codecs.parse, "--codec")


def _parsed(
    asked: Sequence[str], group: str, default: Sequence[str], parse: Callable[[str], Named], option: str
) -> list[Named]:
    names = [name.strip() for text in asked for name in _split(text)]
    if asked and not all(names):
        raise UsageError(f"{option} '{','.join(asked)}' has an empty name", f"write for example {option} {default[-3]}")
    known = registry.names(group)
    if not asked:
        names = [name for name in default if _is_installed(group, re.split(r"[:(]", name)[0])]
    found: dict[str, Named] = {}
    for name in names:
        for one in _expanded(group, known) if name == ALL else [name]:
            item = parse(one)
            found.setdefault(item.name, item)
    return list(found.values())


def _expanded(group: str, known: Sequence[str]) -> list[str]:
    """Every family; of others' plug-ins the bare name; filters, which need a codec, around zstd."""
    if group == "quantizers":
        listed = (*DEFAULT_LAYOUTS, *MORE_LAYOUTS)
        return [*listed, *(name for name in known if name not in {text.partition(":")[0] for text in listed})]
    return [f"{name}(zstd:1)" if codecs.is_filter(name) else name for name in known]


def _is_installed(group: str, name: str) -> bool:
    """Whether ``name`` is registered, and the packages that it needs are there."""
    try:
        registry.get(group, name)
    except (UnknownNameError, MissingPackageError):
        return False
    return True


def _split(text: str) -> list[str]:
    """At commas outside parentheses."""
    return re.split(r",(?![^(]*\))", text)
