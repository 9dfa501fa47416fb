"""Options that several commands turn into fields of a ``Scenario``.

``simio predict`` declares them; a command marked ``takes_scenario`` has the same ones without saying them again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_type_hints

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


#: Parameters of `simio predict` that are no field of a scenario.
_ITS_OWN = ("scenario_file", "check", "as_json", "report", "save_scenario")


def takes_scenario(but: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the scenario options of `simio predict`, all but those named ``but``.

    They arrive together, as fields of a ``Scenario``, in its parameter ``fields``.
    """

    def mark(command: Callable[..., None]) -> Callable[..., None]:
        from simio.cli.predict import predict

        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(annotation=hints[p.name]) for p in inspect.signature(command).parameters.values()
            if p.name != "fields"
        ]  # fmt: skip
        hints = get_type_hints(predict, include_extras=True)
        shared = [
            p.replace(annotation=hints[p.name]) for p in inspect.signature(predict).parameters.values()
            if p.name not in (*_ITS_OWN, *but)
        ]  # fmt: skip
        names = {p.name for p in shared}

        def run(**given: Any) -> None:
            fields = scenario_fields({name: given[name] for name in names})
            command(fields=fields, **{name: value for name, value in given.items() if name not in names})

        run.__doc__, run.__name__ = command.__doc__, command.__name__
        run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        return run

    return mark


def scenario_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Scenario fields from parameters of `simio predict` by name; those that are None are left out."""
    from simio.predict.command import OPTIONS, SIZES

    plain, sizes = {}, {}
    for field, option in OPTIONS.items():
        name = option.removeprefix("--").replace("-", "_")
        if field in SIZES and name != "pin":
            sizes[field] = option, given.get(name)
        elif name not in ("pin", "read_limit"):
            plain[field] = given.get(name)
    return fields_of(plain, sizes, given.get("read_limit"), given.get("pin"))


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
