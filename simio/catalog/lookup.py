"""From what people call a device to its file.

An exact id costs one ``stat``. Only a name that is no id makes the catalogue look at the other files, and then only at
their top: the few lines above the first table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from simio.catalog.device_file import read
from simio.errors import DeviceFileError, UnknownNameError
from simio.paths import data_dir
from simio.records.device import Device

_ID = re.compile(r"[a-z0-9][a-z0-9-]*")
_MAKERS = ("samsung", "galaxy", "google", "apple")


def names() -> list[str]:
    """The ids of the catalogue, sorted; no file is opened."""
    return sorted(path.stem for path in data_dir("devices").glob("*.toml"))


def load(id_or_path: str) -> Device:
    """The device called ``id_or_path``: a catalogue id, another name (``"Pixel 8"``, ``"s23"``) or a path to a .toml.

    Raises ``UnknownNameError`` with the close matches, ``DeviceFileError`` where the file breaks the schema.
    """
    return read(find(id_or_path))


def find(id_or_path: str) -> Path:
    """The file of the device called ``id_or_path``, as ``load`` understands it; raises ``UnknownNameError``."""
    if id_or_path.endswith(".toml"):
        return Path(id_or_path)
    folder = data_dir("devices")
    exact = folder / f"{id_or_path}.toml"
    if _ID.fullmatch(id_or_path) and exact.is_file():
        return exact
    for wanted in (_plain(id_or_path), _plain(re.sub(r"\(.*?\)", "", id_or_path))):
        for path in sorted(folder.glob("*.toml")):
            if wanted and wanted == _plain(path.stem):
                return path
        for path, alias in _aliases(folder):
            if wanted and wanted == _plain(alias):
                return path
    raise UnknownNameError("device", id_or_path, names())


def _plain(name: str) -> str:
    """``"Samsung Galaxy S23"`` and ``"galaxy-s23"`` → ``"s23"``: lower case, no punctuation, no maker's name."""
    words = re.findall(r"[a-z0-9+]+", name.lower())
    return "".join(word for word in words if word not in _MAKERS)


def _aliases(folder: Path) -> Iterator[tuple[Path, str]]:
    """The names given by the top of every device file."""
    for path in sorted(folder.glob("*.toml")):
        top = path.read_text(encoding="utf-8").split("\n[", 1)[0]
        try:
            table = tomllib.loads(top)
        except tomllib.TOMLDecodeError as error:
            raise DeviceFileError(f"{path}: not valid TOML: {error}") from None
        for alias in (table.get("name"), *table.get("aliases", ())):
            if isinstance(alias, str):
                yield path, alias
