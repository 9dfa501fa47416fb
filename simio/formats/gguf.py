"""Read GGUF models: one file, or the parts that ``llama-gguf-split`` cut (``-00001-of-00003.gguf``)."""

from __future__ import annotations

import re
from pathlib import Path

from simio.errors import ModelFileError
from simio.formats import gguf_metadata
from simio.formats.damage import damaged
from simio.formats.digest import digest
from simio.formats.gguf_header import Header, has_magic, read_header
from simio.formats.shapes import complete
from simio.formats.tensors import in_file_order, plain_tensor
from simio.records.model import Model

SUFFIX = ".gguf"
_PART = re.compile(r"^(?P<stem>.+)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf$")
#: Files beside a language model: projectors of multi-modal models, importance matrices.
_BESIDE = re.compile(r"mmproj|imatrix", re.IGNORECASE)


class Gguf:
    """The entry point ``simio.formats: gguf``."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether ``path`` is meant as GGUF, by its name or its magic; damaged files included."""
        if path.is_dir():
            return any(p.name.endswith(SUFFIX) for p in path.iterdir())
        return path.name.endswith(SUFFIX) or has_magic(path)

    @staticmethod
    def open(path: Path) -> Model:
        """The model at ``path``: a file, any part of a split one, or a directory with one model.

        Raises ``ModelFileError`` for anything missing, truncated or inconsistent.
        """
        path = _only_model(path) if path.is_dir() else path
        files = _parts(path)
        headers = [read_header(file, index) for index, file in enumerate(files)]
        _check_parts(files, headers)
        facts = gguf_metadata.Facts(headers[0].metadata, files[0])
        streams = [stream for header in headers for stream in header.tensors]
        tensors = in_file_order(plain_tensor(stream, facts.count("expert_count")) for stream in streams)
        architecture, notes = complete(gguf_metadata.architecture(facts, tensors), tensors)
        part = _PART.match(path.name)
        return Model(
            name=part["stem"] if part else path.name.removesuffix(SUFFIX),
            source="file",
            format="gguf",
            digest=digest([(file, header.data_start) for file, header in zip(files, headers, strict=True)]),
            n_bytes=sum(file.stat().st_size for file in files),
            architecture=architecture,
            tensors=tensors,
            files=tuple(str(file) for file in files),
            notes=(*_generated(headers[0]), *notes),
        )


def _generated(header: Header) -> tuple[str, ...]:
    """What ``simio generate`` wrote says so."""
    is_generated = header.metadata.get("simio.generated") is True
    return ("its weights are generated, not trained: times mean something, text does not",) if is_generated else ()


def _only_model(directory: Path) -> Path:
    files = sorted(p for p in directory.iterdir() if p.name.endswith(SUFFIX) and not _BESIDE.search(p.name))
    models = {(part["stem"] if (part := _PART.match(file.name)) else file.name): file for file in reversed(files)}
    if len(models) != 1:
        listed = ", ".join(sorted(file.name for file in models.values())[:12])
        hint = f"name one of: {listed}" if models else "give a directory with one model, or the file itself"
        raise ModelFileError(f"{directory}: holds {len(models)} GGUF models", hint)
    return next(iter(models.values()))


def _parts(path: Path) -> tuple[Path, ...]:
    """All parts of the model that ``path`` is a part of, in order; raises ``ModelFileError`` for missing ones."""
    part = _PART.match(path.name)
    if part is None:
        return (path,)
    stem, count = part["stem"], int(part["count"])
    if not 1 <= int(part["no"]) <= count <= 10_000:
        raise damaged(path, f"is part {int(part['no'])} of {count} by its name", "give the file its own name back")
    files = tuple(path.with_name(f"{stem}-{no:05d}-of-{part['count']}{SUFFIX}") for no in range(1, count + 1))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise ModelFileError(f"{path}: {len(missing)} of {count} parts missing: {shown}", "download them beside it")
    return files


def _check_parts(files: tuple[Path, ...], headers: list[Header]) -> None:
    """The parts agree with their numbering, share no tensor, and together have at least one."""
    home: dict[str, Path] = {}
    for no, (file, header) in enumerate(zip(files, headers, strict=True)):
        count = header.metadata.get("split.count", 1)
        if count not in (0, len(files)) or header.metadata.get("split.no", no) != no:
            raise damaged(
                file, f"is part {header.metadata.get('split.no')} (from 0) of {count} by its metadata, not by its name",
                "keep the names NAME-00001-of-0000N.gguf that llama-gguf-split gave",
            )  # fmt: skip
        for stream in header.tensors:
            if stream.name in home:
                raise damaged(file, f"tensor '{stream.name}' is also in {home[stream.name].name}")
            home[stream.name] = file
    if not home:
        raise damaged(files[0], "has no tensors", "a vocabulary-only file cannot be run; choose one with weights")
    stated = headers[0].metadata.get("split.tensors.count", len(home))
    if stated != len(home):
        raise damaged(files[0], f"promises {stated} tensors, its parts have {len(home)}")
