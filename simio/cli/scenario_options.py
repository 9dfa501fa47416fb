"""Options that several commands turn into fields of a ``Scenario``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simio.cli.output import share
from simio.errors import UsageError
from simio.units import parse, parse_bytes


def fields_of(
    plain: dict[str, Any], sizes: dict[str, tuple[str, str | None]], read_limit: str | None, pin: str | None
) -> dict[str, Any]:
    """Scenario fields that are given: ``plain`` as they are, ``sizes`` (option, text) parsed; the others left out."""
    found = dict(plain)
    found |= {name: parse_bytes(text, option) for name, (option, text) in sizes.items() if text is not None}
    if read_limit is not None:
        found["read_limit_bytes_per_s"] = parse(read_limit, "bytes_per_s", "--read-limit")
    found |= _pin(pin)
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def naming_options() -> Iterator[None]:
    """Let errors in the body speak of options as they are typed, not of the fields of a scenario."""
    try:
        yield
    except UsageError as error:
        raise UsageError(in_options(error.message), error.hint) from None


def in_options(message: str) -> str:
    """Field names of a scenario as the options they come from."""
    from simio.predict.command import OPTIONS

    return re.sub(r"\b[a-z]+_[a-z_]+\b|^\w+(?= is )", lambda word: OPTIONS.get(word[0], word[0]), message)


def _pin(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text.endswith("%"):
        return {"pinned_fraction": share(text, "--pin")}
    try:
        return {"pinned_bytes": parse_bytes(text, "--pin")}
    except UsageError as error:
        raise UsageError(error.message, "write for example 50% or 2GB") from None
