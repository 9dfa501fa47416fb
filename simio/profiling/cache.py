"""Remember what profiling found: chunks by content, and finished profiles by model, codec and host.

Below the root: ``chunks/<codec>-<hash>.txt`` (see ``journal``) and ``profiles/<hash>.simio.json``. All of it can be
deleted at any time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from simio import paths
from simio.codecs.base import Codec
from simio.errors import ProfileError, WriteError
from simio.profiling import profile_file
from simio.profiling.host import cpu_name
from simio.profiling.journal import ChunkJournal
from simio.records.codec_profile import CodecProfile
from simio.records.model import Model


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a finished profile depends on, beside the machine."""

    model: Model
    codec: Codec
    chunk_bytes: int
    sample: float | None
    seed: int

    def digest(self) -> str:
        """Hash over model content, codec, options and CPU.

        The model's digest samples large files, so the modification times of its files enter too: a file edited in
        place is profiled again (its unchanged chunks come from the journal).
        """
        times = [os.stat(file).st_mtime_ns for file in self.model.files]
        draw = None if self.sample is None else (self.sample, self.seed)
        parts = (
            self.model.digest,
            self.codec.name,
            self.codec.library_version,
            self.chunk_bytes,
            draw,
            times,
            cpu_name(),
        )
        return str(xxhash.xxh3_128_hexdigest(repr(parts).encode()))


@dataclass(frozen=True, slots=True)
class ProfileCache:
    """The cache under ``root``; nothing is created before something is stored."""

    root: Path

    @classmethod
    def default(cls) -> ProfileCache:
        """The user's cache: ``paths.cache_dir()``."""
        return cls(paths.cache_dir())

    def journal(self, codec: Codec) -> ChunkJournal:
        """What is known about chunks under ``codec`` and its library version."""
        identity = xxhash.xxh3_64_hexdigest(f"{codec.name}|{codec.library_version}".encode())
        readable = "".join(c if c.isalnum() or c == "-" else "_" for c in codec.name)
        return ChunkJournal(self.root / "chunks" / f"{readable}-{identity}.txt")

    def find(self, key: ProfileKey) -> CodecProfile | None:
        """The finished profile, or None when there is none or it cannot be read: it is then measured again."""
        try:
            found = profile_file.load(self._path(key))
        except ProfileError:
            return None
        same = [t.name for t in found.model.tensors] == [t.name for t in key.model.tensors]
        return replace(found, model=key.model) if same else None

    def store(self, key: ProfileKey, profile: CodecProfile) -> None:
        """Keep a finished profile; raises ``WriteError`` when it cannot be written."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "set SIMIO_CACHE to a folder that can be written, or profile without the cache"
            raise WriteError(f"cannot write the profiling cache {path.parent}: {error.strerror}", hint) from error
        profile_file.save(profile, path)

    def _path(self, key: ProfileKey) -> Path:
        return self.root / "profiles" / f"{key.digest()}{profile_file.SUFFIX}"
