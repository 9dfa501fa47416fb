"""Read bytes of weights from a model's files, from any thread, without mapping them into memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from simio.errors import UsageError
from simio.formats.damage import damaged
from simio.records.model import Model, Stream


class WeightsReader:
    """Positional reads from the files of a model; a context manager.

    Memory stays at what one call returns, whatever the size of the file; threads may share one reader, because every
    read carries its own position (``pread``). Files are opened at first use.

    >>> with WeightsReader(model) as weights:                                   # doctest: +SKIP
    ...     first_mib = weights.read(model.tensors[0].streams[0], 0, 2**20)
    """

    def __init__(self, model: Model) -> None:
        self._files = model.files
        self._descriptors: dict[int, int] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> WeightsReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading afterwards is a ``UsageError``."""
        with self._lock:
            self._closed = True
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()

    def read(self, stream: Stream, start: int, n_bytes: int) -> bytes:
        """``n_bytes`` of ``stream`` from its byte ``start``; fewer only where the stream ends.

        Raises ``ModelFileError`` when the file has shrunk or vanished since it was opened, ``UsageError`` on a
        negative position or count.
        """
        if start < 0 or n_bytes < 0:
            raise UsageError(f"cannot read {n_bytes} bytes from byte {start} of '{stream.name}'", "both must be ≥ 0")
        n_bytes = max(0, min(n_bytes, stream.n_bytes - start))
        path = self._files[stream.file_index]
        try:
            return _pread(self._descriptor(stream.file_index), path, stream.offset + start, n_bytes)
        except OSError as error:
            raise damaged(path, f"cannot be read: {error.strerror}", "is the file still there?") from error

    def _descriptor(self, file_index: int) -> int:
        with self._lock:
            if self._closed:
                raise UsageError("the weights reader is closed", "read inside its 'with' block")
            if file_index not in self._descriptors:
                self._descriptors[file_index] = os.open(self._files[file_index], os.O_RDONLY)
            return self._descriptors[file_index]


def read_bytes(path: Path, start: int, n_bytes: int) -> bytes:
    """``n_bytes`` of a file from byte ``start``; raises ``ModelFileError`` when there are fewer."""
    try:
        with path.open("rb") as file:
            return _pread(file.fileno(), path, start, n_bytes)
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}", "check the path and its permissions") from error


def _pread(descriptor: int, path: str | Path, start: int, n_bytes: int) -> bytes:
    """One system call reads at most 2 GiB and may return less, hence the loop."""
    data = os.pread(descriptor, n_bytes, start)
    while len(data) < n_bytes:
        more = os.pread(descriptor, n_bytes - len(data), start + len(data))
        if not more:
            raise damaged(path, f"ends at byte {start + len(data)}, before the {n_bytes} bytes wanted from {start}")
        data += more
    return data
