"""Plug-ins by name through entry points: ``names`` does not import, ``get`` does.

simio's own codecs, formats, quantizers and cache policies are listed in pyproject.toml under the same groups
that third parties use.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from simio.errors import MissingPackageError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # 20 ms, which a prediction without plug-ins need not pay

    return {point.name: point for point in entry_points(group=f"simio.{group}")}


def names(group: str) -> list[str]:
    """The registered names of ``group`` (``codecs``, ``quantizers``, ``formats``, ``cache_policies``), sorted."""
    return sorted(_group(group))


def get(group: str, name: str) -> Any:
    """Import and return the object registered as ``name``.

    Raises ``UnknownNameError`` with the close matches, ``MissingPackageError`` with the install command.
    """
    point = _group(group).get(name)
    if point is None:
        one = f"{group[:-3]}y" if group.endswith("ies") else group.rstrip("s")
        raise UnknownNameError(one.replace("_", " "), name, names(group))
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{name} needs the package '{error.name}', which is not installed", f"pip install {error.name}"
        ) from error
