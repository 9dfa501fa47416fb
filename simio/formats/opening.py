"""Open a model, whatever its format: the registered readers are asked in turn."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from simio import registry
from simio.errors import ModelFileError
from simio.records.model import Model

#: Formats that cannot be read safely or without their program, and what to do instead.
_FOREIGN = {
    ".bin": "convert it to safetensors (a pickle runs code when it is opened)",
    ".pt": "convert it to safetensors (a pickle runs code when it is opened)",
    ".pth": "convert it to safetensors (a pickle runs code when it is opened)",
    ".ckpt": "convert it to safetensors (a pickle runs code when it is opened)",
    ".onnx": "export the model as safetensors or GGUF",
    ".tflite": "export the model as safetensors or GGUF",
    ".task": "export the model as safetensors or GGUF",
    ".h5": "export the model as safetensors or GGUF",
    ".msgpack": "export the model as safetensors or GGUF",
    ".ggml": "convert it to GGUF with llama.cpp's convert_llama_ggml_to_gguf.py",
}


def open_model(path: str | Path) -> Model:
    """The model in a file or directory, without its weights' bytes.

    Raises ``ModelFileError`` (what is wrong, where, what to do) for a path that is missing, empty, damaged, ambiguous
    or of no known format.
    """
    path = Path(path)
    try:
        model: Model = _reader(path).open(path.absolute())
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}", "check the path and permissions") from error
    return model


def _reader(path: Path) -> Any:
    if not path.exists():
        raise _missing(path)
    if not path.is_dir() and not path.is_file():
        raise ModelFileError(f"{path}: is neither a file nor a directory", "give a model file or its directory")
    if path.is_file() and path.stat().st_size == 0:
        raise ModelFileError(f"{path}: the file is empty", "download it again")
    formats = {name: registry.get("formats", name) for name in registry.names("formats")}
    claims = {name: reader for name, reader in formats.items() if reader.sniff(path)}
    if not claims:
        raise _not_a_model(path, sorted(formats))
    if len(claims) > 1:
        raise ModelFileError(f"{path}: holds models as {' and as '.join(claims)}", "name the file to open")
    return next(iter(claims.values()))


def _missing(path: Path) -> ModelFileError:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.5)
    if close:
        hint = f"did you mean {' or '.join(str(path.parent / name) for name in close)}?"
    else:
        hint = "check the path" if path.parent.is_dir() else f"there is no directory {path.parent}"
    return ModelFileError(f"{path}: no such file or directory", hint)


def _not_a_model(path: Path, formats: list[str]) -> ModelFileError:
    known = f"known formats: {', '.join(formats)}"
    if path.is_dir():
        foreign = sorted(p.name for p in path.iterdir() if p.suffix.lower() in _FOREIGN)
        if foreign:
            return ModelFileError(f"{path}: holds only {', '.join(foreign[:5])}", _foreign_hint(foreign[0]))
        return ModelFileError(f"{path}: is a directory without a model", known)
    if path.suffix.lower() in _FOREIGN:
        return ModelFileError(f"{path}: {path.suffix} files are not read", _foreign_hint(path.name))
    if path.name == "config.json":
        return ModelFileError(f"{path}: describes a model but has no weights", f"give its directory {path.parent}")
    return ModelFileError(f"{path}: is no model file", known)


def _foreign_hint(name: str) -> str:
    return _FOREIGN[Path(name).suffix.lower()]
