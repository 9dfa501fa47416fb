"""Read safetensors models: one file, a sharded set with its index, or a Hugging Face directory with ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simio.formats import hf_config, packed
from simio.formats.damage import damaged
from simio.formats.digest import digest
from simio.formats.safetensors_files import INDEX_SUFFIX, SUFFIX, Located, has_weights, locate
from simio.formats.safetensors_header import looks_like_header, read_header
from simio.formats.shapes import complete
from simio.records.model import Architecture, Model, Stream

_NO_CONFIG = "no config.json beside the weights: read from tensor shapes; head counts and context length may be unknown"


class Safetensors:
    """The entry point ``simio.formats: safetensors``."""

    @staticmethod
    def sniff(path: Path) -> bool:
        """Whether ``path`` is meant as safetensors, by its name or its first bytes; damaged files included."""
        if path.is_dir():
            return has_weights(path)
        return path.name.endswith((SUFFIX, INDEX_SUFFIX)) or looks_like_header(path)

    @staticmethod
    def open(path: Path) -> Model:
        """The model at ``path``, which may be a file, one shard, an index or a directory.

        Raises ``ModelFileError`` for anything missing, truncated or inconsistent.
        """
        located = locate(path)
        streams, data_starts = _headers(located)
        config = hf_config.read_config(located.config) if located.config else {}
        stated = hf_config.architecture(config, located.config) if located.config else _unknown()
        packing = packed.Packing(located.files, _quantization(config))
        tensors = packed.assemble(streams, packing, stated.n_experts)
        architecture, notes = complete(stated, tensors)
        return Model(
            name=located.name,
            source="file",
            format="safetensors",
            digest=digest(list(zip(located.files, data_starts, strict=True))),
            n_bytes=sum(file.stat().st_size for file in located.files),
            architecture=architecture,
            tensors=tensors,
            files=tuple(str(file) for file in located.files),
            notes=(*(() if located.config else (_NO_CONFIG,)), *notes),
        )


def _headers(located: Located) -> tuple[list[Stream], list[int]]:
    """All arrays of all files in file order, each checked against the index where there is one."""
    streams: list[Stream] = []
    data_starts: list[int] = []
    home: dict[str, int] = {}
    for index, file in enumerate(located.files):
        found, data_start = read_header(file, index)
        data_starts.append(data_start)
        for stream in found:
            if stream.name in home:
                raise damaged(file, f"tensor '{stream.name}' is also in {located.files[home[stream.name]].name}")
            home[stream.name] = index
        streams.extend(found)
    located.check_promises(home)
    return streams, data_starts


def _quantization(config: dict[str, Any]) -> dict[str, Any]:
    """``quantization_config`` (``quantization`` in MLX), also where a multi-modal model nests it."""
    for holder in (config, config.get("text_config")):
        if isinstance(holder, dict):
            for key in ("quantization_config", "quantization"):
                if isinstance(holder.get(key), dict):
                    return dict(holder[key])
    return {}


def _unknown() -> Architecture:
    return Architecture("", 0, 0, 0, 0, 0, 0, 0)
