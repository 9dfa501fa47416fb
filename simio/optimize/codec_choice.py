"""The codecs that are worth trying: the device can decompress them, and the weights shrink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simio import codecs
from simio.errors import UsageError
from simio.optimize.search import Search
from simio.predict.resolve import Resolved
from simio.service_times import base_codec

#: Codecs that are tried where none are named, and the model's own.
DEFAULT_CODECS = ("raw", "zstd:1", "lz4:1", "fields(zstd:1)", "byteplane(zstd:1)")
#: Less than so much saved on flash is not worth a codec.
LEAST_RATIO = 1.01


def worth_trying(search: Search, one: Resolved, names: Sequence[str]) -> list[str]:
    """Those of ``names`` (or of the default) that can help, with a note on those that cannot.

    Raises ``UsageError`` where that leaves none.
    """
    if one.layout.n_experts:
        ignored = [name for name in map(_name, names) if name != "raw"]
        search.notes += [f"{', '.join(ignored)}: not tried, experts are read as they are stored"] if ignored else []
        return ["raw"]
    asked = dict.fromkeys(map(_name, names or (*DEFAULT_CODECS, one.profile.codec)))
    found: dict[tuple[str, float], str] = {}  # by base codec and ratio: a filter that changes nothing is not one more
    for name in asked:
        ratio, why = _ratio(search, one, name)
        if not why:
            found.setdefault((base_codec(name), round(ratio, 9)), name)
        elif names or ratio:
            search.notes.append(f"{name} {why}: not tried")
    if not found:
        raise UsageError("none of the codecs can be tried: " + "; ".join(search.notes), "offer raw, too")
    return list(found.values())


def _name(text: str) -> str:
    return codecs.parse(text).name


def _ratio(search: Search, one: Resolved, name: str) -> tuple[float, str]:
    """How far the weights shrink, and what is wrong with that."""
    if name == "raw":
        return 1.0, ""
    if base_codec(name) not in one.device.cpu.decompress:
        return 0.0, f"has no decompression rate on {one.device.name}"
    try:
        ratio = search.trials.profile(replace(search.base, codec=name))[0].ratio
    except UsageError as error:  # a stored profile has one codec
        return 0.0, f"cannot be had ({error.message})"
    return ratio, "" if ratio >= LEAST_RATIO else f"makes these weights {ratio:.3f} times smaller"
