"""A container is a model file like any other: ``simio inspect`` and ``simio predict`` open it by its index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simio.container.header import MAGIC
from simio.container.reading import Container
from simio.records.model import Model

SUFFIX = ".simio"
FORMAT = "simio"
#: Another format that says in its first bytes what it is, whatever the file is called.
_GGUF = b"GGUF"


class Packed:
    """The entry point ``simio.formats: simio``."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether ``path`` is meant as a container: by its magic or, whatever became of that, by its name."""
        return path.is_file() and (is_container(path) or (path.suffix == SUFFIX and _magic(path, len(_GGUF)) != _GGUF))

    @staticmethod
    def open(path: Path) -> Model:
        """The packed model; raises ``ContainerError`` for a damaged container."""
        with Container.open(path) as container:
            codecs = ", ".join(sorted({name for name, _ in container.index.codecs}))
            note = f"packed from {container.model.format} with {codecs}: {container.header.file_bytes} bytes"
            return replace(container.model, format=FORMAT, files=(str(path),), notes=(*container.model.notes, note))


def is_container(path: Path) -> bool:
    """Whether the file at ``path`` begins like a container."""
    return _magic(path, len(MAGIC)) == MAGIC


def _magic(path: Path, n_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n_bytes)
