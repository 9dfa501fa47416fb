"""Which layouts and codecs a study looks at, from what the user wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from simio import codecs, quant, registry
from simio.codecs.base import Codec
from simio.errors import UsageError
from simio.quant.contract import Quantizer

#: From coarse to fine scales for each width, and the formats people download. Those not installed are left out.
DEFAULT_LAYOUTS = (
    "bf16", "f8_e4m3",
    "int8:tensor", "int8:channel", "int8:group128", "q8_0",
    "q6_k", "q4_k", "q4_0",
    "int4:tensor", "int4:channel", "int4:group128", "int4:group64:affine", "nf4", "mxfp4", "nvfp4",
    "int3:group128", "int2:group64:affine", "ternary",
)  # fmt: skip
#: ``raw`` shows the order-0 bound; the filters take floats and ggml blocks apart, and pass everything else on.
DEFAULT_CODECS = ("raw", "zstd:1", "lz4:1", "brotli:1", "fields(byteplane(zstd:1))", "huffman", "rans")

ALL = "all"

Named = TypeVar("Named", Quantizer, Codec)


def layouts(asked: Sequence[str]) -> list[Quantizer]:
    """The layouts of ``asked``: names with commas between, ``all`` for every registered one; the default for none.

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
        names = [name for name in default if re.split(r"[:(]", name)[0] in known]
    found: dict[str, Named] = {}
    for name in names:
        for one in _expanded(group, known) if name == ALL else [name]:
            item = parse(one)
            found.setdefault(item.name, item)
    return list(found.values())


def _expanded(group: str, known: Sequence[str]) -> list[str]:
    """Every registered name; filters, which need a codec, around zstd."""
    if group == "quantizers":
        return list(known)
    return [f"{name}(zstd:1)" if codecs.is_filter(name) else name for name in known]


def _split(text: str) -> list[str]:
    """At commas outside parentheses."""
    return re.split(r",(?![^(]*\))", text)
