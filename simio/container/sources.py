"""What goes into a container: the model's weights files, and the small files a program needs beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from simio.errors import ModelFileError
from simio.formats.llama2c import vocabulary_files
from simio.formats.safetensors_files import locate
from simio.records.model import Model
from simio.units import MIB

#: Configuration and vocabulary, as the transformers library names them.
COMPANIONS = (
    "config.json", "generation_config.json", "quantize_config.json", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "chat_template.jinja",
)  # fmt: skip
_MAX_COMPANION_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as it was when packing began."""

    path: Path
    n_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """The file at ``path`` now; raises ``ModelFileError`` when it cannot be looked at."""
        try:
            facts = os.stat(path)
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror}", "is the file still there?") from error
        return cls(path, facts.st_size, facts.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Raise ``ModelFileError`` when the file has changed since."""
        if SourceFile.of(self.path) != self:
            raise ModelFileError(f"{self.path}: changed while it was packed", "run the same command again")


def source_files(path: Path, model: Model) -> tuple[SourceFile, ...]:
    """The files of ``model``, opened from ``path``: those of ``model.files`` first, then its companions.

    GGUF files carry their own configuration and vocabulary; safetensors leave them to files in the same directory,
    of which those of ``COMPANIONS`` up to 64 MiB are taken, and the index of the shards; llama2.c has its vocabulary
    there.
    """
    weights = [Path(file) for file in model.files]
    beside: list[Path] = []
    if model.format == "safetensors":
        index = locate(path.expanduser().absolute()).index
        named = [weights[0].parent / name for name in COMPANIONS]
        beside = [file for file in (index, *named) if file is not None and _is_small_file(file)]
    if model.format == "llama2c":
        beside = [file for name in vocabulary_files(model) if _is_small_file(file := weights[0].parent / name)][:1]
    return tuple(SourceFile.of(file) for file in (*weights, *beside))


def _is_small_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= _MAX_COMPANION_BYTES
