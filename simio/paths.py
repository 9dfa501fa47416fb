"""Where simio's data files lie: inside the installed wheel, or in the checkout; and where it may cache."""

from __future__ import annotations

import os
from pathlib import Path


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
