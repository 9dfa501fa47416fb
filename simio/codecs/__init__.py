"""Lossless codecs and filters by name: ``raw``, ``lz4:1``, ``zstd:1``, ``brotli:5``, ``byteplane(zstd:1)`` …

One syntax: ``name``, ``name:level`` or ``filter(codec)``. Importing this package loads no compression library.
"""

from __future__ import annotations

import dataclasses
import re
from typing import cast

from simio import registry
from simio.codecs.base import Codec
from simio.errors import UsageError

__all__ = ["Codec", "is_filter", "names", "parse"]

_PLAIN = re.compile(r"([A-Za-z0-9_.-]+?)(?::(.*))?")
_FILTER = re.compile(r"([A-Za-z0-9_.-]+)\((.*)\)")
_MAX_FILTERS = 8
_HINT = "write for example zstd:1, lz4:1, raw or byteplane(zstd:1)"


def names() -> list[str]:
    """The registered codecs and filters, sorted; imports none of them."""
    return registry.names("codecs")


def is_filter(name: str) -> bool:
    """Whether the registered ``name`` is a filter, which takes a codec in parentheses; imports it."""
    return "inner" in _load(name)[1]


def parse(text: str) -> Codec:
    """The codec that ``text`` names.

    Raises ``UnknownNameError`` with the close matches, ``UsageError`` for a bad level or malformed text,
    ``MissingPackageError`` with the install command.

    >>> parse("byteplane(zstd:1)").name
    'byteplane(zstd:1)'
    """
    text = text.strip()
    if text.count("(") > _MAX_FILTERS:
        raise UsageError(f"codec '{text[:40]}…' has more than {_MAX_FILTERS} filters", _HINT)
    if match := _FILTER.fullmatch(text):
        return _filter(match[1], match[2], text)
    if match := _PLAIN.fullmatch(text):
        return _plain(match[1], match[2], text)
    raise UsageError(f"codec '{text}' is malformed", _HINT)


def _filter(name: str, inner: str, text: str) -> Codec:
    codec_type, config = _load(name)
    if "inner" not in config:
        raise UsageError(f"codec '{text}': {name} is not a filter and takes no codec in parentheses", _HINT)
    return cast(Codec, codec_type(inner=parse(inner)))


def _plain(name: str, level: str | None, text: str) -> Codec:
    codec_type, config = _load(name)
    if "inner" in config:
        raise UsageError(f"codec '{text}': {name} is a filter and needs a codec", f"write {name}(zstd:1)")
    if level is None:
        return cast(Codec, codec_type())
    if "level" not in config:
        raise UsageError(f"codec '{text}': {name} has no level", f"write {name}")
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", level):
        raise UsageError(f"codec '{text}': level '{level}' is not a whole number", _HINT)
    return cast(Codec, codec_type(level=int(level)))


def _load(name: str) -> tuple[type, set[str]]:
    codec_type = registry.get("codecs", name)
    return codec_type, {field.name for field in dataclasses.fields(codec_type)}
