"""torch, imported when something is computed and not before."""

from __future__ import annotations

from typing import Any

from simio.errors import MissingPackageError

#: A ``torch.Tensor``; the package is optional, so its types are not named.
Tensor = Any


def load_torch() -> Any:
    """The module ``torch``; raises ``MissingPackageError`` where it is not installed."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingPackageError("quality is measured with torch, which is not installed", _HINT) from error
    return torch


_HINT = "pip install 'simio[torch]'"
