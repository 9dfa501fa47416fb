"""A file that appears whole or not at all: written as ``NAME.partial`` under a lock, flushed to disk, then renamed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from simio.codecs.base import Buffer
from simio.errors import ContainerError, WriteError


@contextmanager
def writing(path: Path, hint: str) -> Iterator[None]:
    """Turn what the file system refuses inside into ``WriteError`` about ``path`` with ``hint``."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}", hint) from error


class Draft:
    """The future file ``path``; a context manager. Leaving without ``finish`` or ``discard`` keeps the partial file.

    Raises ``ContainerError`` when another process is writing the same file, ``WriteError`` when the directory or
    the disk refuses; ``hint`` says what to do then.
    """

    def __init__(self, path: Path, hint: str) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self._hint = hint
        self._descriptor = self._open()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def _open(self) -> int:
        """Open and lock the partial file; again where another process renamed or removed it between the two."""
        while True:
            with writing(self.partial, self._hint):
                descriptor = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                with writing(self.partial, self._hint):
                    if self._lock(descriptor):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _lock(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ContainerError(
                f"{self.path} is being written by another process", "wait until it is done, or choose another output"
            ) from error
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.partial))
        except FileNotFoundError:
            return False

    @property
    def n_bytes(self) -> int:
        """Length of the partial file so far."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, n_bytes: int) -> bytes:
        """What was written there; fewer bytes at the end."""
        with writing(self.partial, self._hint):
            return os.pread(self._descriptor, n_bytes, offset)

    def write(self, data: Buffer, offset: int) -> None:
        """Write all of ``data`` from ``offset``; from any thread."""
        view = memoryview(data)
        with writing(self.partial, self._hint):
            while view:
                n_written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[n_written:], offset + n_written

    def resize(self, n_bytes: int) -> None:
        """Cut off or extend with zeros."""
        with writing(self.partial, self._hint):
            os.ftruncate(self._descriptor, n_bytes)

    def finish(self) -> None:
        """Flush to disk and give the file its name, replacing one that had it."""
        with writing(self.path, self._hint):
            os.fsync(self._descriptor)
            os.replace(self.partial, self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def discard(self) -> None:
        """Remove the partial file."""
        self.partial.unlink(missing_ok=True)
