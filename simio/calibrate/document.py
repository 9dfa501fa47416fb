"""The device file about to be written: one nested table, held against the catalogue's schema before it exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from simio import catalog
from simio.calibrate.quantities import Entry
from simio.errors import DeviceFileError, UsageError
from simio.paths import write_whole
from simio.records.device import Device

#: The schema version of device files written here.
SCHEMA = 1

Table = dict[str, Any]


def check_id(output: Path) -> str:
    """The id a device file at ``output`` must have; raises ``UsageError`` where its name is none."""
    if output.suffix != ".toml":
        raise UsageError(f"{output}: a device file is called NAME.toml", f"write -o {output.with_suffix('.toml').name}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", output.stem):
        raise UsageError(
            f"{output}: '{output.stem}' is no device id", "name it with lower-case letters, digits and dashes"
        )
    return output.stem


def write(table: Table, output: Path) -> Device:
    """Write ``table`` to ``output``, whole or not at all, and return the device that the catalogue reads from it.

    Sources nobody cites are dropped. Raises ``DeviceFileError`` where the table breaks the schema (nothing is written
    then) and ``WriteError``.
    """
    text = _toml(_cited_only(table))
    device, problems = catalog.parse(tomllib.loads(text), output.stem)
    if problems:
        shown = "\n  ".join(str(problem) for problem in problems)
        raise DeviceFileError(f"{output} was not written:\n  {shown}", problems[0].hint)
    write_whole(output, text)
    return device


def _toml(table: Table, path: str = "") -> str:
    """``table`` as the catalogue writes it: a line a number, then the tables below."""
    lines = [f"{_key(k)} = {_inline(v)}" for k, v in table.items() if not _is_table(v)]
    text = "\n".join(lines) + "\n" if lines else ""
    for key, value in table.items():
        place = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, dict) and _is_table(value):
            below = _toml(value, place)
            is_needed = any(not _is_table(item) for item in value.values())
            text += f"\n[{place}]\n{below}" if is_needed else below
        elif _is_table(value):
            text += "".join(f"\n[[{place}]]\n{_toml(item, place)}" for item in value)
    return text


def _is_table(value: Any) -> bool:
    """Whether ``value`` gets a header of its own; a number with its unit does not."""
    if isinstance(value, dict):
        return "value" not in value
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _inline(value: Any) -> str:
    import tomli_w

    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _inline(key)


def _cited_only(table: Table) -> Table:
    cited = set(_cites(table))
    sources = {name: source for name, source in table.get("sources", {}).items() if name in cited}
    return {key: value for key, value in table.items() if key != "sources"} | {"sources": sources}


def _cites(value: Any) -> list[str]:
    """Every source named in ``value``."""
    if isinstance(value, list):
        return [name for item in value for name in _cites(item)]
    if not isinstance(value, dict):
        return []
    own = [value["source"]] if isinstance(value.get("source"), str) else []
    return own + [name for key, item in value.items() if key != "sources" for name in _cites(item)]


def source(kind: str, url: str, note: str) -> Table:
    """One entry of ``[sources]``."""
    return {"kind": kind, "url": url, "note": note}


def curve_point(pattern: str, block_bytes: int, queue_depth: int, bandwidth: Entry) -> Table:
    """One entry of ``[[storage.curve]]``."""
    return {"pattern": pattern, "block": _size(block_bytes), "queue_depth": queue_depth, "bandwidth": bandwidth}


def _size(n_bytes: int) -> str:
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n_bytes % factor == 0:
            return f"{n_bytes // factor}{unit}"
    return f"{n_bytes}B"
