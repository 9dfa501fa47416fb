"""Which files make up a safetensors model: the shards that an index or their names promise, and its ``config.json``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from simio.errors import ModelFileError
from simio.formats.damage import damaged

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<no>\d{5})-of-(?P<count>\d{5})\.safetensors$")


@dataclass(frozen=True, slots=True)
class Located:
    """The weights files in order; ``promised`` maps tensor names to file names where an index says so."""

    name: str
    files: tuple[Path, ...]
    config: Path | None
    index: Path | None = None
    promised: dict[str, str] = field(default_factory=dict)

    def check_promises(self, home: dict[str, int]) -> None:
        """Every tensor the index names is in the shard it names; ``home``: tensor → index into ``files``."""
        for name, file in self.promised.items():
            if name not in home or self.files[home[name]].name != file:
                raise damaged(self.index or file, f"names tensor '{name}' in {file}, which does not have it")


def has_weights(directory: Path) -> bool:
    """Whether a directory holds safetensors files or an index of them."""
    return any(p.name.endswith((SUFFIX, INDEX_SUFFIX)) for p in directory.iterdir())


def locate(path: Path) -> Located:
    """The model that ``path`` belongs to; raises ``ModelFileError`` for missing shards and ambiguous directories."""
    if path.is_dir():
        return _in_directory(path)
    if path.name.endswith(INDEX_SUFFIX):
        return _by_index(path)
    if shard := _SHARD.match(path.name):
        index = path.with_name(f"{shard['stem']}{INDEX_SUFFIX}")
        return _by_index(index) if index.is_file() else _by_names(path.parent, shard["stem"], int(shard["count"]))
    return Located(_name(path), (path,), _config(path.parent))


def _in_directory(directory: Path) -> Located:
    names = sorted(p.name for p in directory.iterdir())
    indexes = [name for name in names if name.endswith(INDEX_SUFFIX)]
    if "model.safetensors" in names:
        return locate(directory / "model.safetensors")
    if indexes:
        preferred = "model" + INDEX_SUFFIX
        return _by_index(directory / (preferred if preferred in indexes else indexes[0]))
    files = [name for name in names if name.endswith(SUFFIX)]
    models = {(shard["stem"] if (shard := _SHARD.match(name)) else name) for name in files}
    if len(models) != 1:
        raise ModelFileError(f"{directory}: holds {len(models)} models", f"name one of: {', '.join(files[:12])}")
    return locate(directory / files[0])


def _by_index(index: Path) -> Located:
    promised = _read_index(index)
    files = tuple(index.parent / name for name in sorted(set(promised.values())))
    _check_present(index, files)
    return Located(_name(index), files, _config(index.parent), index, promised)


def _read_index(index: Path) -> dict[str, str]:
    try:
        table = json.loads(index.read_bytes())
    except OSError as error:
        raise damaged(index, f"cannot be read: {error.strerror}", "check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise damaged(index, f"is not JSON ({error})") from error
    promised = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(promised, dict) or not promised:
        raise damaged(index, "has no weight_map of tensors to files")
    for name, file in promised.items():
        if not isinstance(file, str) or not file.endswith(SUFFIX) or Path(file).name != file:
            raise damaged(index, f"tensor '{name}' is said to be in {file!r}, which is no file beside the index")
    return promised


def _by_names(directory: Path, stem: str, count: int) -> Located:
    if count > 10_000:
        raise ModelFileError(f"{directory}: {count} shards are more than any model has", "check the file name")
    files = tuple(directory / f"{stem}-{no:05d}-of-{count:05d}{SUFFIX}" for no in range(1, count + 1))
    _check_present(directory, files)
    return Located(_name(directory / f"{stem}{SUFFIX}"), files, _config(directory))


def _check_present(where: Path, files: tuple[Path, ...]) -> None:
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise ModelFileError(
            f"{where}: {len(missing)} of {len(files)} shards missing: {shown}", "download them beside it"
        )


def _config(directory: Path) -> Path | None:
    config = directory / "config.json"
    return config if config.is_file() else None


def _name(path: Path) -> str:
    """The file's own name; that of the nearest directory with a name where it is called ``model`` like everybody's."""
    stem = path.name.removesuffix(INDEX_SUFFIX).removesuffix(SUFFIX)
    named = (part.name for part in path.resolve().parents if part.name != "model")
    return stem if stem != "model" else next(named, stem)
