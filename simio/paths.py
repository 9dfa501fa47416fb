"""Where simio's data files lie, where it may cache, and how it writes a file: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from simio.errors import WriteError


def data_dir(name: str) -> Path:
    """The folder of shipped data ``name`` (``devices``, ``traces``): the wheel's copy, else the checkout's."""
    package = Path(__file__).parent
    installed = package / "_data" / name
    return installed if installed.is_dir() else package.parent / name


def cache_dir() -> Path:
    """``$SIMIO_CACHE``, else ``$XDG_CACHE_HOME/simio``, else ``~/.cache/simio`` (not created here)."""
    if explicit := os.environ.get("SIMIO_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "simio"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file beside it and a rename, keeping an existing file's mode.

    A link is followed; what is no regular file (a pipe, ``/dev/stdout``) is written to as it is. Raises ``WriteError``.
    """
    target, data = path.resolve(), content.encode() if isinstance(content, str) else content
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target, data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteError(f"{path}: cannot be written: {reason}", "free some space or choose another place") from error


def _replace(target: Path, data: bytes) -> None:
    import tempfile  # only needed to write

    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
